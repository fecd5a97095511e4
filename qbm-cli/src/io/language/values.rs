//! The values of arguments, and what is said about a wrong one.

use super::{MAX_REQUEST, Refusal};
use crate::size::{self, SizeError};

type Parsed<T> = Result<T, Refusal>;

/// Refuses, with what is wrong with an argument.
pub(super) fn argument<T>(text: impl Into<String>) -> Parsed<T> {
    Err(Refusal::Argument(text.into()))
}

/// A number of bytes.
pub(super) fn bytes(text: &str) -> Parsed<u64> {
    size::number(text).or_else(|error| {
        let what = match error {
            SizeError::Nonsense => "non-numeric argument, or extraneous/unrecognized suffix",
            SizeError::TooLarge => "argument too large",
        };
        argument(format!("Parsing error: {what} -- {text}"))
    })
}

/// Whether a request of `length` bytes, written as `text`, is one that can be carried.
pub(super) fn limit(length: u64, text: &str, unless: &str) -> Parsed<()> {
    if length > MAX_REQUEST {
        return argument(format!("length cannot exceed {MAX_REQUEST}{unless}, given {text}"));
    }
    Ok(())
}

/// The bytes of a request that is given in parts.
pub(super) fn sum(parts: &[&str]) -> Parsed<u64> {
    let mut total = 0;
    for text in parts {
        let part = bytes(text)?;
        if part > MAX_REQUEST {
            return argument(format!("Argument '{text}' exceeds maximum size {MAX_REQUEST}"));
        }
        total += part;
        if total > MAX_REQUEST {
            return argument(format!(
                "The total number of bytes exceed the maximum size {MAX_REQUEST}"
            ));
        }
    }
    Ok(total)
}

/// A byte to write or to compare with.
pub(super) fn pattern(text: &str) -> Parsed<u8> {
    let byte = integer(text).and_then(|value| u8::try_from(value).ok());
    byte.map_or_else(|| argument(format!("{text} is not a valid pattern byte")), Ok)
}

/// A time to wait.
pub(super) fn milliseconds(text: &str) -> Parsed<u64> {
    let time = integer(text).and_then(|value| u64::try_from(value).ok());
    time.map_or_else(|| argument(format!("{text} is not a valid number")), Ok)
}

/// The number of a signal, or 0 for none.
pub(super) fn signal(text: &str) -> Parsed<i32> {
    const LAST: i32 = 64;
    match i32::try_from(bytes(text)?) {
        Ok(signal) if signal <= LAST => Ok(signal),
        _ => argument(format!("signal argument '{text}' is too large to be a valid signal")),
    }
}

/// A whole number as C reads it: decimal, octal after `0`, hexadecimal after `0x`.
fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let (digits, base) = match hexadecimal {
        Some(digits) => (digits, 16),
        None if digits.starts_with('0') => (digits, 8),
        None => (digits, 10),
    };
    let plain = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(base));
    plain.then(|| i64::from_str_radix(&format!("{sign}{digits}"), base).ok())?
}
