//! What the JSON of most Services and EndpointSlices has in it, word for word, as one byte.
//!
//! JSON has no control characters, not even within strings, so each stands for a phrase.

/// The first is `U+0001`. Of those that fit the first is taken, so longer ones come before those they begin with. Each begins
/// with a quotation mark.
const PHRASES: [&str; 31] = [
    r#""apiVersion":"v1","kind":"Service","metadata":{"#,
    r#""creationTimestamp":""#,
    r#"","labels":{"#,
    r#""annotations":{"#,
    r#""},"name":""#,
    r#"","namespace":""#,
    r#"","uid":""#,
    r#""},"spec":{"#,
    r#""allocateLoadBalancerNodePorts":"#,
    r#""clusterIP":""#,
    r#"","clusterIPs":[""#,
    r#""],"externalTrafficPolicy":"Cluster","internalTrafficPolicy":"Cluster","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","ports":[{"name":""#,
    r#""],"internalTrafficPolicy":"Cluster","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","ports":[{"name":""#,
    r#"","nodePort":"#,
    r#"","port":"#,
    r#""protocol":"TCP""#,
    r#""targetPort":"#,
    r#""selector":{"#,
    r#""},"sessionAffinity":"None","type":"LoadBalancer"},"status":{"loadBalancer":{"#,
    r#""},"sessionAffinity":"None","type":""#,
    r#""ingress":[{"ip":""#,
    r#"","ipMode":"VIP"}]}}}"#,
    r#""apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":""#,
    r#"","endpoints":[{"addresses":[""#,
    r#""],"conditions":{"ready":true,"serving":true,"terminating":false},"nodeName":""#,
    r#"","zone":""#,
    r#""},{"addresses":[""#,
    r#""}],"metadata":{"labels":{"#,
    r#""endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io""#,
    r#""kubernetes.io/service-name":""#,
    r#""},"ports":[{"name":""#,
];

/// `json`: as `serde_json` writes it.
pub(super) fn shorten(json: &str) -> String {
    let mut short = String::with_capacity(json.len() / 2);
    let mut rest = json;
    while let Some(at) = rest.find('"') {
        let (before, from) = rest.split_at(at);
        short.push_str(before);
        let fits = ('\u{1}'..).zip(PHRASES);
        let mut fits = fits.filter_map(|(sign, phrase)| Some((sign, from.strip_prefix(phrase)?)));
        rest = match fits.next() {
            Some((sign, after)) => {
                short.push(sign);
                after
            }
            None => {
                short.push('"');
                from.get(1..).unwrap_or_default()
            }
        };
    }
    short.push_str(rest);
    short
}

pub(super) fn expand(short: &str) -> String {
    let mut json = String::with_capacity(short.len() * 4);
    for part in short.split_inclusive(|sign: char| phrase(sign).is_some()) {
        let mut signs = part.chars();
        match signs.next_back().and_then(phrase) {
            Some(phrase) => {
                json.push_str(signs.as_str());
                json.push_str(phrase);
            }
            None => json.push_str(part),
        }
    }
    json
}

fn phrase(sign: char) -> Option<&'static str> {
    let number = u32::from(sign).checked_sub(1)?;
    PHRASES.get(usize::try_from(number).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_phrase_can_be_met() {
        for (number, phrase) in PHRASES.iter().enumerate() {
            assert!(phrase.starts_with('"'), "{phrase}");
            assert_eq!(
                shorten(phrase).chars().count(),
                1,
                "{phrase} is hidden by one before it"
            );
            assert!(
                shorten(phrase).chars().all(|sign| sign as usize == number + 1),
                "{phrase}"
            );
        }
    }

    #[test]
    fn what_most_objects_say_is_a_fraction() {
        let slice = r#"{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4","endpoints":[{"addresses":["10.64.0.1"],"conditions":{"ready":true,"serving":true,"terminating":false},"nodeName":"n1"},{"addresses":["10.64.0.2"],"conditions":{"ready":true,"serving":true,"terminating":false},"nodeName":"n2"}],"metadata":{"labels":{"kubernetes.io/service-name":"web"},"name":"web-1","namespace":"shop"},"ports":[{"name":"http","port":8080,"protocol":"TCP"}]}"#;
        let service = r#"{"apiVersion":"v1","kind":"Service","metadata":{"creationTimestamp":"2026-01-01T00:00:00Z","labels":{"app":"web"},"name":"web","namespace":"shop","uid":"5feb82ce"},"spec":{"allocateLoadBalancerNodePorts":false,"clusterIP":"10.96.0.1","clusterIPs":["10.96.0.1"],"externalTrafficPolicy":"Cluster","internalTrafficPolicy":"Cluster","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","ports":[{"name":"http","port":80,"protocol":"TCP","targetPort":80}],"selector":{"app":"web"},"sessionAffinity":"None","type":"LoadBalancer"},"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1","ipMode":"VIP"}]}}}"#;
        for json in [slice, service] {
            let short = shorten(json);
            assert!(
                short.len() * 3 < json.len(),
                "{} of {}: {short:?}",
                short.len(),
                json.len()
            );
            assert_eq!(expand(&short), json);
        }
    }

    /// Pieces of phrases, whole ones, and what strings may have.
    fn text() -> impl Strategy<Value = String> {
        let phrase = prop::sample::select(PHRASES.to_vec());
        let piece = (phrase, any::<prop::sample::Index>()).prop_map(|(phrase, end)| {
            let end = end.index(phrase.len() + 1);
            phrase[..end].to_owned()
        });
        let other = "[ -~äß\u{2028}]{0,8}";
        prop::collection::vec(prop_oneof![piece, other], 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn what_is_shortened_expands_to_what_it_was(text in text()) {
            let short = shorten(&text);
            prop_assert!(short.len() <= text.len());
            prop_assert_eq!(expand(&short), text);
        }
    }
}
