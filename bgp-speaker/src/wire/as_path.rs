//! AS_PATH and AS4_PATH (RFC 4271 5.1.2, RFC 6793).

use bytes::{BufMut, BytesMut};

use super::attr::AttrFault;
use super::attrs::{Aggregator, AsPath, AsSegment};
use super::octets::Octets;
use super::update::{Context, FirstAs};
use crate::types::{AS_TRANS, Asn, AsnWidth, SessionKind};

const SET: u8 = 1;
const SEQUENCE: u8 = 2;
const CONFED_SEQUENCE: u8 = 3;
const CONFED_SET: u8 = 4;

/// RFC 7606 7.2: an unknown type, a length that over- or underruns, and an empty segment are malformed. So are
/// AS 0 (RFC 7607 2) and segments of a confederation, which no session here belongs to (RFC 5065 5).
pub(super) fn decode(value: &[u8], width: AsnWidth) -> Result<AsPath, AttrFault> {
    let segments = segments(value, width)?;
    if segments.iter().any(is_confederation) {
        return Err(AttrFault::Confederation);
    }
    Ok(AsPath(segments))
}

/// AS4_PATH: segments of a confederation are left out, not malformed (RFC 6793 6).
pub(super) fn decode_as4(value: &[u8]) -> Result<AsPath, AttrFault> {
    let mut segments = segments(value, AsnWidth::Four)?;
    segments.retain(|segment| !is_confederation(segment));
    Ok(AsPath(segments))
}

/// Writes the value. Segments of more than 255 are cut in two, which changes no meaning of a sequence.
pub(super) fn encode(path: &AsPath, width: AsnWidth, out: &mut BytesMut) {
    for segment in &path.0 {
        let (kind, numbers) = match segment {
            AsSegment::Set(numbers) => (SET, numbers),
            AsSegment::Sequence(numbers) => (SEQUENCE, numbers),
            AsSegment::ConfedSequence(numbers) => (CONFED_SEQUENCE, numbers),
            AsSegment::ConfedSet(numbers) => (CONFED_SET, numbers),
        };
        for part in numbers.chunks(usize::from(u8::MAX)) {
            out.put_u8(kind);
            out.put_u8(u8::try_from(part.len()).unwrap_or(u8::MAX));
            for asn in part {
                match width {
                    AsnWidth::Two => out.put_u16(u16::try_from(asn.get()).unwrap_or(AS_TRANS)),
                    AsnWidth::Four => out.put_u32(asn.get()),
                }
            }
        }
    }
}

/// Whether a speaker of 2-octet numbers loses something of this path (RFC 6793 4.2.2).
pub(super) fn needs_as4(path: &AsPath) -> bool {
    path.0
        .iter()
        .filter(|segment| !is_confederation(segment))
        .flat_map(numbers)
        .any(|asn| u16::try_from(asn.get()).is_err())
}

/// AS4_PATH never has confederation segments (RFC 6793 4.2.2).
pub(super) fn without_confederations(path: &AsPath) -> AsPath {
    AsPath(
        path.0
            .iter()
            .filter(|segment| !is_confederation(segment))
            .cloned()
            .collect(),
    )
}

/// What an old speaker cut to 2 octets, made whole (RFC 6793 4.2.3).
pub(super) fn merge(
    path: AsPath,
    as4_path: Option<AsPath>,
    aggregator: Option<Aggregator>,
    as4_aggregator: Option<Aggregator>,
) -> (AsPath, Option<Aggregator>) {
    let aggregator = match (aggregator, as4_aggregator) {
        // An old speaker aggregated and passed the AS4 attributes on: both are out of date.
        (Some(known), Some(_)) if known.asn != Asn::TRANS => return (path, Some(known)),
        (Some(_), Some(known)) => Some(known),
        (Some(only), None) => Some(only),
        (None, _) => None,
    };
    let Some(as4_path) = as4_path else {
        return (path, aggregator);
    };
    // A shorter AS_PATH than AS4_PATH: someone in between tampered, AS4_PATH is ignored.
    match length(&path).checked_sub(length(&as4_path)) {
        Some(leading) => (join(&path, leading, as4_path), aggregator),
        None => (path, aggregator),
    }
}

