//! The meta bitmap: which pages of a bitmap differ from its file.

use crate::mutants::{self, Mutant};
use crate::sync::{AtomicU64, Ordering};

/// A set of page indices that many threads insert into and one takes from.
///
/// Whoever marks first sets the bits and then [inserts](Self::insert) their page; whoever writes
/// the file first [takes](Self::take) the pages and then makes its snapshots of them. Then each
/// mark is in the snapshot, or its page is in the set again: none is forgotten.
#[derive(Debug)]
pub struct PageSet {
    words: Box<[AtomicU64]>,
}

impl PageSet {
    /// An empty set for a bitmap of `pages` pages.
    pub fn new(pages: usize) -> Self {
        Self { words: (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Puts `page` into the set. What the caller did before is seen by whoever takes it out.
    ///
    /// # Panics
    ///
    /// If `page` is past the number of pages, rounded up to a multiple of 64.
    pub fn insert(&self, page: usize) {
        // Also when the page is there already: only a write to the word makes sure that the next
        // `take` sees the caller's marks. A load that finds the page there orders nothing.
        let (word, mask) = (&self.words[page / 64], 1 << (page % 64));
        if mutants::planted(Mutant::InsertIfAbsent) && word.load(Ordering::Acquire) & mask != 0 {
            return;
        }
        word.fetch_or(mask, Ordering::AcqRel);
    }

    /// Empties the set, and appends to `out` what was in it, ascending.
    ///
    /// What the inserters did before is seen by the caller afterwards. A page that is inserted
    /// during the call is taken now or stays for the next.
    pub fn take(&self, out: &mut Vec<usize>) {
        for (index, word) in self.words.iter().enumerate() {
            // Nearly all words are zero, and loading leaves them with the caches of the inserters.
            if word.load(Ordering::Relaxed) != 0 {
                let taken = word.swap(0, Ordering::AcqRel);
                out.extend((0..64).filter(|bit| taken & 1 << bit != 0).map(|bit| 64 * index + bit));
            }
        }
    }

    /// Puts `pages` back that were taken and could not be written.
    pub fn restore(&self, pages: &[usize]) {
        pages.iter().for_each(|page| self.insert(*page));
    }

    /// Whether no page is in the set, inserted before the call.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| word.load(Ordering::Acquire) == 0)
    }
}
