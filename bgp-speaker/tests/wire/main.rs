//! The codecs, through their public face: golden messages of other implementations, the rules of RFC 7606 one
//! by one, round trips, and octets of no sense at all.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod build;
mod framing;
mod golden;
mod notification;
mod open;
mod properties;
mod rfc7606;
mod update;
