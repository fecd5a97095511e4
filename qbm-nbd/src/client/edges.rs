//! Requests that do not fit the blocks of a server: what is around, within and beside blocks, and the
//! lock that keeps a change of a part of a block from undoing another one.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use qbm_core::ByteRange;

/// The blocks of a server.
#[derive(Debug)]
pub(super) struct Edges {
    /// Bytes of a block: a power of two.
    block: u64,
    lock: RwLock<()>,
}

impl Edges {
    pub(super) fn new(block: u32) -> Self {
        Self { block: block.into(), lock: RwLock::new(()) }
    }

    /// Changes of whole blocks are done together.
    pub(super) fn share(&self) -> RwLockReadGuard<'_, ()> {
        self.lock.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A change of parts, which are read and written back, is done alone.
    pub(super) fn take(&self) -> RwLockWriteGuard<'_, ()> {
        self.lock.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// All blocks that `range` touches.
    pub(super) fn around(&self, range: ByteRange) -> ByteRange {
        let start = self.floor(range.start());
        ByteRange::new(start, range.end().next_multiple_of(self.block) - start)
    }

    /// All blocks that are wholly in `range`.
    pub(super) fn within(&self, range: ByteRange) -> ByteRange {
        let start = range.start().next_multiple_of(self.block).min(range.end());
        ByteRange::new(start, self.floor(range.end()).max(start) - start)
    }

    /// What `range` has before and after [`within`](Self::within).
    pub(super) fn beside(&self, range: ByteRange) -> impl Iterator<Item = ByteRange> {
        let within = self.within(range);
        let before = ByteRange::new(range.start(), within.start() - range.start());
        let after = ByteRange::new(within.end(), range.end() - within.end());
        [before, after].into_iter().filter(|edge| !edge.is_empty())
    }

    fn floor(&self, offset: u64) -> u64 {
        offset - offset % self.block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every range within four blocks.
    #[test]
    fn ranges_are_cut_at_blocks() {
        let edges = Edges::new(4);
        for start in 0..16 {
            for end in start..=16 {
                let range = ByteRange::new(start, end - start);
                let around = edges.around(range);
                assert!(around.start() <= start && around.end() >= end);
                let within = edges.within(range);
                assert!(within.start() >= start && within.end() <= end);
                for cut in [around, within].iter().filter(|cut| !cut.is_empty()) {
                    assert_eq!((cut.start() % 4, cut.length() % 4), (0, 0), "{range:?}");
                }
                let beside: u64 = edges.beside(range).map(|edge| edge.length()).sum();
                assert_eq!(beside + within.length(), range.length(), "{range:?}");
                assert!(edges.beside(range).all(|edge| edge.length() < 4 || within.is_empty()));
            }
        }
    }
}
