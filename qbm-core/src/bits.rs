//! A bitmap in memory.
use crate::Granularity;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
/// Bytes of a page.
pub const PAGE_BYTES: usize = 4096;
/// Bits of a page.
pub const PAGE_BITS: u64 = 32768;
type Page = [AtomicU64; 512];
/// Bits.
#[derive(Debug)]
pub struct Bits {
    len: u64,
    pages: Box<[OnceLock<Box<Page>>]>,
}
#[allow(missing_docs, clippy::all, clippy::cast_possible_truncation)]
impl Bits {
    pub fn new(len: u64) -> Self {
        Self { len, pages: (0..len.div_ceil(PAGE_BITS)).map(|_| OnceLock::new()).collect() }
    }
    pub fn len(&self) -> u64 {
        self.len
    }
    pub fn page_count(&self) -> usize {
        self.pages.len()
    }
    pub fn file_len(&self) -> u64 {
        self.len.div_ceil(8)
    }
    fn word(&self, bit: u64) -> u64 {
        self.pages[(bit / PAGE_BITS) as usize]
            .get()
            .map_or(0, |p| p[(bit % PAGE_BITS / 64) as usize].load(Ordering::Acquire))
    }
    pub fn get(&self, bit: u64) -> bool {
        bit < self.len && self.word(bit) >> (bit % 64) & 1 == 1
    }
    pub fn contains(&self, r: Range<u64>) -> bool {
        self.next_clear(r.start).is_none_or(|c| c >= r.end)
    }
    pub fn set(&self, r: Range<u64>) {
        for bit in r.start..r.end.min(self.len) {
            let page = self.pages[(bit / PAGE_BITS) as usize]
                .get_or_init(|| Box::new([const { AtomicU64::new(0) }; 512]));
            page[(bit % PAGE_BITS / 64) as usize].fetch_or(1 << (bit % 64), Ordering::Release);
        }
    }
    pub fn set_all(&self) {
        self.set(0..self.len)
    }
    pub fn count(&self) -> u64 {
        (0..self.len).filter(|b| self.get(*b)).count() as u64
    }
    pub fn next_set(&self, from: u64) -> Option<u64> {
        (from..self.len).find(|b| self.get(*b))
    }
    pub fn next_clear(&self, from: u64) -> Option<u64> {
        (from..self.len).find(|b| !self.get(*b))
    }
    pub fn union(&self, other: &Bits) {
        for b in 0..self.len.min(other.len) {
            if other.get(b) {
                self.set(b..b + 1)
            }
        }
    }
    pub fn union_scaled(&self, other: &Bits, own: Granularity, theirs: Granularity, size: u64) {
        for b in 0..other.len {
            if other.get(b) {
                let r = own.granules_touched(theirs.bytes_of(b..b + 1, size));
                self.set(r)
            }
        }
    }
    pub fn page_bytes(&self, page: usize, out: &mut [u8; PAGE_BYTES]) {
        out.fill(0);
        if let Some(p) = self.pages[page].get() {
            for (w, o) in p.iter().zip(out.chunks_exact_mut(8)) {
                o.copy_from_slice(&w.load(Ordering::Acquire).to_le_bytes())
            }
        }
    }
    pub fn page_is_empty(&self, page: usize) -> bool {
        self.pages[page].get().is_none()
    }
    pub fn or_page_bytes(&self, page: usize, bytes: &[u8]) -> bool {
        let mut clean = true;
        for (i, byte) in bytes.iter().enumerate() {
            for k in 0..8 {
                if byte >> k & 1 == 1 {
                    let b = page as u64 * PAGE_BITS + i as u64 * 8 + k;
                    if b < self.len { self.set(b..b + 1) } else { clean = false }
                }
            }
        }
        clean
    }
}
/// Pages.
#[derive(Debug)]
pub struct PageSet {
    words: Box<[AtomicU64]>,
}
#[allow(missing_docs)]
impl PageSet {
    pub fn new(pages: usize) -> Self {
        Self { words: (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect() }
    }
    pub fn insert(&self, page: usize) {
        self.words[page / 64].fetch_or(1 << (page % 64), Ordering::AcqRel);
    }
    pub fn take(&self, out: &mut Vec<usize>) {
        for (i, w) in self.words.iter().enumerate() {
            let mut v = w.swap(0, Ordering::AcqRel);
            while v != 0 {
                out.push(i * 64 + v.trailing_zeros() as usize);
                v &= v - 1
            }
        }
    }
    pub fn restore(&self, pages: &[usize]) {
        pages.iter().for_each(|p| self.insert(*p))
    }
}
