//! The digest of a point: what `verify` compares.
//!
//! BLAKE3 over the 64 KiB blocks of the point's data image that are not all zero, in order: of
//! each its index, as 8 bytes little-endian, and its bytes; then over the allocation bitmap's
//! pages, in the same way. So it does not depend on which zeroes are stored as holes.

use crate::bits::{Bits, PAGE_BYTES};
use crate::zeroes::is_zero;

/// The bytes of a block. The last one of a disk may be shorter.
pub(super) const BLOCK: usize = 64 << 10;

/// Where the indices of the bitmap's pages start, so that they are no block's.
const PAGES_FROM: u64 = 1 << 63;

/// A digest under way.
pub(super) struct Digest {
    hasher: blake3::Hasher,
}

impl Digest {
    pub(super) fn new() -> Self {
        Self { hasher: blake3::Hasher::new() }
    }

    /// Takes in `bytes`, which are at `offset` of the data image. Windows come in ascending order
    /// and start at a block boundary; what is left out counts as zero.
    pub(super) fn window(&mut self, offset: u64, bytes: &[u8]) {
        debug_assert!(offset.is_multiple_of(BLOCK as u64), "a window starts at a block");
        let first = offset / BLOCK as u64;
        for (index, block) in (first..).zip(bytes.chunks(BLOCK)) {
            self.item(index, block);
        }
    }

    /// The digest, after the marks of the allocation bitmap, in 64 hexadecimal digits.
    pub(super) fn finish(mut self, allocation: Option<&Bits>) -> String {
        let mut bytes = [0; PAGE_BYTES];
        for page in 0..allocation.map_or(0, Bits::page_count) {
            allocation.expect("it has pages").page_bytes(page, &mut bytes);
            self.item(PAGES_FROM + page as u64, &bytes);
        }
        self.hasher.finalize().to_hex().to_string()
    }

    fn item(&mut self, index: u64, bytes: &[u8]) {
        if !is_zero(bytes) {
            self.hasher.update(&index.to_le_bytes());
            self.hasher.update(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_blocks_do_not_count_and_places_do() {
        let digest = |windows: &[(u64, Vec<u8>)]| {
            let mut digest = Digest::new();
            windows.iter().for_each(|(offset, bytes)| digest.window(*offset, bytes));
            digest.finish(None)
        };
        let one = vec![1; BLOCK];
        let zero = vec![0; BLOCK];
        let block = BLOCK as u64;
        assert_eq!(
            digest(&[(0, zero.clone()), (block, one.clone())]),
            digest(&[(block, one.clone()), (2 * block, zero)])
        );
        assert_ne!(digest(&[(0, one.clone())]), digest(&[(block, one)]));
    }

    #[test]
    fn marks_of_the_allocation_bitmap_count() {
        let bits = Bits::new(100);
        let empty = Digest::new().finish(Some(&bits));
        assert_eq!(empty, Digest::new().finish(None));
        bits.set(7..8);
        assert_ne!(empty, Digest::new().finish(Some(&bits)));
    }
}
