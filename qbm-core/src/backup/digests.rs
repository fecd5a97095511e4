//! The digests of a point: what is compared with what was stored.
//!
//! One of 128 bits for each block of the disk that is stored, in a file without a header, each at
//! 16 times the number of its block. Zeroes stand for a block of zeroes, and for one that is not
//! stored, so that most of the file of a sparse point is a hole. The digest of the point itself
//! is one of these, so that each byte is hashed once.

use std::io;
use std::ops::Range;

use crate::bits::{Bits, PAGE_BYTES};
use crate::descriptor::{MAX_BLOCK, Point};
use crate::zeroes::is_zero;
use crate::{Access, Buffer, ByteRange, Directory, Error, Granularity, Persist, Result, Storage};

/// The bytes of a digest in the file.
const ENTRY: usize = 16;
/// How many digests are written together.
const PER_PAGE: u64 = (PAGE_BYTES / ENTRY) as u64;
/// How many are read together: 64 KiB.
const TOGETHER: u64 = 16 * PER_PAGE;
/// Where the indices of the allocation bitmap's pages start, so that they are no block's.
const PAGES_FROM: u64 = 1 << 63;

/// What a digest is taken of where a bit stands for `granularity`: a granule, or a part of one that
/// is longer than what is read at a time.
pub(super) fn block_of(granularity: Granularity) -> Granularity {
    granularity.min(Granularity::from_bytes(MAX_BLOCK).expect("a power of two"))
}

/// The digest of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BlockDigest([u8; ENTRY]);

impl BlockDigest {
    /// Of a block of zeroes.
    pub(super) const ZERO: Self = Self([0; ENTRY]);

    /// BLAKE3, cut to 128 bits: a guest chooses the bytes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut digest = Self::ZERO;
        if !is_zero(bytes) {
            digest.0.copy_from_slice(&blake3::hash(bytes).as_bytes()[..ENTRY]);
        }
        digest
    }
}

/// The digest of a point under way: of the digests of its blocks in ascending order, without those
/// that are zero, and of the pages of its allocation bitmap.
pub(super) struct PointDigest(blake3::Hasher);

impl PointDigest {
    pub(super) fn new(block: Granularity) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&block.bytes().to_le_bytes());
        Self(hasher)
    }

    pub(super) fn add(&mut self, index: u64, digest: BlockDigest) {
        if digest != BlockDigest::ZERO {
            self.item(index, &digest.0);
        }
    }

    /// The digest, after the marks of the allocation bitmap, in 64 hexadecimal digits.
    pub(super) fn finish(mut self, allocation: Option<&Bits>) -> String {
        let mut bytes = [0; PAGE_BYTES];
        for page in 0..allocation.map_or(0, Bits::page_count) {
            let bits = allocation.expect("it has pages");
            if !bits.page_is_empty(page) {
                bits.page_bytes(page, &mut bytes);
                self.item(PAGES_FROM + page as u64, &bytes);
            }
        }
        self.0.finalize().to_hex().to_string()
    }

    fn item(&mut self, index: u64, bytes: &[u8]) {
        self.0.update(&index.to_le_bytes());
        self.0.update(bytes);
    }
}

/// The digests of a point that is being stored.
pub(super) struct Writer<F> {
    file: F,
    block: Granularity,
    total: PointDigest,
    /// The digests that are not yet written, all of one page of the file.
    page: Buffer,
    /// Which page.
    index: u64,
}

impl<F: Storage> Writer<F> {
    /// For a disk of `size` bytes; `file` is new.
    pub(super) async fn begin(file: F, block: Granularity, size: u64) -> io::Result<Self> {
        file.set_len(block.granules_of(size) * ENTRY as u64).await?;
        let total = PointDigest::new(block);
        Ok(Self { file, block, total, page: Buffer::zeroed(PAGE_BYTES), index: 0 })
    }

    /// Takes in `bytes`, which are at `offset` of the disk. Windows come in ascending order and
    /// start at a block; what is left out counts as zero.
    pub(super) async fn window(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        for (index, bytes) in blocks(self.block, offset, bytes) {
            let digest = BlockDigest::of(bytes);
            if digest == BlockDigest::ZERO {
                continue;
            }
            self.total.add(index, digest);
            if index / PER_PAGE != self.index {
                self.write_page().await?;
                self.index = index / PER_PAGE;
            }
            let place = usize::try_from(index % PER_PAGE).expect("within a page") * ENTRY;
            self.page[place..][..ENTRY].copy_from_slice(&digest.0);
        }
        Ok(())
    }

    async fn write_page(&mut self) -> io::Result<()> {
        let offset = self.index * PAGE_BYTES as u64;
        let length = usize::try_from(self.file.len().await?.saturating_sub(offset));
        let length = length.map_or(PAGE_BYTES, |length| length.min(PAGE_BYTES));
        if !is_zero(&self.page) {
            let page = std::mem::replace(&mut self.page, Buffer::zeroed(0)).narrow(0..length);
            self.page = self.file.write_at(offset, page, Persist::Later).await?.widen();
            self.page.fill(0);
        }
        Ok(())
    }

