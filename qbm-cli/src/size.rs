//! Sizes on the command line, by the rules that qemu-img and qemu-io share.

use std::fmt;

use qbm_core::{Granularity, units::MAX_SIZE};

/// Digits of a fraction that can matter: the largest unit is 2^60, which is less than 10^19.
const FRACTION_DIGITS: usize = 19;

/// Why a text is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeError {
    /// It is not a number with a suffix that we know.
    Nonsense,
    /// It is negative, or more than a disk can have.
    TooLarge,
}

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nonsense => "not a size such as 4096, 64k or 1.5G",
            Self::TooLarge => "negative, or more than a disk can have, which is 8 EiB",
        })
    }
}

impl std::error::Error for SizeError {}

/// Reads the size of a disk, as [`number`] does.
///
/// # Errors
///
/// What is wrong with `text`.
pub fn parse(text: &str) -> Result<u64, SizeError> {
    number(text).and_then(|size| if size > MAX_SIZE { Err(SizeError::TooLarge) } else { Ok(size) })
}

/// Reads what one bit of a bitmap stands for.
///
/// # Errors
///
/// What is wrong with `text`.
pub fn granularity(text: &str) -> Result<Granularity, String> {
    Granularity::from_bytes(parse(text).map_err(|error| error.to_string())?)
        .ok_or_else(|| format!("'{text}' is not a power of two from 512 to 2G"))
}

/// Reads a number of bytes: whole in hexadecimal (`0x1000`), or decimal with an optional fraction
/// and a suffix `b`, `k`, `M`, `G`, `T`, `P` or `E` in either case, which stand for powers of 1024.
/// A fraction is rounded to the nearest byte, and must be zero where the unit is the byte.
///
/// # Errors
///
/// Why it is none: [`SizeError::TooLarge`] from 2^63 on, as far as a file offset reaches.
pub fn number(text: &str) -> Result<u64, SizeError> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let magnitude = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => hexadecimal(digits),
        None => decimal(digits),
    }?;
    if negative || magnitude > i64::MAX.unsigned_abs() {
        return Err(SizeError::TooLarge);
    }
    Ok(magnitude)
}

fn hexadecimal(digits: &str) -> Result<u64, SizeError> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(SizeError::Nonsense);
    }
    u64::from_str_radix(digits, 16).map_err(|_| SizeError::TooLarge)
}

fn decimal(text: &str) -> Result<u64, SizeError> {
    let (number, shift) = match text.chars().last().and_then(shift_of) {
        Some(shift) => (&text[..text.len() - 1], shift),
        None => (text, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let some = !whole.is_empty() || !fraction.is_empty();
    let split_byte = shift == 0 && fraction.bytes().any(|digit| digit != b'0');
    if !some || !all_digits(whole) || !all_digits(fraction) || split_byte {
        return Err(SizeError::Nonsense);
    }
    let whole = if whole.is_empty() { "0" } else { whole };
    let whole: u64 = whole.parse().map_err(|_| SizeError::TooLarge)?;
    let whole = whole.checked_mul(1 << shift).ok_or(SizeError::TooLarge)?;
    whole.checked_add(part_of_unit(fraction, shift)).ok_or(SizeError::TooLarge)
}

/// Bytes of the fraction `0.digits` of a unit of 2^`shift` bytes, to the nearest.
fn part_of_unit(digits: &str, shift: u32) -> u64 {
    let digits = &digits[..digits.len().min(FRACTION_DIGITS)];
    let scale = 10_u128.pow(u32::try_from(digits.len()).expect("at most 19"));
    let numerator = digits.parse::<u128>().unwrap_or(0);
    let part = ((numerator << shift) + scale / 2) / scale;
    u64::try_from(part).expect("at most the unit")
}

fn shift_of(suffix: char) -> Option<u32> {
    let place = "bkmgtpe".find(suffix.to_ascii_lowercase())?;
    Some(10 * u32::try_from(place).expect("at most 6"))
}

#[cfg(test)]
mod tests {
    use super::{SizeError, number, parse};

    #[test]
    fn suffixes_are_powers_of_1024() {
        let cases = [
            ("0", 0),
            ("512", 512),
            ("7b", 7),
            ("64k", 64 << 10),
            ("64K", 64 << 10),
            ("1.5G", 3 << 29),
            (".5k", 512),
            ("4.k", 4096),
            ("1.0", 1),
            ("1.9999k", 2048),
            ("010", 10),
            ("+5", 5),
            ("0x1000", 4096),
            ("0x10b", 267),
            ("2T", 2 << 40),
            ("7E", 7 << 60),
        ];
        for (text, size) in cases {
            assert_eq!(parse(text), Ok(size), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "k", ".", ".k", "1,5G", "1 G", "1.5", "1.5b", "1e3", "0xg", "0x1k", "é"] {
            assert_eq!(number(text), Err(SizeError::Nonsense), "{text}");
        }
        for text in ["-1", "8E", "99999999999999999999", "0x8000000000000000"] {
            assert_eq!(number(text), Err(SizeError::TooLarge), "{text}");
        }
        assert!(parse("9223372036854775807").is_err(), "no disk ends there");
    }
}
