//! Sizes on the command line, by the rules of qemu-img.

use std::fmt;

/// Why a text is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeError {
    /// It is not a number with a suffix that we know.
    Nonsense,
    /// It is more than a disk can have.
    TooLarge,
}

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nonsense => "not a size such as 4096, 64k or 1.5G",
            Self::TooLarge => "more than a disk can have, which is 8 EiB",
        })
    }
}

impl std::error::Error for SizeError {}

/// Reads a size: a number, with a fraction or in hexadecimal, and a suffix `b`, `k`, `M`, `G`,
/// `T`, `P` or `E` in either case, which stand for powers of 1024. Without one it is bytes.
///
/// # Errors
///
/// What is wrong with `text`.
pub fn parse(text: &str) -> Result<u64, SizeError> {
    let wrong = || SizeError::Nonsense;
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u64::from_str_radix(digits, 16).map_err(|_| wrong());
    }
    let (number, shift) = match text.chars().last().and_then(shift_of) {
        Some(shift) => (&text[..text.len() - 1], shift),
        None => (text, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 15 {
        return Err(wrong());
    }
    let too_large = || SizeError::TooLarge;
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let whole = whole.checked_mul(1 << shift).ok_or_else(too_large)?;
    let parts = fraction.parse::<u128>().unwrap_or(0) << shift;
    let scale = 10_u128.pow(u32::try_from(fraction.len()).expect("at most 15"));
    if !parts.is_multiple_of(scale) && shift == 0 {
        return Err(wrong());
    }
    let parts = u64::try_from(parts / scale).map_err(|_| too_large())?;
    whole.checked_add(parts).filter(|size| *size <= qbm_core::units::MAX_SIZE).ok_or_else(too_large)
}

fn shift_of(suffix: char) -> Option<u32> {
    let place = "bkmgtpe".find(suffix.to_ascii_lowercase())?;
    Some(10 * u32::try_from(place).expect("at most 6"))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn suffixes_are_powers_of_1024() {
        let cases = [
            ("0", 0),
            ("512", 512),
            ("7b", 7),
            ("64k", 64 << 10),
            ("64K", 64 << 10),
            ("1.5G", 3 << 29),
            ("0x1000", 4096),
            ("2T", 2 << 40),
            ("7E", 7 << 60),
        ];
        for (text, size) in cases {
            assert_eq!(parse(text), Ok(size), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["", "k", "-1", "1,5G", "1 G", "1.5", "8E", "99999999999999999999", "1e3", "0xg"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
