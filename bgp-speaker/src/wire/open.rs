//! OPEN (RFC 4271 4.2), with the extended optional parameters length of RFC 9072.

use bytes::{BufMut, Bytes, BytesMut};

use super::capability::{Capability, ExtendedNextHop, GracefulRestart, decode_all};
use super::error::{Error, OpenFault};
use super::framing::{MessageType, begin, end, put_u16_at};
use super::octets::{Octets, Short};
use crate::types::{AS_TRANS, Asn, Family, HoldTime, RouterId};

/// An OPEN whose every field is acceptable by itself. Whether it fits the configuration (AS, identifier
/// different from ours, families) is the session's to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// From the 4-octet AS capability where there is one, else from the field.
    pub asn: Asn,
    pub hold_time: HoldTime,
    pub router_id: RouterId,
    /// In the order they came.
    pub capabilities: Vec<Capability>,
}

const VERSION: u8 = 4;
const CAPABILITIES: u8 = 2;
/// RFC 9072 2: marks the extended encoding, both as length and as first parameter type.
const EXTENDED: u8 = 255;

impl Open {
    /// # Errors
    /// RFC 4271 6.2.
    pub fn decode(body: &Bytes) -> Result<Self, Error> {
        let mut octets = Octets::new(body);
        let (version, field, hold_time, identifier) =
            fixed(&mut octets).map_err(|Short| Error::Open(OpenFault::Short))?;
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let capabilities = parameters(octets)?;
        // RFC 7607 2: neither the field nor the capability may say 0.
        if field == 0 {
            return Err(Error::AsZero);
        }
        let number = capabilities
            .iter()
            .find_map(|capability| {
                if let Capability::FourOctetAsn(number) = capability {
                    Some(*number)
                } else {
                    None
                }
            })
            .unwrap_or(u32::from(field));
        Ok(Self {
            asn: Asn::new(number).map_err(|_| Error::AsZero)?,
            hold_time: HoldTime::new(hold_time).map_err(|_| Error::HoldTime(hold_time))?,
            router_id: RouterId::new(identifier.into()).map_err(|_| Error::IdentifierZero)?,
            capabilities,
        })
    }

    /// The message. All capabilities share one optional parameter.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut capabilities = BytesMut::new();
        for capability in &self.capabilities {
            capability.encode(&mut capabilities);
        }
        let mut out = BytesMut::with_capacity(capabilities.len().saturating_add(40));
        let start = begin(MessageType::Open, &mut out);
        out.put_u8(VERSION);
        out.put_u16(u16::try_from(self.asn.get()).unwrap_or(AS_TRANS));
        out.put_u16(self.hold_time.seconds());
        out.put_u32(self.router_id.get());
        match u8::try_from(capabilities.len()) {
            Ok(0) => out.put_u8(0),
            // 253 and two octets of parameter header make 255, which RFC 9072 gave another meaning.
            Ok(length) if length < 253 => {
                out.put_u8(length.saturating_add(2));
                out.put_u8(CAPABILITIES);
                out.put_u8(length);
                out.put_slice(&capabilities);
            }
            Ok(_) | Err(_) => {
                out.put_u8(EXTENDED);
                out.put_u8(EXTENDED);
                let outer = out.len();
                out.put_u16(0);
                out.put_u8(CAPABILITIES);
                out.put_u16(u16::try_from(capabilities.len()).unwrap_or(u16::MAX));
                out.put_slice(&capabilities);
                let length = capabilities.len().saturating_add(3);
                put_u16_at(outer, u16::try_from(length).unwrap_or(u16::MAX), &mut out);
            }
        }
        end(start, &mut out);
        out.freeze()
    }

    /// The families offered; IPv4 unicast alone where the multiprotocol capability is missing (RFC 4760 8).
    #[must_use]
    pub fn families(&self) -> Vec<Family> {
        let mut families = Vec::new();
        for capability in &self.capabilities {
            if let Capability::Multiprotocol(family) = capability
                && !families.contains(family)
            {
                families.push(*family);
            }
        }
        if families.is_empty() {
            families.push(Family::IPV4_UNICAST);
        }
        families
    }

    /// The Graceful Restart capability; the last one counts where there are several (RFC 4724 3).
    #[must_use]
    pub fn graceful_restart(&self) -> Option<&GracefulRestart> {
        self.capabilities.iter().rev().find_map(|capability| {
            if let Capability::GracefulRestart(restart) = capability {
                Some(restart)
            } else {
                None
            }
        })
    }

    /// Whether this family may have a next hop of `next_hop_afi` (RFC 8950).
    #[must_use]
    pub fn extended_next_hop(&self, family: Family, next_hop_afi: u16) -> bool {
        let wanted = ExtendedNextHop { family, next_hop_afi };
        self.capabilities.iter().any(|capability| {
            matches!(capability, Capability::ExtendedNextHop(entries) if entries.contains(&wanted))
        })
    }

    /// Whether a capability without a value, or one equal to this, was offered.
    #[must_use]
    pub fn offers(&self, capability: &Capability) -> bool {
        self.capabilities.contains(capability)
    }

    #[must_use]
    pub fn four_octet_asn(&self) -> bool {
        self.capabilities
            .iter()
            .any(|capability| matches!(capability, Capability::FourOctetAsn(_)))
    }
}

fn fixed(octets: &mut Octets<'_>) -> Result<(u8, u16, u16, [u8; 4]), Short> {
    Ok((octets.u8()?, octets.u16()?, octets.u16()?, octets.array()?))
}

fn parameters(mut octets: Octets<'_>) -> Result<Vec<Capability>, Error> {
    let short = |Short| Error::Open(OpenFault::ParametersLength);
    let length = octets.u8().map_err(short)?;
    let mut wide = false;
    let mut whole = usize::from(length);
    let mut ahead = octets;
    // RFC 9072 2: length not 0, and the first parameter's type is 255.
    if length != 0 && ahead.u8() == Ok(EXTENDED) {
        whole = usize::from(ahead.u16().map_err(short)?);
        octets = ahead;
        wide = true;
    }
    // RFC 4271 6.2 gives no other answer to octets behind the parameters.
    if octets.len() != whole {
        return Err(Error::Open(OpenFault::ParametersLength));
    }
    let mut capabilities = Vec::new();
    while !octets.is_empty() {
        let kind = octets.u8().map_err(short)?;
        let length = if wide {
            usize::from(octets.u16().map_err(short)?)
        } else {
            usize::from(octets.u8().map_err(short)?)
        };
        let value = octets.take(length).map_err(short)?;
        if kind != CAPABILITIES {
            return Err(Error::OptionalParameter(kind));
        }
        decode_all(value.rest(), &mut capabilities).map_err(Error::Open)?;
    }
    Ok(capabilities)
}