/// RFC 4271 6.3: an external peer puts its own AS first.
pub(super) fn check_first(path: &AsPath, context: &Context) -> Result<(), AttrFault> {
    match (context.session, context.first_as) {
        (SessionKind::Internal, _) | (SessionKind::External, FirstAs::Any) => Ok(()),
        (SessionKind::External, FirstAs::Peer) => match path.0.first() {
            Some(AsSegment::Sequence(numbers)) if numbers.first() == Some(&context.peer_asn) => Ok(()),
            Some(
                AsSegment::Sequence(_)
                | AsSegment::Set(_)
                | AsSegment::ConfedSequence(_)
                | AsSegment::ConfedSet(_),
            )
            | None => Err(AttrFault::FirstAs),
        },
    }
}

fn segments(value: &[u8], width: AsnWidth) -> Result<Vec<AsSegment>, AttrFault> {
    let mut octets = Octets::new(value);
    let mut segments = Vec::new();
    while !octets.is_empty() {
        let (Ok(kind), Ok(count)) = (octets.u8(), octets.u8()) else {
            return Err(AttrFault::Segment);
        };
        if count == 0 {
            return Err(AttrFault::Segment);
        }
        let size = match width {
            AsnWidth::Two => 2,
            AsnWidth::Four => 4_usize,
        };
        let mut numbers = octets
            .take(usize::from(count).saturating_mul(size))
            .map_err(|_| AttrFault::Segment)?;
        let mut list = Vec::with_capacity(usize::from(count));
        while !numbers.is_empty() {
            let number = match width {
                AsnWidth::Two => numbers.u16().map(u32::from),
                AsnWidth::Four => numbers.u32(),
            }
            .map_err(|_| AttrFault::Segment)?;
            list.push(Asn::new(number).map_err(|_| AttrFault::AsZero)?);
        }
        segments.push(match kind {
            SET => AsSegment::Set(list),
            SEQUENCE => AsSegment::Sequence(list),
            CONFED_SEQUENCE => AsSegment::ConfedSequence(list),
            CONFED_SET => AsSegment::ConfedSet(list),
            _ => return Err(AttrFault::Segment),
        });
    }
    Ok(segments)
}

/// The first `leading` places of `path`, then `rest`.
fn join(path: &AsPath, mut leading: usize, rest: AsPath) -> AsPath {
    let mut joined: Vec<AsSegment> = Vec::new();
    for segment in &path.0 {
        if leading == 0 {
            break;
        }
        match segment {
            AsSegment::Sequence(numbers) => {
                let part = numbers.get(..leading).unwrap_or(numbers);
                leading = leading.saturating_sub(part.len());
                joined.push(AsSegment::Sequence(part.to_vec()));
            }
            AsSegment::Set(_) => {
                leading = leading.saturating_sub(1);
                joined.push(segment.clone());
            }
            AsSegment::ConfedSequence(_) | AsSegment::ConfedSet(_) => joined.push(segment.clone()),
        }
    }
    let mut rest = rest.0.into_iter();
    match (joined.last_mut(), rest.next()) {
        // One sequence where the place of the cut was inside one.
        (Some(AsSegment::Sequence(front)), Some(AsSegment::Sequence(back)))
            if front.len().saturating_add(back.len()) <= usize::from(u8::MAX) =>
        {
            front.extend(back);
        }
        (_, Some(segment)) => joined.push(segment),
        (_, None) => {}
    }
    joined.extend(rest);
    AsPath(joined)
}

/// Places in the path: a set is one, a confederation none (RFC 4271 9.1.2.2a, RFC 5065 5.3).
fn length(path: &AsPath) -> usize {
    path.0
        .iter()
        .map(|segment| match segment {
            AsSegment::Sequence(numbers) => numbers.len(),
            AsSegment::Set(_) => 1,
            AsSegment::ConfedSequence(_) | AsSegment::ConfedSet(_) => 0,
        })
        .sum()
}

const fn is_confederation(segment: &AsSegment) -> bool {
    match segment {
        AsSegment::ConfedSequence(_) | AsSegment::ConfedSet(_) => true,
        AsSegment::Sequence(_) | AsSegment::Set(_) => false,
    }
}

fn numbers(segment: &AsSegment) -> &[Asn] {
    match segment {
        AsSegment::Sequence(numbers)
        | AsSegment::Set(numbers)
        | AsSegment::ConfedSequence(numbers)
        | AsSegment::ConfedSet(numbers) => numbers,
    }
}
