//! The keys, and what is near to one.

/// What this version does with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// It decides something.
    Acted,
    /// It asks for something this version lacks, unless it has this value.
    Lacking { harmless: &'static str },
    /// It says how Cilium does what happens here in another way, or not at all.
    Moot,
}

const KEYS: &[(&str, Use)] = &[
    ("agent-liveness-update-interval", Use::Moot),
    ("bgp-router-id-allocation-ip-pool", Use::Acted),
    ("bgp-router-id-allocation-mode", Use::Acted),
    ("bgp-secrets-namespace", Use::Acted),
    ("default-lb-service-ipam", Use::Acted),
    ("devices", Use::Moot),
    ("enable-bgp-control-plane", Use::Acted),
    ("enable-bgp-control-plane-status-report", Use::Moot),
    ("enable-bgp-legacy-origin-attribute", Use::Acted),
    ("enable-ipv4", Use::Acted),
    ("enable-ipv6", Use::Acted),
    ("enable-l2-announcements", Use::Lacking { harmless: "false" }),
    ("enable-l2-pod-announcements", Use::Lacking { harmless: "false" }),
    ("enable-lb-ipam", Use::Acted),
    ("enable-no-service-endpoints-routable", Use::Acted),
    ("enable-node-ipam", Use::Lacking { harmless: "false" }),
    ("ipam", Use::Acted),
    ("k8s-client-burst", Use::Moot),
    ("k8s-client-qps", Use::Moot),
    ("kube-proxy-replacement", Use::Moot),
    ("l2-announcements-lease-duration", Use::Moot),
    ("l2-announcements-renew-deadline", Use::Moot),
    ("l2-announcements-retry-period", Use::Moot),
    ("l2-pod-announcements-interface", Use::Moot),
    ("l2-pod-announcements-interface-pattern", Use::Moot),
];

pub(super) fn known(key: &str) -> bool {
    KEYS.iter().any(|(name, _)| *name == key)
}

/// Whether this asks for something that will not happen.
pub(super) fn without_effect(key: &str, value: &str) -> bool {
    KEYS.iter().any(|(name, used)| match used {
        Use::Lacking { harmless } => *name == key && value.trim() != *harmless,
        Use::Acted | Use::Moot => false,
    })
}

/// The key that was probably meant: at most two slips away.
pub(super) fn nearest(key: &str) -> Option<&'static str> {
    KEYS.iter()
        .map(|(name, _)| (distance(key, name), *name))
        .min()
        .filter(|(distance, _)| *distance <= 2)
        .map(|(_, name)| name)
}

/// Letters to insert, remove or replace (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((to, above), left_above) in b.iter().zip(row.iter().skip(1)).zip(&row) {
            let left = next.last().copied().unwrap_or(i + 1);
            let replaced = left_above + usize::from(from != *to);
            next.push(replaced.min(left + 1).min(above + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_key_and_a_stranger_finds_none() {
        assert_eq!(
            nearest("enable-bgp-controlplane"),
            Some("enable-bgp-control-plane")
        );
        assert_eq!(nearest("enable-ipv5"), Some("enable-ipv4"));
        assert_eq!(nearest("cluster-name"), None);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "ab"), 2);
    }

    #[test]
    fn keys_stand_in_order_and_once() {
        assert!(KEYS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
