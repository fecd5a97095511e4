//! A bitmap in memory: one bit a granule, set by many threads at once, read without a lock.
//!
//! Asking whether granules are marked happens on every guest write, so it is one Acquire load a
//! word and nothing else. The bits lie in pages of [`PAGE_BYTES`], the unit in which a bitmap file
//! is written, and a page is allocated when its first bit is set: memory follows what is set, and
//! is at most 1.03 bits a granule. There is no summary above the pages: an absent page is skipped
//! by one load, and a present one is scanned in less than a microsecond.
//!
//! # Invariants
//!
//! * Through a shared reference bits are only ever set. Clearing takes an exclusive one.
//! * Bits past the length are never set, so that a page can be written to the file as it is.
//! * Whoever sees a bit set also sees what its setter did before setting it.

mod areas;
mod merge;
mod page;
mod page_set;
mod runs;
mod serialise;
mod split;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

use self::page::Page;
use self::split::split;
use crate::sync::OnceLock;

pub use self::areas::Areas;
pub use self::page_set::PageSet;
pub(crate) use self::runs::runs_of_union;
pub use self::serialise::TailBits;

/// Bytes of a page, in memory and in the file: 4096.
///
/// Two words for the model checker, which tries every order of every access.
pub const PAGE_BYTES: usize = if cfg!(loom) { 16 } else { 4096 };

/// Bits of a page.
pub const PAGE_BITS: u64 = 8 * PAGE_BYTES as u64;

/// A bitmap of a fixed number of bits, all clear at first.
///
/// Threads may set and read the same bits at the same time. A reader sees each word as it was at
/// some moment during the call, and every bit that was set before the call began. Positions and
/// lengths are in bits; every method that takes a range panics if the range is backwards or ends
/// past [`len`](Self::len), and accepts an empty one.
///
/// ```
/// # use qbm_core::bits::Bits;
/// let marked = Bits::new(100);
/// marked.set(10..20);
/// assert!(marked.contains(12..20));
/// assert_eq!(marked.areas().collect::<Vec<_>>(), [10..20]);
/// ```
pub struct Bits {
    len: u64,
    /// Invariant: a page is present if any of its bits is set; it may also be present and zero.
    pages: Box<[OnceLock<Box<Page>>]>,
}

impl Bits {
    /// A bitmap of `len` bits, all clear.
    ///
    /// It takes 16 bytes for every [`PAGE_BITS`], which nothing here limits: lengths from outside
    /// are limited by the caller.
    pub fn new(len: u64) -> Self {
        let pages = page_index(len.div_ceil(PAGE_BITS));
        Self { len, pages: (0..pages).map(|_| OnceLock::new()).collect() }
    }

    /// The number of bits.
    #[expect(clippy::len_without_is_empty, reason = "empty would read as: no bit is set")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The number of pages, present or not; the last one may reach past the length.
    pub fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// The pages that the bits `range` lie in: what to [insert](PageSet::insert) after a
    /// [`set`](Self::set).
    pub fn pages_of(range: Range<u64>) -> Range<usize> {
        let first = page_index(range.start / PAGE_BITS);
        if range.is_empty() {
            first..first
        } else {
            first..page_index(range.end.div_ceil(PAGE_BITS))
        }
    }

    /// Whether `bit` is set.
    ///
    /// # Panics
    ///
    /// If `bit` is past the length.
    #[inline]
    pub fn get(&self, bit: u64) -> bool {
        assert!(bit < self.len, "bit {bit} of {}", self.len);
        self.page(page_index(bit / PAGE_BITS)).is_some_and(|page| page.get(bit % PAGE_BITS))
    }

    /// Whether all bits of `range` are set.
    #[inline]
    pub fn contains(&self, range: Range<u64>) -> bool {
        self.check(&range);
        if range.end - range.start == 1 {
            // Most guest writes touch one granule, and this is twice as fast for them.
            return self.get(range.start);
        }
        split::<PAGE_BITS>(range)
            .all(|(page, part)| self.page(page).is_some_and(|page| page.contains(part)))
    }

    /// Sets the bits of `range`.
    ///
    /// Whoever sees one of them set sees all that happened before this call. A bit that was set
    /// already is left alone, and keeps the order of whoever set it first.
    pub fn set(&self, range: Range<u64>) {
        self.check(&range);
        for (page, part) in split::<PAGE_BITS>(range) {
            self.pages[page].get_or_init(Page::boxed_zero).set(part);
        }
    }

    /// Sets every bit.
    pub fn set_all(&self) {
        self.set(0..self.len);
    }

    /// Clears the bits of `range`, and frees the pages of which no bit outside it remains.
    pub fn clear(&mut self, range: Range<u64>) {
        self.check(&range);
        for (page, part) in split::<PAGE_BITS>(range) {
            let whole = part == self.bits_in(page);
            let slot = &mut self.pages[page];
            if whole {
                slot.take();
            } else if let Some(page) = slot.get_mut() {
                page.clear(part);
            }
        }
    }

    /// The number of bits set.
    pub fn count(&self) -> u64 {
        self.count_in(0..self.len)
    }

    /// The number of bits set in `range`.
    pub fn count_in(&self, range: Range<u64>) -> u64 {
        self.check(&range);
        split::<PAGE_BITS>(range)
            .filter_map(|(page, part)| Some(self.page(page)?.count(part)))
            .sum()
    }

    #[inline]
    fn page(&self, page: usize) -> Option<&Page> {
        self.pages[page].get().map(|page| &**page)
    }

    /// The bits of `page` that are not past the length, counted from its first.
    fn bits_in(&self, page: usize) -> Range<u64> {
        assert!(page < self.pages.len(), "page {page} of {}", self.pages.len());
        0..(self.len - page as u64 * PAGE_BITS).min(PAGE_BITS)
    }

    fn check(&self, range: &Range<u64>) {
        let within = range.start <= range.end && range.end <= self.len;
        assert!(within, "bits {range:?} of {}", self.len);
    }
}

impl fmt::Debug for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bits({} of {} set)", self.count(), self.len)
    }
}

/// The index or count of pages as the machine counts in memory.
fn page_index(pages: u64) -> usize {
    usize::try_from(pages).expect("the table of pages is in memory")
}
