//! The units of the field as types: byte ranges and granularities.
//!
//! Arithmetic that could wrap or round the wrong way has a named method here and nowhere else.

use std::fmt;
use std::ops::Range;

/// The largest disk, in bytes: 2^63 - 512, as far as a signed file offset reaches.
pub const MAX_SIZE: u64 = (1 << 63) - 512;

/// A range of bytes of a disk or file: `start..end`, with `start <= end <= MAX_SIZE`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ByteRange {
    start: u64,
    end: u64,
}

impl ByteRange {
    /// The `length` bytes from `start`, or `None` where that passes [`MAX_SIZE`].
    #[inline]
    pub fn checked_new(start: u64, length: u64) -> Option<Self> {
        let end = start.checked_add(length).filter(|end| *end <= MAX_SIZE)?;
        Some(Self { start, end })
    }

    /// The `length` bytes from `start`.
    ///
    /// # Panics
    ///
    /// If the range passes [`MAX_SIZE`]. Ranges from outside go through [`Self::checked_new`].
    pub fn new(start: u64, length: u64) -> Self {
        Self::checked_new(start, length).expect("a range within the largest disk")
    }

    /// The first byte.
    pub fn start(self) -> u64 {
        self.start
    }

    /// The byte after the last.
    pub fn end(self) -> u64 {
        self.end
    }

    /// Bytes in the range.
    pub fn length(self) -> u64 {
        self.end - self.start
    }

    /// Whether the range has no bytes.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// What is left of the range after its first `length` bytes.
    ///
    /// # Panics
    ///
    /// If it has fewer.
    #[must_use]
    pub fn skip(self, length: u64) -> Self {
        Self::new(self.start + length, self.length() - length)
    }

    /// The part of the range before `end`.
    pub fn clip(self, end: u64) -> Self {
        let end = self.end.min(end);
        Self { start: self.start.min(end), end }
    }
}

impl fmt::Debug for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:#x}, {:#x})", self.start, self.end)
    }
}

/// Bytes of the disk that share one bit: a power of two from 512 bytes to 2 GiB.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Granularity {
    /// Invariant: 9 to 31.
    shift: u8,
}

impl Granularity {
    /// 64 KiB, which is also what QEMU uses unless it is told otherwise.
    pub const DEFAULT: Self = Self { shift: 16 };
    /// 512 bytes.
    pub const MIN: Self = Self { shift: 9 };
    /// 2 GiB.
    pub const MAX: Self = Self { shift: 31 };

    /// The granularity of `bytes`, or `None` unless it is a power of two within the limits.
    pub fn from_bytes(bytes: u64) -> Option<Self> {
        if !bytes.is_power_of_two() {
            return None;
        }
        let shift = u8::try_from(bytes.trailing_zeros()).expect("a shift is below 64");
        (Self::MIN.shift..=Self::MAX.shift).contains(&shift).then_some(Self { shift })
    }

    /// Its size in bytes.
    pub fn bytes(self) -> u64 {
        1 << self.shift
    }

    /// Granules of a disk of `size` bytes. Rounds up: the last granule may be partial.
    pub fn granules_of(self, size: u64) -> u64 {
        size.div_ceil(self.bytes())
    }

    /// The granules that `range` touches. Rounds outwards; an empty range touches none.
    #[inline]
    pub fn granules_touched(self, range: ByteRange) -> Range<u64> {
        let first = range.start >> self.shift;
        if range.is_empty() {
            return first..first;
        }
        first..((range.end - 1) >> self.shift) + 1
    }

    /// The bytes of the granules `granules`, cut at `size`.
    ///
    /// # Panics
    ///
    /// If a granule lies past [`MAX_SIZE`].
    pub fn bytes_of(self, granules: Range<u64>, size: u64) -> ByteRange {
        let start = (granules.start << self.shift).min(size);
        let end = granules.end.checked_mul(self.bytes()).map_or(size, |end| end.min(size));
        ByteRange::new(start, end.saturating_sub(start))
    }
}

impl fmt::Debug for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_power_of_two_within_the_limits_is_a_granularity() {
        for shift in 0..64 {
            let granularity = Granularity::from_bytes(1 << shift);
            assert_eq!(granularity.is_some(), (9..=31).contains(&shift), "2^{shift}");
            assert!(Granularity::from_bytes((1 << shift) + 513).is_none());
        }
        assert!(Granularity::from_bytes(0).is_none());
    }

    #[test]
    fn touched_granules_round_outwards() {
        let g = Granularity::from_bytes(512).expect("the smallest");
        assert_eq!(g.granules_touched(ByteRange::new(511, 2)), 0..2);
        assert_eq!(g.granules_touched(ByteRange::new(512, 512)), 1..2);
        assert_eq!(g.granules_touched(ByteRange::new(512, 0)), 1..1);
        assert_eq!(g.granules_touched(ByteRange::new(0, MAX_SIZE)), 0..(MAX_SIZE / 512));
    }

    #[test]
    fn the_last_granule_is_cut_at_the_end_of_the_disk() {
        let g = Granularity::DEFAULT;
        assert_eq!(g.granules_of(65_537), 2);
        assert_eq!(g.bytes_of(1..2, 65_537), ByteRange::new(65_536, 1));
    }

    #[test]
    fn no_range_passes_the_largest_disk() {
        assert!(ByteRange::checked_new(MAX_SIZE, 0).is_some());
        assert!(ByteRange::checked_new(MAX_SIZE, 1).is_none());
        assert!(ByteRange::checked_new(u64::MAX, u64::MAX).is_none());
    }
}
