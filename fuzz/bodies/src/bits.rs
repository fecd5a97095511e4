//! Any sequence of operations on a bitmap does what a list of booleans does.

use std::ops::Range;

use qbm_core::Granularity;
use qbm_core::bits::{Bits, PAGE_BITS, PAGE_BYTES, TailBits};

use crate::input::Input;

/// The longest bitmap: a whole page and a part of one.
const MAX_BITS: u64 = PAGE_BITS + 1000;

/// The most operations on one bitmap.
const MAX_STEPS: usize = 64;

/// Reads the bytes as operations, does them to a [`Bits`] and to a list of booleans, and compares
/// all that can be asked of both.
///
/// # Panics
///
/// If they differ.
pub fn bits(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut pair = Pair::new(input.at_most(MAX_BITS));
    for _ in 0..MAX_STEPS {
        match input.byte().map(|byte| byte % 6) {
            None => break,
            Some(0) => pair.set(input.range(pair.bits.len())),
            Some(1) => pair.clear(input.range(pair.bits.len())),
            Some(2) => pair.load_page(&mut input),
            Some(3) => pair.merge(&mut input),
            Some(4) => pair.merge_scaled(&mut input),
            Some(_) => pair.compare_in(input.range(pair.bits.len())),
        }
    }
    pair.compare_in(0..pair.bits.len());
    pair.compare_stored();
}

/// A bitmap, and what it should be.
struct Pair {
    bits: Bits,
    expected: Vec<bool>,
}

impl Pair {
    fn new(length: u64) -> Self {
        Self { bits: Bits::new(length), expected: vec![false; index(length)] }
    }

    fn set(&mut self, range: Range<u64>) {
        self.bits.set(range.clone());
        self.expected[indexes(range)].fill(true);
    }

    fn clear(&mut self, range: Range<u64>) {
        self.bits.clear(range.clone());
        self.expected[indexes(range)].fill(false);
    }

    /// Some bytes of a file, at any page; what is set past the length is reported.
    fn load_page(&mut self, input: &mut Input<'_>) {
        let Some(last) = self.bits.page_count().checked_sub(1) else { return };
        let page = index(input.at_most(last as u64));
        let length = index(input.at_most(PAGE_BYTES as u64));
        let bytes = input.take(length);
        let mut dropped = false;
        for bit in (0..8 * bytes.len()).filter(|bit| bytes[bit / 8] >> (bit % 8) & 1 == 1) {
            match self.expected.get_mut(8 * PAGE_BYTES * page + bit) {
                Some(expected) => *expected = true,
                None => dropped = true,
            }
        }
        let tail = if dropped { TailBits::Dropped } else { TailBits::Zero };
        assert_eq!(self.bits.or_page_bytes(page, bytes), tail);
    }

    /// The union with a bitmap of any length.
    fn merge(&mut self, input: &mut Input<'_>) {
        let mut other = Self::new(input.at_most(MAX_BITS));
        other.set(input.range(other.bits.len()));
        other.set(input.range(other.bits.len()));
        self.bits.union(&other.bits);
        self.expected.iter_mut().zip(other.expected).for_each(|(own, theirs)| *own |= theirs);
    }

    /// The union with a bitmap of the same disk at another granularity.
    fn merge_scaled(&mut self, input: &mut Input<'_>) {
        let granularity =
            |power| Granularity::from_bytes(512_u64 << power).expect("512 bytes to 64 KiB");
        let [own, theirs] = [input.at_most(7), input.at_most(7)].map(granularity);
        // Any size whose granules are as many as the bits.
        let longest = self.bits.len() * own.bytes();
        let size = longest - input.at_most(longest.min(own.bytes()).saturating_sub(1));
        let granules = theirs.granules_of(size);
        if granules > MAX_BITS {
            return;
        }
        let mut other = Self::new(granules);
        other.set(input.range(other.bits.len()));
        other.set(input.range(other.bits.len()));
        self.bits.union_scaled(&other.bits, own, theirs, size);
        for granule in (0..other.bits.len()).filter(|granule| other.expected[index(*granule)]) {
            let touched = own.granules_touched(theirs.bytes_of(granule..granule + 1, size));
            self.expected[indexes(touched)].fill(true);
        }
    }

    /// All that can be asked about a range.
    fn compare_in(&self, range: Range<u64>) {
        let expected = &self.expected[indexes(range.clone())];
        let is_set = |at: &bool| *at;
        let first = |value| {
            let place = expected.iter().position(|at| *at == value)?;
            Some(range.start + place as u64)
        };
        assert_eq!(self.bits.contains(range.clone()), expected.iter().all(is_set));
        let count = expected.iter().filter(|at| **at).count();
        assert_eq!(self.bits.count_in(range.clone()), count as u64);
        assert_eq!(self.bits.next_set_in(range.clone()), first(true));
        assert_eq!(self.bits.next_clear_in(range.clone()), first(false));
        assert!(self.bits.areas_in(range.clone()).eq(runs(expected, range.start)));
    }

    /// Written to a file page by page and read back it is the same, and the tail is zero.
    fn compare_stored(&self) {
        let copy = Self::new(self.bits.len());
        let mut bytes = [0xff; PAGE_BYTES];
        for page in 0..self.bits.page_count() {
            self.bits.page_bytes(page, &mut bytes);
            let (stored, past_end) = bytes.split_at(self.bits.page_len(page));
            assert!(past_end.iter().all(|byte| *byte == 0));
            assert_eq!(self.bits.page_is_empty(page), stored.iter().all(|byte| *byte == 0));
            assert_eq!(copy.bits.or_page_bytes(page, stored), TailBits::Zero);
        }
        assert!(copy.bits.areas().eq(self.bits.areas()));
    }
}

/// The runs of `true`, counted from `start`.
fn runs(values: &[bool], start: u64) -> impl Iterator<Item = Range<u64>> {
    let mut position = start;
    values.chunk_by(|one, next| one == next).filter_map(move |run| {
        let range = position..position + run.len() as u64;
        position = range.end;
        run[0].then_some(range)
    })
}

fn index(position: u64) -> usize {
    usize::try_from(position).expect("the bitmap is short")
}

fn indexes(range: Range<u64>) -> Range<usize> {
    index(range.start)..index(range.end)
}
