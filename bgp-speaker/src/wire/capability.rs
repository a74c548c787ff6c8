//! Capabilities of an OPEN (RFC 5492).

use bytes::{BufMut, Bytes, BytesMut};

use super::error::OpenFault;
use super::octets::Octets;
use crate::types::Family;

/// One capability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capability {
    /// 1 (RFC 4760 8).
    Multiprotocol(Family),
    /// 2 (RFC 2918).
    RouteRefresh,
    /// 5 (RFC 8950): these families may have a next hop of another one.
    ExtendedNextHop(Vec<ExtendedNextHop>),
    /// 6 (RFC 8654).
    ExtendedMessage,
    /// 64 (RFC 4724, RFC 8538).
    GracefulRestart(GracefulRestart),
    /// 65 (RFC 6793). 0 is possible on the wire; [`Open::decode`](super::Open::decode) refuses it.
    FourOctetAsn(u32),
    /// 70 (RFC 7313).
    EnhancedRouteRefresh,
    /// 73 (draft-walton-bgp-hostname-capability): host and domain name, at most 64 octets each.
    Fqdn { host: Bytes, domain: Bytes },
    /// 75 (draft-abraitis-bgp-version-capability): at most 64 octets.
    SoftwareVersion(Bytes),
    /// Any other, and 73 and 75 where their value is malformed: they only inform.
    Unknown { code: u8, value: Bytes },
}

/// One entry of the Extended Next Hop capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtendedNextHop {
    pub family: Family,
    pub next_hop_afi: u16,
}

/// The Graceful Restart capability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GracefulRestart {
    pub state: RestartState,
    pub notification: NotificationSupport,
    /// Seconds, at most 4095.
    pub restart_time: u16,
    pub families: Vec<(Family, Forwarding)>,
}

/// The R bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartState {
    Fresh,
    /// The sender restarted and awaits End-of-RIB.
    Restarted,
}

/// The N bit (RFC 8538).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotificationSupport {
    /// A NOTIFICATION ends everything.
    No,
    /// Graceful after NOTIFICATION and hold timer expiry, except hard resets.
    Yes,
}

/// The F bit of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarding {
    Lost,
    Preserved,
}

const MULTIPROTOCOL: u8 = 1;
const ROUTE_REFRESH: u8 = 2;
const EXTENDED_NEXT_HOP: u8 = 5;
const EXTENDED_MESSAGE: u8 = 6;
const GRACEFUL_RESTART: u8 = 64;
const FOUR_OCTET_ASN: u8 = 65;
const ENHANCED_ROUTE_REFRESH: u8 = 70;
const FQDN: u8 = 73;
const SOFTWARE_VERSION: u8 = 75;

/// The drafts' limit of a name. Two of them fit into one capability.
const MAX_NAME: usize = 64;

const R_BIT: u16 = 0x8000;
const N_BIT: u16 = 0x4000;
const RESTART_TIME: u16 = 0x0fff;
const F_BIT: u8 = 0x80;

impl Capability {
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::Multiprotocol(_) => MULTIPROTOCOL,
            Self::RouteRefresh => ROUTE_REFRESH,
            Self::ExtendedNextHop(_) => EXTENDED_NEXT_HOP,
            Self::ExtendedMessage => EXTENDED_MESSAGE,
            Self::GracefulRestart(_) => GRACEFUL_RESTART,
            Self::FourOctetAsn(_) => FOUR_OCTET_ASN,
            Self::EnhancedRouteRefresh => ENHANCED_ROUTE_REFRESH,
            Self::Fqdn { .. } => FQDN,
            Self::SoftwareVersion(_) => SOFTWARE_VERSION,
            Self::Unknown { code, .. } => *code,
        }
    }

    /// Decodes the value of one capability.
    ///
    /// # Errors
    /// [`OpenFault::Capability`] where a length is not the one its standard fixes.
    pub fn decode(code: u8, value: &[u8]) -> Result<Self, OpenFault> {
        let wrong = OpenFault::Capability {
            code,
            length: value.len(),
        };
        let empty = |capability: Self| {
            if value.is_empty() {
                Ok(capability)
            } else {
                Err(wrong)
            }
        };
        let unknown = || Self::Unknown {
            code,
            value: Bytes::copy_from_slice(value),
        };
        match code {
            MULTIPROTOCOL => multiprotocol(value).ok_or(wrong),
            ROUTE_REFRESH => empty(Self::RouteRefresh),
            EXTENDED_NEXT_HOP => extended_next_hop(value).ok_or(wrong),
            EXTENDED_MESSAGE => empty(Self::ExtendedMessage),
            GRACEFUL_RESTART => graceful_restart(value).ok_or(wrong),
            FOUR_OCTET_ASN => match Octets::new(value).array::<4>() {
                Ok(number) if value.len() == 4 => Ok(Self::FourOctetAsn(u32::from_be_bytes(number))),
                Ok(_) | Err(_) => Err(wrong),
            },
            ENHANCED_ROUTE_REFRESH => empty(Self::EnhancedRouteRefresh),
            FQDN => Ok(fqdn(value).unwrap_or_else(unknown)),
            SOFTWARE_VERSION => Ok(software_version(value).unwrap_or_else(unknown)),
            _ => Ok(unknown()),
        }
    }

    /// Code, length and value. A value over 255 octets can't be said and is cut.
    pub fn encode(&self, out: &mut BytesMut) {
        let mut value = BytesMut::new();
        match self {
            Self::Multiprotocol(family) => {
                value.put_u16(family.afi);
                value.put_u8(0);
                value.put_u8(family.safi);
            }
            Self::RouteRefresh | Self::ExtendedMessage | Self::EnhancedRouteRefresh => {}
            Self::ExtendedNextHop(entries) => {
                for entry in entries {
                    value.put_u16(entry.family.afi);
                    value.put_u16(u16::from(entry.family.safi));
                    value.put_u16(entry.next_hop_afi);
                }
            }
            Self::GracefulRestart(restart) => restart.encode(&mut value),
            Self::FourOctetAsn(number) => value.put_u32(*number),
            Self::Fqdn { host, domain } => {
                put_name(host, &mut value);
                put_name(domain, &mut value);
            }
            Self::SoftwareVersion(version) => put_name(version, &mut value),
            Self::Unknown { value: octets, .. } => value.put_slice(octets),
        }
        value.truncate(usize::from(u8::MAX));
        out.put_u8(self.code());
        out.put_u8(u8::try_from(value.len()).unwrap_or(u8::MAX));
        out.put_slice(&value);
    }

    /// Code, length and value, as the API shows a capability.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }
}

