//! What the whole-system tests share: the archive format of dialogues and scenarios, and its runner.

pub mod capture;
pub mod raw_peer;
pub mod subject;
pub mod txtar;
