//! What an unquoted scalar means.
//!
//! The rules are those of the parser behind `kubectl` (sigs.k8s.io/yaml): the booleans of YAML 1.1,
//! numbers with Go's prefixes (`0x`, `0o`, `0b`, a leading zero means octal) and underscores, no
//! base sixty, dates stay text.

use serde_json::Number;

use super::Value;

/// The meaning of a plain scalar.
pub(super) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Value::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    match number(text) {
        Some(number) => Value::Number(number),
        None => Value::String(text.to_owned()),
    }
}

/// The meaning of a scalar under a core tag such as `!!int`.
pub(super) fn tagged(suffix: &str, text: &str) -> Value {
    match suffix {
        "bool" | "int" | "float" | "null" => plain(text),
        _ => Value::String(text.to_owned()),
    }
}

fn number(text: &str) -> Option<Number> {
    let first = text.bytes().next()?;
    if !(first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.')) {
        return None;
    }
    let digits;
    let text = if first != b'.' && text.contains('_') {
        digits = text.replace('_', "");
        digits.as_str()
    } else {
        text
    };
    integer(text).or_else(|| float(text))
}

/// Go's `strconv.ParseInt` with base 0.
fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefixed =
        |lower: &str, upper: &str| digits.strip_prefix(lower).or_else(|| digits.strip_prefix(upper));
    let (radix, digits) = if let Some(rest) = prefixed("0x", "0X") {
        (16, rest)
    } else if let Some(rest) = prefixed("0o", "0O") {
        (8, rest)
    } else if let Some(rest) = prefixed("0b", "0B") {
        (2, rest)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (8, digits)
    } else {
        (10, digits)
    };
    if !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if negative {
        Some(Number::from(0i64.checked_sub_unsigned(magnitude)?))
    } else {
        Some(Number::from(magnitude))
    }
}

/// A float; one without a fraction is an integer, because it is written to JSON that way.
fn float(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let mantissa_ok = match mantissa.split_once('.') {
        Some(("", fraction)) => !fraction.is_empty() && all_digits(fraction),
        Some((whole, fraction)) => all_digits(whole) && all_digits(fraction),
        None => !mantissa.is_empty() && all_digits(mantissa),
    };
    let exponent_ok = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    if !mantissa_ok || !exponent_ok {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        return format!("{value:.0}").parse::<i64>().ok().map(Number::from);
    }
    Number::from_f64(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_kubectl_takes_them_for() {
        for (text, expected) in [
            ("65001", Value::Number(65001.into())),
            ("-3", Value::Number((-3).into())),
            ("+7", Value::Number(7.into())),
            ("010", Value::Number(8.into())),
            ("0o10", Value::Number(8.into())),
            ("0x1F", Value::Number(31.into())),
            ("0b101", Value::Number(5.into())),
            ("65_001", Value::Number(65001.into())),
            ("65001.0", Value::Number(65001.into())),
            ("1e3", Value::Number(1000.into())),
            ("18446744073709551615", Value::Number(u64::MAX.into())),
            ("-9223372036854775808", Value::Number(i64::MIN.into())),
            ("yes", Value::Bool(true)),
            ("off", Value::Bool(false)),
            ("n", Value::Bool(false)),
            ("~", Value::Null),
            ("", Value::Null),
        ] {
            assert_eq!(plain(text), expected, "{text}");
        }
        assert_eq!(plain("1.5"), Value::Number(Number::from_f64(1.5).unwrap()));
    }

    #[test]
    fn what_is_no_number_stays_text() {
        for text in [
            "10.0.0.1",
            "fd00::1",
            "65000:100",
            "1:20",
            "2001-01-01",
            "0x",
            "08",
            "1_",
            "--1",
            "1e",
            ".",
            "-",
            "+",
            "1.2.3",
            "0x-1",
            "١",
            "10.0.0.0/8",
            "nope",
            "yEs",
        ] {
            if text == "08" || text == "1_" {
                continue;
            }
            assert_eq!(plain(text), Value::String(text.to_owned()), "{text}");
        }
        // Not octal, so a float, so an integer: Go does the same.
        assert_eq!(plain("08"), Value::Number(8.into()));
        assert_eq!(plain("1_"), Value::Number(1.into()));
    }
}
