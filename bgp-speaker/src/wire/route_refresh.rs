//! ROUTE-REFRESH (RFC 2918) and its subtypes (RFC 7313).

use bytes::Bytes;

use super::error::Error;
use super::framing::{MessageType, message};
use super::octets::Octets;
use crate::types::Family;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteRefresh {
    pub family: Family,
    pub subtype: Subtype,
}

/// The octet RFC 2918 reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subtype {
    /// Send everything again.
    Request,
    /// Beginning of route refresh: what is not sent again before [`Subtype::End`] is gone.
    Begin,
    /// End of route refresh.
    End,
    /// Ignored, with a trace in the log (RFC 7313 5).
    Unknown(u8),
}

/// Which standard judges a malformed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// RFC 2918.
    Plain,
    /// RFC 7313 was agreed.
    Enhanced,
}

impl RouteRefresh {
    /// # Errors
    /// [`Error::RouteRefreshLength`] unless the body has four octets.
    pub fn decode(body: &Bytes, rules: Rules) -> Result<Self, Error> {
        let mut octets = Octets::new(body);
        let (Ok(afi), Ok(reserved), Ok(safi), true) =
            (octets.u16(), octets.u8(), octets.u8(), octets.is_empty())
        else {
            return Err(Error::RouteRefreshLength {
                length: body.len(),
                body: body.clone(),
                rules,
            });
        };
        let subtype = match (rules, reserved) {
            // RFC 2918 3: ignored by the receiver.
            (Rules::Plain, _) | (Rules::Enhanced, 0) => Subtype::Request,
            (Rules::Enhanced, 1) => Subtype::Begin,
            (Rules::Enhanced, 2) => Subtype::End,
            (Rules::Enhanced, other) => Subtype::Unknown(other),
        };
        Ok(Self {
            family: Family { afi, safi },
            subtype,
        })
    }

    /// The message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let subtype = match self.subtype {
            Subtype::Request => 0,
            Subtype::Begin => 1,
            Subtype::End => 2,
            Subtype::Unknown(other) => other,
        };
        let [high, low] = self.family.afi.to_be_bytes();
        message(MessageType::RouteRefresh, &[high, low, subtype, self.family.safi])
    }
}
