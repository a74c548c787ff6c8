//! What the conditions of an endpoint mean.

use k8s_openapi::api::discovery::v1::Endpoint;

/// How an endpoint is; the best one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndpointState {
    Active,
    /// Shutting down, and still answering.
    Terminating,
    /// Shutting down, and refusing new connections.
    TerminatingNotServing,
    /// Not ready. It keeps its flows, and gets none.
    Maintenance,
}

/// `publishNotReadyAddresses`: what endpoints that are not ready, and not shutting down, count as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReady {
    Maintained,
    Published,
}

impl NotReady {
    /// What a Service asks for.
    pub fn of(publish_not_ready_addresses: Option<bool>) -> Self {
        match publish_not_ready_addresses {
            Some(true) => Self::Published,
            Some(false) | None => Self::Maintained,
        }
    }
}

impl EndpointState {
    /// `ready` overrides everything; what is missing means ready (Kubernetes API, EndpointConditions).
    pub fn of(endpoint: &Endpoint, not_ready: NotReady) -> Self {
        let Some(conditions) = &endpoint.conditions else {
            return Self::Active;
        };
        let ready = conditions.ready.unwrap_or(true);
        let terminating = conditions.terminating.unwrap_or(false);
        let serving = conditions.serving.unwrap_or(ready);
        match (ready, terminating, serving) {
            (true, _, _) => Self::Active,
            (false, true, true) => Self::Terminating,
            (false, true, false) => Self::TerminatingNotServing,
            (false, false, _) if not_ready == NotReady::Published => Self::Active,
            (false, false, _) => Self::Maintenance,
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::discovery::v1::EndpointConditions;

    use super::*;

    #[test]
    fn conditions_decide_and_ready_overrides_the_others() {
        use EndpointState::{Active, Maintenance, Terminating, TerminatingNotServing};
        let (yes, no) = (Some(true), Some(false));
        for (ready, serving, terminating, held, published) in [
            (None, None, None, Active, Active),
            (yes, yes, no, Active, Active),
            (yes, no, yes, Active, Active),
            (no, yes, yes, Terminating, Terminating),
            (no, no, yes, TerminatingNotServing, TerminatingNotServing),
            (no, None, yes, TerminatingNotServing, TerminatingNotServing),
            (no, yes, no, Maintenance, Active),
            (no, no, no, Maintenance, Active),
        ] {
            let endpoint = Endpoint {
                conditions: Some(EndpointConditions {
                    ready,
                    serving,
                    terminating,
                }),
                ..Endpoint::default()
            };
            let case = format!("{ready:?} {serving:?} {terminating:?}");
            assert_eq!(EndpointState::of(&endpoint, NotReady::Maintained), held, "{case}");
            assert_eq!(
                EndpointState::of(&endpoint, NotReady::Published),
                published,
                "{case}"
            );
        }
        assert_eq!(
            EndpointState::of(&Endpoint::default(), NotReady::Maintained),
            Active
        );
    }
}