    /// Makes the file durable; returns the digest of the point, which has the bitmap `allocation`.
    pub(super) async fn finish(mut self, allocation: Option<&Bits>) -> io::Result<String> {
        self.write_page().await?;
        self.file.sync().await?;
        Ok(self.total.finish(allocation))
    }
}

/// The blocks of `bytes`, which are at `offset` of the disk, with their numbers. The last one of a
/// disk may be shorter.
pub(super) fn blocks(
    block: Granularity,
    offset: u64,
    bytes: &[u8],
) -> impl Iterator<Item = (u64, &[u8])> {
    debug_assert!(offset.is_multiple_of(block.bytes()), "it starts at a block");
    let length = usize::try_from(block.bytes()).expect("at most a window");
    (offset / block.bytes()..).zip(bytes.chunks(length))
}

/// The digests of a point, to be read.
#[derive(Debug)]
pub(super) struct Digests<F> {
    name: String,
    file: F,
    pub(super) block: Granularity,
}

impl<F: Storage> Digests<F> {
    /// Those of `point`, whose files are in `target`.
    async fn open<D: Directory<File = F>>(target: &D, point: &Point) -> Result<Self> {
        let name = point.digests.clone();
        let file = target.open(&name, Access::Read).await.map_err(Error::io(&name, "open"))?;
        Ok(Self { name, file, block: point.block })
    }

    /// Those of `point`, a disk of `size` bytes with the bitmap `allocation`, if they are as they
    /// were written.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] if they are not, and any error of `target`.
    pub(super) async fn open_sound<D: Directory<File = F>>(
        target: &D,
        point: &Point,
        (size, allocation): (u64, Option<&Bits>),
    ) -> Result<Self> {
        let digests = Self::open(target, point).await?;
        if digests.total(size, allocation).await? != point.digest {
            let what = "it does not have the digests that were written when the point was made";
            return Err(Error::unusable(&digests.name, what));
        }
        Ok(digests)
    }

    /// Those of `blocks`, which are few.
    pub(super) async fn of(&self, blocks: Range<u64>) -> Result<Vec<BlockDigest>> {
        let length = usize::try_from(blocks.end - blocks.start).expect("few") * ENTRY;
        let buffer = Buffer::zeroed(length);
        let bytes = self.file.read_at(blocks.start * ENTRY as u64, buffer).await;
        let bytes = bytes.map_err(Error::io(&self.name, "read"))?;
        Ok(bytes.as_chunks().0.iter().copied().map(BlockDigest).collect())
    }

    /// Shows `each` those of `blocks` that are not zero, with their numbers, in ascending order.
    pub(super) async fn each(
        &self,
        blocks: Range<u64>,
        mut each: impl FnMut(u64, BlockDigest),
    ) -> Result<()> {
        let io = |action| Error::io(&self.name, action);
        let there = self.file.len().await.map_err(io("stat"))?.div_ceil(ENTRY as u64);
        let end = blocks.end.min(there);
        let mut first = blocks.start;
        // Each extent is asked for once: some file systems look at each page of it.
        let mut data_until = first;
        while first < end {
            if first >= data_until {
                let rest = ByteRange::new(first * ENTRY as u64, (end - first) * ENTRY as u64);
                let status = self.file.block_status(rest).await.map_err(io("map"))?;
                let alike = status.length / ENTRY as u64;
                if !status.data && alike > 0 {
                    first += alike;
                    continue;
                }
                data_until = first + alike;
            }
            let next = end.min(first + TOGETHER);
            let digests = self.of(first..next).await?;
            (first..).zip(digests).for_each(|(index, digest)| each(index, digest));
            first = next;
        }
        Ok(())
    }

    /// The digest that the point has if these are right.
    async fn total(&self, size: u64, allocation: Option<&Bits>) -> Result<String> {
        let mut total = PointDigest::new(self.block);
        let all = 0..self.block.granules_of(size);
        self.each(all, |index, digest| total.add(index, digest)).await?;
        Ok(total.finish(allocation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_zeroes_do_not_count_and_places_do() {
        let digest = |blocks: &[(u64, &[u8])]| {
            let mut digest = PointDigest::new(Granularity::MIN);
            blocks.iter().for_each(|(index, bytes)| digest.add(*index, BlockDigest::of(bytes)));
            digest.finish(None)
        };
        let (one, zero) = ([1; 512], [0; 512]);
        assert_eq!(digest(&[(0, &zero), (1, &one)]), digest(&[(1, &one), (2, &zero)]));
        assert_ne!(digest(&[(0, &one)]), digest(&[(1, &one)]));
    }

    #[test]
    fn marks_of_the_allocation_bitmap_and_the_size_of_blocks_count() {
        let bits = Bits::new(100);
        let digest = |bits| PointDigest::new(Granularity::MIN).finish(bits);
        let empty = digest(Some(&bits));
        assert_eq!(empty, digest(None));
        bits.set(7..8);
        assert_ne!(empty, digest(Some(&bits)));
        assert_ne!(empty, PointDigest::new(Granularity::DEFAULT).finish(None));
    }

    #[test]
    fn a_granule_that_is_longer_than_a_window_has_a_digest_for_each_part() {
        assert_eq!(block_of(Granularity::MAX).bytes(), MAX_BLOCK);
        assert_eq!(block_of(Granularity::DEFAULT), Granularity::DEFAULT);
    }
}
