//! Whether the Secret that a peer config names is there. What it holds is not looked at.

use crds::condition::ConditionStatus;
use crds::k8s_openapi::jiff::Timestamp;

use super::conditions::Wanted;
use super::node_configs::write_conditions;
use super::write::Write;
use crate::config::operator::StatusReport;
use crate::world::World;

const MISSING: &str = "cilium.io/MissingAuthSecret";

pub(crate) fn peer_secrets(
    world: &World,
    namespace: &str,
    report: StatusReport,
    now: Timestamp,
) -> Vec<Write> {
    let write = |config: crate::world::Stored<'_, crds::bgp::peer_config::CiliumBGPPeerConfig>| {
        let named = config.object.spec.auth_secret_ref.as_deref();
        let missing = named.filter(|name| world.objects.secret(namespace, name).is_none());
        let wanted = Wanted {
            kind: MISSING,
            status: match missing {
                Some(_) => ConditionStatus::True,
                None => ConditionStatus::False,
            },
            reason: "MissingAuthSecret",
            message: missing
                .map(|name| format!("Referenced Auth Secret \"{name}\" is missing"))
                .unwrap_or_default(),
        };
        let wanted = match report {
            StatusReport::Written => vec![wanted],
            StatusReport::TakenOut => Vec::new(),
        };
        let status = config.object.status.as_ref();
        let seen = status
            .map(|status| status.conditions.as_slice())
            .unwrap_or_default();
        write_conditions(config.parsed, seen, &[MISSING], &wanted, now)
    };
    world.objects.peer_configs().filter_map(write).collect()
}
