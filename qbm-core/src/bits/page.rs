//! One page of a bitmap: the words, and what memory order each access has.
//!
//! Ranges and results count bits from the first of the page.

use std::array;
use std::ops::Range;

use super::split::split;
use super::{PAGE_BITS, PAGE_BYTES};
use crate::mutants::{self, Mutant};
use crate::sync::{AtomicU64, Ordering};

/// Words of a page.
const WORDS: usize = PAGE_BYTES / 8;

/// The words of a page as they were at some moment.
pub(super) type Words = [u64; WORDS];

/// The words of a page, shared.
pub(super) struct Page {
    words: [AtomicU64; WORDS],
}

impl Page {
    pub(super) fn boxed_zero() -> Box<Self> {
        Self::boxed(&[0; WORDS])
    }

    pub(super) fn boxed(words: &Words) -> Box<Self> {
        Box::new(Self { words: array::from_fn(|word| AtomicU64::new(words[word])) })
    }

    #[inline]
    pub(super) fn get(&self, bit: u64) -> bool {
        let word = usize::try_from(bit / 64).expect("a bit of the page");
        self.load(word) & 1 << (bit % 64) != 0
    }

    pub(super) fn contains(&self, range: Range<u64>) -> bool {
        masks(range).all(|(word, mask)| self.load(word) & mask == mask)
    }

    pub(super) fn set(&self, range: Range<u64>) {
        masks(range).for_each(|(word, mask)| self.or(word, mask));
    }

    pub(super) fn clear(&mut self, range: Range<u64>) {
        for (word, mask) in masks(range) {
            // Exclusive, so nothing can come between the two, and no order is needed.
            let rest = self.words[word].load(Ordering::Relaxed) & !mask;
            self.words[word].store(rest, Ordering::Relaxed);
        }
    }

    pub(super) fn count(&self, range: Range<u64>) -> u64 {
        masks(range).map(|(word, mask)| u64::from((self.load(word) & mask).count_ones())).sum()
    }

    pub(super) fn first_set(&self, range: Range<u64>) -> Option<u64> {
        masks(range).find_map(|(word, mask)| lowest(word, self.load(word) & mask))
    }

    pub(super) fn first_clear(&self, range: Range<u64>) -> Option<u64> {
        masks(range).find_map(|(word, mask)| lowest(word, !self.load(word) & mask))
    }

    pub(super) fn is_zero(&self) -> bool {
        (0..WORDS).all(|word| self.load(word) == 0)
    }

    /// All words, each as it was at some moment during the call.
    pub(super) fn snapshot(&self) -> Words {
        array::from_fn(|word| self.load(word))
    }

    /// Sets the bits that are set in `words`.
    pub(super) fn union(&self, words: &Words) {
        words.iter().enumerate().for_each(|(word, mask)| self.or(word, *mask));
    }

    #[inline]
    fn load(&self, word: usize) -> u64 {
        self.words[word].load(Ordering::Acquire)
    }

    /// Sets the bits `mask` of a word.
    ///
    /// Always by read-modify-write, also where the mask is the whole word: a plain store would end
    /// the release sequences of those who set other bits of the word before, and a reader who sees
    /// their bits would no longer see what they did before.
    #[inline]
    fn or(&self, word: usize, mask: u64) {
        // A word that needs nothing is not written, which keeps its cache line shared.
        if self.load(word) & mask != mask {
            if mutants::planted(Mutant::LoadThenStore) {
                return self.words[word].store(self.load(word) | mask, Ordering::Release);
            }
            let relaxed = mutants::planted(Mutant::MarkRelaxed);
            let order = if relaxed { Ordering::Relaxed } else { Ordering::Release };
            self.words[word].fetch_or(mask, order);
        }
    }
}

/// Clears the bits of `words` from `end` on, and says whether any of them was set.
pub(super) fn cut(words: &mut Words, end: u64) -> bool {
    let mut any = false;
    for (word, mask) in masks(end..PAGE_BITS) {
        any |= words[word] & mask != 0;
        words[word] &= !mask;
    }
    any
}

/// The words that `range` lies in, and its bits in each.
#[inline]
fn masks(range: Range<u64>) -> impl Iterator<Item = (usize, u64)> {
    split::<64>(range)
        .map(|(word, bits)| (word, (u64::MAX << bits.start) & (u64::MAX >> (64 - bits.end))))
}

/// The position of the lowest bit set in `hits`, which are bits of word `word`.
#[inline]
fn lowest(word: usize, hits: u64) -> Option<u64> {
    (hits != 0).then(|| word as u64 * 64 + u64::from(hits.trailing_zeros()))
}
