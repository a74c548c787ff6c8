//! Text for people: tables, durations, path attributes and capabilities as words.

pub mod duration;
pub mod tabwriter;
