//! Which parts of what was read are zeroes, and need not be sent.

use std::ops::Range;

/// The least run of zeroes that is told apart within a read, in bytes. A shorter one costs more to
/// tell than to send.
const GRAIN: usize = 64 << 10;

/// A part of what was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Its bytes.
    pub(crate) bytes: Range<usize>,
    /// Whether all of them are zero.
    pub(crate) zero: bool,
}

/// The runs of `bytes`, in their order and without gaps; each but the last is of whole grains.
///
/// Where there is data it looks at one byte a grain as a rule.
pub(crate) fn runs(bytes: &[u8]) -> impl Iterator<Item = Run> + '_ {
    let mut start = 0;
    let mut grains = bytes.chunks(GRAIN).peekable();
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

fn is_zero(bytes: &[u8]) -> bool {
    // Every byte equals the one before it, and the first is zero: a comparison of memory, which is
    // as fast as there is.
    bytes.first().is_none_or(|first| *first == 0)
        && bytes.get(1..) == bytes.get(..bytes.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bytes: &[u8]) -> Vec<(Range<usize>, bool)> {
        runs(bytes).map(|run| (run.bytes, run.zero)).collect()
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
