//! Which parts of bytes are zeroes, and need be neither stored nor sent.

use std::ops::Range;

/// A part of some bytes, as [`runs`] tells them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Which bytes; at least one.
    pub bytes: Range<usize>,
    /// Whether all of them are zero.
    pub zero: bool,
}

/// The runs of `bytes` that are zero and those that are not, in their order and without gaps; each
/// but the last is of whole grains of `grain` bytes.
///
/// Where there is data it looks at one byte a grain as a rule.
///
/// # Panics
///
/// If `grain` is 0.
pub fn runs(bytes: &[u8], grain: usize) -> impl Iterator<Item = Run> + '_ {
    let mut start = 0;
    let mut grains = bytes.chunks(grain).peekable();
    std::iter::from_fn(move || {
        let first = grains.next()?;
        let zero = is_zero(first);
        let mut end = start + first.len();
        while let Some(next) = grains.next_if(|next| is_zero(next) == zero) {
            end += next.len();
        }
        let run = Run { bytes: start..end, zero };
        start = end;
        Some(run)
    })
}

/// Whether all of `bytes` are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    let [first, rest @ ..] = bytes else { return true };
    // Every byte equals the one before it, and the first is zero: a comparison of memory, which is
    // as fast as there is.
    *first == 0 && *rest == bytes[..rest.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRAIN: usize = 64 << 10;

    fn told(bytes: &[u8]) -> Vec<(Range<usize>, bool)> {
        runs(bytes, GRAIN).map(|run| (run.bytes, run.zero)).collect()
    }

    #[test]
    fn zero_is_seen_at_any_length_and_place() {
        for length in [0, 1, 63, 64, 65, 200] {
            let mut bytes = vec![0; length];
            assert!(is_zero(&bytes));
            for index in 0..length {
                bytes[index] = 1;
                assert!(!is_zero(&bytes), "{index} of {length}");
                bytes[index] = 0;
            }
        }
    }

    #[test]
    fn only_all_zero_bytes_are_zero() {
        assert!(is_zero(&[0]) && is_zero(&[0; 4096]));
        for place in [0, 1, 2047, 4095] {
            let mut bytes = [0; 4096];
            bytes[place] = 1;
            assert!(!is_zero(&bytes), "{place}");
        }
        assert!(!is_zero(&[7; 100]));
    }

    #[test]
    fn runs_cover_all_and_alternate() {
        let mut bytes = vec![0; 5 * GRAIN + 3];
        assert_eq!(told(&bytes), [(0..bytes.len(), true)]);
        bytes[GRAIN] = 1;
        bytes[3 * GRAIN - 1] = 1;
        bytes[5 * GRAIN + 2] = 1;
        let (a, b, c) = (GRAIN, 3 * GRAIN, 5 * GRAIN);
        assert_eq!(told(&bytes), [(0..a, true), (a..b, false), (b..c, true), (c..c + 3, false)]);
        assert_eq!(told(&[0; 10]), [(0..10, true)]);
        assert_eq!(told(&[]), []);
    }
}
