//! The formats the API server checks; it ignores all others.

use crate::text;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Base64.
    Byte,
    Cidr,
    Ipv4,
    DateTime,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
}

impl Format {
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "byte" => Self::Byte,
            "cidr" => Self::Cidr,
            "ipv4" => Self::Ipv4,
            "date-time" => Self::DateTime,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "uint8" => Self::Uint8,
            "uint16" => Self::Uint16,
            "uint32" => Self::Uint32,
            _ => return None,
        })
    }

    /// What a text of this format looks like, if this text does not.
    pub(super) fn refuses_text(self, text: &str) -> Option<&'static str> {
        match self {
            Self::Byte => (!is_base64(text)).then_some("base64"),
            Self::Cidr => text::parse_prefix(text)
                .is_none()
                .then_some("a CIDR such as 10.0.0.0/24 or fd00::/64"),
            Self::Ipv4 => text::parse_ipv4(text)
                .is_none()
                .then_some("an IPv4 address such as 10.0.0.1"),
            Self::DateTime => (!is_date_time(text)).then_some("a time such as 2026-01-31T12:00:00Z"),
            Self::Int32 | Self::Int64 | Self::Uint8 | Self::Uint16 | Self::Uint32 => None,
        }
    }

    /// The least and greatest number of this format.
    pub(super) fn range(self) -> Option<(i128, i128)> {
        match self {
            Self::Int32 => Some((i128::from(i32::MIN), i128::from(i32::MAX))),
            Self::Int64 => Some((i128::from(i64::MIN), i128::from(i64::MAX))),
            Self::Uint8 => Some((0, i128::from(u8::MAX))),
            Self::Uint16 => Some((0, i128::from(u16::MAX))),
            Self::Uint32 => Some((0, i128::from(u32::MAX))),
            Self::Byte | Self::Cidr | Self::Ipv4 | Self::DateTime => None,
        }
    }
}

/// RFC 4648 4. Line breaks are let through, as Go's decoder does.
fn is_base64(text: &str) -> bool {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !matches!(byte, b'\r' | b'\n'))
        .collect();
    let padding = digits.iter().rev().take_while(|byte| **byte == b'=').count();
    let data = digits
        .get(..digits.len().saturating_sub(padding))
        .unwrap_or_default();
    let alphabet = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    digits.len().is_multiple_of(4) && padding <= 2 && data.iter().all(alphabet)
}

/// RFC 3339 5.6, checked for shape and for the range of each number.
fn is_date_time(text: &str) -> bool {
    fn number(text: &str, from: usize, to: usize, max: u8) -> bool {
        let part = text
            .get(from..to)
            .filter(|part| part.bytes().all(|b| b.is_ascii_digit()));
        part.and_then(|part| part.parse::<u8>().ok())
            .is_some_and(|number| number <= max)
    }
    let byte = |at: usize| text.as_bytes().get(at).copied();
    let year = text
        .get(..4)
        .is_some_and(|year| year.bytes().all(|b| b.is_ascii_digit()));
    let date = year && byte(4) == Some(b'-') && number(text, 5, 7, 12) && byte(7) == Some(b'-');
    let date = date && number(text, 8, 10, 31) && matches!(byte(10), Some(b'T' | b't' | b' '));
    let time = number(text, 11, 13, 23) && byte(13) == Some(b':') && number(text, 14, 16, 59);
    let time = time && byte(16) == Some(b':') && number(text, 17, 19, 60);
    if !(date && time) {
        return false;
    }
    let rest = text.get(19..).unwrap_or_default();
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => rest,
    };
    let offset = zone.strip_prefix(['+', '-']).is_some_and(|offset| {
        offset.len() == 5
            && number(offset, 0, 2, 23)
            && offset.as_bytes().get(2) == Some(&b':')
            && number(offset, 3, 5, 59)
    });
    matches!(zone, "Z" | "z") || offset
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_rfc_3339() {
        for good in [
            "2026-01-31T12:00:00Z",
            "2026-01-31T12:00:00.123456Z",
            "2026-01-31T12:00:00+01:30",
        ] {
            assert!(is_date_time(good), "{good}");
        }
        for bad in [
            "",
            "2026-01-31",
            "2026-13-31T12:00:00Z",
            "2026-01-31T12:00:00",
            "2026-01-31T12:00:00+1:30",
            "äää",
        ] {
            assert!(!is_date_time(bad), "{bad}");
        }
    }
}
