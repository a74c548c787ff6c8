//! Text for people: tables, durations, path attributes and capabilities as words.

pub mod attrs;
pub mod capabilities;
pub mod duration;
pub mod jsonpath;
pub mod tabwriter;
pub mod yaml;
