//! Pages as bytes of the bitmap file: bit 0 is the lowest bit of byte 0, little endian throughout.

use super::page::{Words, cut};
use super::{Bits, PAGE_BYTES};

/// What the bits past the length were, in bytes that came from a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailBits {
    /// All zero, as the format has it.
    Zero,
    /// Some were set, and have been left out.
    Dropped,
}

impl Bits {
    /// The length of the bitmap file, in bytes.
    pub fn file_len(&self) -> u64 {
        self.len.div_ceil(8)
    }

    /// How many bytes of `page` are in the file: all but for the last page.
    ///
    /// # Panics
    ///
    /// If there is no such page, as for all methods that take a page.
    pub fn page_len(&self, page: usize) -> usize {
        usize::try_from(self.bits_in(page).end.div_ceil(8)).expect("at most a page")
    }

    /// Whether no bit of `page` is set.
    pub fn page_is_empty(&self, page: usize) -> bool {
        self.page(page).is_none_or(|page| page.is_zero())
    }

    /// Fills `out` with a snapshot of `page`, zeros where it is past the length.
    ///
    /// It has every bit whose setting happened before the call, and may have later ones.
    pub fn page_bytes(&self, page: usize, out: &mut [u8; PAGE_BYTES]) {
        let Some(page) = self.page(page) else {
            return out.fill(0);
        };
        for (bytes, word) in out.as_chunks_mut().0.iter_mut().zip(page.snapshot()) {
            *bytes = word.to_le_bytes();
        }
    }

    /// Sets the bits of `page` that are set in `bytes`, read from a file; those past the length
    /// are left out, and reported.
    ///
    /// # Panics
    ///
    /// If `bytes` is longer than a page. It may be shorter: what is missing sets nothing.
    pub fn or_page_bytes(&self, page: usize, bytes: &[u8]) -> TailBits {
        let mut whole = [0; PAGE_BYTES];
        whole[..bytes.len()].copy_from_slice(bytes);
        let mut words = parse(&whole);
        let dropped = cut(&mut words, self.bits_in(page).end);
        self.union_page(page, &words);
        if dropped { TailBits::Dropped } else { TailBits::Zero }
    }

    /// Sets the bits of `page` that are set in `snapshot`, which [`page_bytes`](Self::page_bytes)
    /// of a bitmap of the same length made; it may be cut at the end of the file.
    ///
    /// Whoever then sees such a bit sees what happened before this call: that the snapshot is
    /// durable.
    ///
    /// # Panics
    ///
    /// If a bit past the length is set.
    pub fn publish(&self, page: usize, snapshot: &[u8]) {
        let tail = self.or_page_bytes(page, snapshot);
        assert_eq!(tail, TailBits::Zero, "page {page}: a snapshot of another bitmap");
    }
}

fn parse(bytes: &[u8; PAGE_BYTES]) -> Words {
    let mut words = [0; PAGE_BYTES / 8];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}
