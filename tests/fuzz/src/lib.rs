//! What the fuzz targets share: kinds of sessions.

use bgp_speaker::types::{Asn, AsnWidth, Family, SessionKind};
use bgp_speaker::wire::update::{Context, FirstAs};

/// Internal and external sessions, of old and new speakers, strict and lenient, with one family and with both.
#[must_use]
pub fn contexts() -> Vec<Context> {
    let both = vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST];
    let external = Context {
        asn_width: AsnWidth::Four,
        session: SessionKind::External,
        peer_asn: Asn::new(65020).unwrap_or(Asn::TRANS),
        first_as: FirstAs::Peer,
        local_address: Some([10, 98, 0, 2].into()),
        families: both.clone(),
        ipv6_next_hop: vec![],
    };
    vec![
        external.clone(),
        Context {
            first_as: FirstAs::Any,
            ipv6_next_hop: both,
            ..external.clone()
        },
        Context {
            asn_width: AsnWidth::Two,
            first_as: FirstAs::Any,
            ..external.clone()
        },
        Context {
            session: SessionKind::Internal,
            ..external.clone()
        },
        Context {
            session: SessionKind::Internal,
            asn_width: AsnWidth::Two,
            ..external.clone()
        },
        Context {
            families: vec![Family::IPV6_UNICAST],
            ..external
        },
    ]
}
