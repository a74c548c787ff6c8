//! What the whole-system tests share: the archive format of dialogues and scenarios, its runner, and the agent to be
//! run.

pub mod agent;
pub mod capture;
pub mod cluster;
pub mod raw_peer;
pub mod subject;
pub mod txtar;
