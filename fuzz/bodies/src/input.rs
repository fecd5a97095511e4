//! The bytes of the fuzzer as decisions. Once they are used up, every decision is zero.

use std::ops::Range;

/// The bytes not used yet.
pub(crate) struct Input<'b>(pub(crate) &'b [u8]);

impl<'b> Input<'b> {
    /// The next `count` bytes, or as many as there are.
    pub(crate) fn take(&mut self, count: usize) -> &'b [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// The next byte, if there is one.
    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.take(1).first().copied()
    }

    /// A number from 0 to `most`.
    pub(crate) fn at_most(&mut self, most: u64) -> u64 {
        let mut number = [0; 4];
        let taken = self.take(number.len());
        number[..taken.len()].copy_from_slice(taken);
        u64::from(u32::from_le_bytes(number)) % (most + 1)
    }

    /// A range within `0..length`, maybe an empty one.
    pub(crate) fn range(&mut self, length: u64) -> Range<u64> {
        let ends = [self.at_most(length), self.at_most(length)];
        ends[0].min(ends[1])..ends[0].max(ends[1])
    }
}

#[cfg(test)]
mod tests {
    use super::Input;

    #[test]
    fn decisions_are_within_their_bounds_and_zero_after_the_last_byte() {
        let mut input = Input(&[200, 1, 0, 0, 7, 9, 0, 0, 0]);
        assert_eq!(input.at_most(1000), 456);
        assert_eq!(input.byte(), Some(7));
        assert_eq!(input.range(5), 0..3);
        assert_eq!((input.byte(), input.at_most(9), input.range(9)), (None, 0, 0..0));
    }
}
