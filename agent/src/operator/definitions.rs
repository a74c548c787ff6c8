//! Which of our custom resource definitions the cluster lacks, or has in an older version.
//!
//! Two labels decide. Cilium's says for which schemas documents were written; where the cluster has a higher one, somebody
//! newer was here, and the definition is left alone. Ours counts what we add to that: optional fields, and kinds.

use std::cmp::Ordering;

use crds::k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use crds::{ADDITIONS_LABEL, SCHEMA_VERSION_LABEL};

/// What to do about one definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Create,
    /// It is older, or has none of the labels.
    Upgrade,
    /// It is ours, in this version.
    Fine,
    /// It is newer than what this program knows.
    Newer,
    /// Of this version, and with fewer or more of our additions than we know: another version of this program made it.
    NewerAdditions,
}

/// Never a downgrade.
#[must_use]
pub fn judge(found: Option<&CustomResourceDefinition>, ours: &CustomResourceDefinition) -> Step {
    let Some(found) = found else {
        return Step::Create;
    };
    let schema = label(found, SCHEMA_VERSION_LABEL).and_then(version);
    match schema.cmp(&label(ours, SCHEMA_VERSION_LABEL).and_then(version)) {
        Ordering::Less => Step::Upgrade,
        Ordering::Greater => Step::Newer,
        Ordering::Equal => {
            let number =
                |definition| label(definition, ADDITIONS_LABEL).and_then(|text| text.parse::<u64>().ok());
            match number(found).cmp(&number(ours)) {
                Ordering::Less => Step::Upgrade,
                Ordering::Equal => Step::Fine,
                Ordering::Greater => Step::NewerAdditions,
            }
        }
    }
}

/// The definition to write in the place of an older one: what others wrote beside the schema stays.
#[must_use]
pub fn upgraded(
    found: &CustomResourceDefinition,
    ours: &CustomResourceDefinition,
) -> CustomResourceDefinition {
    let mut upgraded = found.clone();
    upgraded.spec = ours.spec.clone();
    upgraded.status = None;
    let labels = upgraded.metadata.labels.get_or_insert_default();
    labels.extend(ours.metadata.labels.clone().unwrap_or_default());
    upgraded
}

fn label<'a>(definition: &'a CustomResourceDefinition, name: &str) -> Option<&'a str> {
    definition.metadata.labels.as_ref()?.get(name).map(String::as_str)
}

/// `1.32.3`; what follows a dash or plus is not looked at.
fn version(text: &str) -> Option<[u64; 3]> {
    let core = text.trim_start_matches('v').split(['-', '+']).next()?;
    let mut parts = core.split('.').map(|part| part.parse().ok());
    let version = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> CustomResourceDefinition {
        crds::definition(crds::Kind::CiliumLoadBalancerIPPool).unwrap()
    }

    fn labelled(schema: Option<&str>, additions: Option<&str>) -> CustomResourceDefinition {
        let mut definition = ours();
        let pairs = [(SCHEMA_VERSION_LABEL, schema), (ADDITIONS_LABEL, additions)];
        let labels = pairs
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
        definition.metadata.labels = Some(labels.collect());
        definition
    }

    #[test]
    fn only_what_is_older_is_written_over() {
        let ours = ours();
        let additions = label(&ours, ADDITIONS_LABEL).unwrap();
        let judged = |schema, additions| judge(Some(&labelled(schema, additions)), &ours);
        assert_eq!(judge(None, &ours), Step::Create);
        assert_eq!(judge(Some(&ours), &ours), Step::Fine);
        assert_eq!(judged(None, None), Step::Upgrade);
        assert_eq!(judged(Some("nonsense"), Some(additions)), Step::Upgrade);
        assert_eq!(judged(Some("1.9.99"), None), Step::Upgrade);
        // Cilium's own of the same version: it lacks our fields.
        assert_eq!(judged(Some(crds::SCHEMA_VERSION), None), Step::Upgrade);
        assert_eq!(judged(Some("1.99.0"), None), Step::Newer);
        assert_eq!(judged(Some("v2.0.0-rc1"), Some("1")), Step::Newer);
        assert_eq!(
            judged(Some(crds::SCHEMA_VERSION), Some("99999")),
            Step::NewerAdditions
        );
    }

    #[test]
    fn what_others_wrote_beside_the_schema_stays() {
        let ours = ours();
        let mut found = labelled(Some("1.0.0"), None);
        found.metadata.resource_version = Some("7".to_owned());
        found.metadata.annotations = Some([("of".to_owned(), "somebody".to_owned())].into());
        let upgraded = upgraded(&found, &ours);
        assert_eq!(upgraded.metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(upgraded.metadata.annotations, found.metadata.annotations);
        assert_eq!(judge(Some(&upgraded), &ours), Step::Fine);
    }
}
