//! The BGP kinds: who peers with whom, how, and what is announced.

pub mod advertisement;
pub mod cluster_config;
pub mod family;
pub mod node_config;
pub mod node_config_override;
pub mod peer_config;
pub mod peering_policy;
