//! Messages on the wire: decode, encode, and the answer a standard gives to each malformed octet.
//!
//! ```text
//!  octets --Framer--> Frame{kind, body} --+-- Open::decode          Open::encode          --> octets
//!                                         +-- update::decode        update::encode_*
//!                                         +-- Notification::decode  Notification::encode
//!                                         +-- RouteRefresh::decode  RouteRefresh::encode
//!                                         +-- (KEEPALIVE)           keepalive::encode
//! ```
//!
//! A decoder either understands a message or gives an [`Error`], which knows the NOTIFICATION that answers
//! it. An UPDATE has a third way, RFC 7606: the route suffers, the session lives.
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::as_conversions)]

mod as_path;
pub mod attr;
mod attr_one;
mod attr_values;
pub mod attrs;
pub mod capability;
pub mod error;
pub mod framing;
pub mod keepalive;
pub mod nlri;
pub mod notification;
mod octets;
pub mod open;
pub mod route_refresh;
pub mod update;

pub use attr::{Action, AttrError};
pub use attr_one::{NotOneAttr, OneAttr, decode_one};
pub use capability::Capability;
pub use error::Error;
pub use framing::{Frame, Framer, MAX_EXTENDED_MESSAGE, MAX_MESSAGE, MessageType};
pub use notification::{Cease, Notification};
pub use open::Open;
pub use route_refresh::RouteRefresh;
pub use update::{Announced, Context, Update};
