//! Marking in one bitmap what is marked in another, also across granularities.

use super::page::{Words, cut};
use super::{Bits, Page};
use crate::Granularity;

impl Bits {
    /// Sets the bits that are set in `other`; those past the own length are left out.
    pub fn union(&self, other: &Self) {
        for (page, theirs) in other.pages.iter().enumerate().take(self.page_count()) {
            if let Some(theirs) = theirs.get() {
                let mut words = theirs.snapshot();
                cut(&mut words, self.bits_in(page).end);
                self.union_page(page, &words);
            }
        }
    }

    /// Marks every granule that overlaps one marked in `other`, where this bitmap has the
    /// granularity `own`, `other` has `theirs`, and their disk has `size` bytes.
    ///
    /// A coarse mark so marks all fine granules it covers, cut at `size`, and a fine one the
    /// coarse granule it lies in: nothing that `other` marks is lost, precision may be. As in
    /// [`union`](Self::union), what lies past the own length is left out.
    ///
    /// # Panics
    ///
    /// If `size` is more than [`MAX_SIZE`](crate::units::MAX_SIZE).
    pub fn union_scaled(&self, other: &Self, own: Granularity, theirs: Granularity, size: u64) {
        let mut from = 0;
        while let Some(area) = other.next_area(from..other.len) {
            let touched = own.granules_touched(theirs.bytes_of(area, size));
            if touched.start >= self.len || touched.is_empty() {
                break;
            }
            // What else lies in the granules marked now need not be looked at.
            let next = theirs.granules_touched(own.bytes_of(touched.clone(), size)).end;
            from = next.min(other.len);
            self.set(touched.start..touched.end.min(self.len));
        }
    }

    /// Sets the bits of `page` that are set in `words`, which has none past the length.
    pub(super) fn union_page(&self, page: usize, words: &Words) {
        if words.iter().any(|word| *word != 0) {
            // A new page is made with its bits in it: without contention, nothing is left to do.
            self.pages[page].get_or_init(|| Page::boxed(words)).union(words);
        }
    }
}
