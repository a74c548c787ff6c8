//! What users write: the kinds of `cilium.io` and the core kinds Stentor reads, from YAML to typed
//! objects, with every doubt about them named.
//!
//! ```text
//!   text of a file            one document                     all documents
//!  +--------------+  split   +---------------+  schema, rules  +----------------+
//!  |  read(..)    | -------> | Object + line | --------------> | Read: objects, |
//!  +--------------+          +---------------+                 | problems, bad  |
//!                                                              +----------------+
//! ```
//!
//! Some kinds are defined and not read yet: policies, endpoints, identities, CIDR groups, L2 announcements. They have
//! types and definitions; [`read()`] says that they have no effect.
//!
//! Every document valid for Cilium is valid here. What is not in Cilium is optional:
//!
//! | field | default | meaning |
//! |---|---|---|
//! | ClusterConfig `bgpInstances[].multipath` | one best route | use several equal routes |
//! | ClusterConfig `peers[].peerPrefix`, `dynamicLimit` | none, 100 | accept sessions from a prefix |
//! | PeerConfig `ttlSecurity.hops` | off | RFC 5082 |
//! | PeerConfig `maxPrefixes` | no limit | `limit`, `warningPercent` 75, `action` Teardown, `restartSeconds` |
//! | PeerConfig `transport.passive`, `localAddress`, `interface` | dial, any, any | how the connection is made |
//! | Advertisement `attributes.med`, `asPathPrepend`, `extendedCommunities`, `nextHop` | as is | path attributes |
//! | LoadBalancerIPPool `priority`, `autoAssign`, `reserved` | 0, true, none | who is drawn from, for whom, save what |
//!
//! Sources: the CRDs of Cilium 1.19 (groups, fields, patterns, defaults), `CiliumBGPPeeringPolicy`
//! of 1.18, the Kubernetes API (core/v1, discovery.k8s.io/v1, meta/v1).
//!
//! Deliberately not here: files and folders (the text is given), a Kubernetes client, and what the
//! objects lead to (planners of the agent). No other crate of Stentor is imported.

pub mod bgp;
mod catalog;
mod check;
pub mod cidr_group;
pub mod cilium_endpoint;
pub mod cilium_identity;
pub mod cilium_node;
pub mod community;
pub mod condition;
#[cfg(test)]
mod conformance;
mod definition;
pub mod egress_gateway_policy;
mod endpoint;
mod envelope;
pub mod l2_announcement_policy;
pub mod lb_ip_pool;
pub mod local_redirect_policy;
mod object;
pub mod pod_ip_pool;
pub mod policy;
mod problem;
mod read;
mod rules;
mod schema;
pub mod selector;
mod stowed;
pub mod text;
mod yaml;

pub use check::{CheckOptions, check};
pub use definition::{
    ADDITIONS, ADDITIONS_LABEL, SCHEMA_VERSION, SCHEMA_VERSION_LABEL, definition, definitions,
};
pub use endpoint::{EndpointState, NotReady};
pub use k8s_openapi;
pub use object::{Kind, Object, ObjectRef, Parsed, Version, labels};
pub use problem::{Problem, Reason, Severity};
pub use read::{NotYaml, Read, documents, read, read_bytes, read_json};
pub use selector::LabelSelector;
pub use stowed::{Opened, Stowed};