impl GracefulRestart {
    fn encode(&self, out: &mut BytesMut) {
        let r = match self.state {
            RestartState::Fresh => 0,
            RestartState::Restarted => R_BIT,
        };
        let n = match self.notification {
            NotificationSupport::No => 0,
            NotificationSupport::Yes => N_BIT,
        };
        out.put_u16(r | n | self.restart_time.min(RESTART_TIME));
        for (family, forwarding) in &self.families {
            out.put_u16(family.afi);
            out.put_u8(family.safi);
            out.put_u8(match forwarding {
                Forwarding::Lost => 0,
                Forwarding::Preserved => F_BIT,
            });
        }
    }
}

/// Every capability of a run of them, in order.
pub(crate) fn decode_all(octets: &[u8], into: &mut Vec<Capability>) -> Result<(), OpenFault> {
    let mut octets = Octets::new(octets);
    while !octets.is_empty() {
        let (Ok(code), Ok(length)) = (octets.u8(), octets.u8()) else {
            return Err(OpenFault::CapabilityLength);
        };
        let value = octets.take(length).map_err(|_| OpenFault::CapabilityLength)?;
        into.push(Capability::decode(code, value.rest())?);
    }
    Ok(())
}

fn multiprotocol(value: &[u8]) -> Option<Capability> {
    let mut octets = Octets::new(value);
    let afi = octets.u16().ok()?;
    let _reserved = octets.u8().ok()?;
    let safi = octets.u8().ok()?;
    octets
        .is_empty()
        .then_some(Capability::Multiprotocol(Family { afi, safi }))
}

fn extended_next_hop(value: &[u8]) -> Option<Capability> {
    let mut octets = Octets::new(value);
    let mut entries = Vec::with_capacity(octets.len() / 6);
    while !octets.is_empty() {
        let afi = octets.u16().ok()?;
        let safi = octets.u16().ok()?;
        let next_hop_afi = octets.u16().ok()?;
        // The field has two octets, every SAFI one: others name nothing.
        if let Ok(safi) = u8::try_from(safi) {
            entries.push(ExtendedNextHop {
                family: Family { afi, safi },
                next_hop_afi,
            });
        }
    }
    Some(Capability::ExtendedNextHop(entries))
}

fn graceful_restart(value: &[u8]) -> Option<Capability> {
    let mut octets = Octets::new(value);
    let head = octets.u16().ok()?;
    let mut families = Vec::with_capacity(octets.len() / 4);
    while !octets.is_empty() {
        let afi = octets.u16().ok()?;
        let safi = octets.u8().ok()?;
        let forwarding = if octets.u8().ok()? & F_BIT == 0 {
            Forwarding::Lost
        } else {
            Forwarding::Preserved
        };
        families.push((Family { afi, safi }, forwarding));
    }
    Some(Capability::GracefulRestart(GracefulRestart {
        state: if head & R_BIT == 0 {
            RestartState::Fresh
        } else {
            RestartState::Restarted
        },
        notification: if head & N_BIT == 0 {
            NotificationSupport::No
        } else {
            NotificationSupport::Yes
        },
        restart_time: head & RESTART_TIME,
        families,
    }))
}

fn fqdn(value: &[u8]) -> Option<Capability> {
    let mut octets = Octets::new(value);
    let host = name(&mut octets)?;
    let domain = name(&mut octets)?;
    octets.is_empty().then_some(Capability::Fqdn { host, domain })
}

fn software_version(value: &[u8]) -> Option<Capability> {
    let mut octets = Octets::new(value);
    let version = name(&mut octets)?;
    octets.is_empty().then_some(Capability::SoftwareVersion(version))
}

fn name(octets: &mut Octets<'_>) -> Option<Bytes> {
    let length = octets.u8().ok()?;
    let text = octets.take(length).ok()?.rest();
    (text.len() <= MAX_NAME).then(|| Bytes::copy_from_slice(text))
}

fn put_name(name: &[u8], out: &mut BytesMut) {
    let name = name.get(..MAX_NAME).unwrap_or(name);
    out.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
    out.put_slice(name);
}
