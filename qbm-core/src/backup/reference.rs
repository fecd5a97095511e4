//! What a disk holds, against what it held at a point, by digests: for `audit` and `rebuild`.
//!
//! An audit looks at what a bitmap does not mark, and tells what has changed all the same. A
//! rebuild looks at everything, and marks what has changed and nothing else.

use std::ops::Range;
use std::sync::{Arc, PoisonError};

use super::digests::{BlockDigest, Digests, block_of, blocks};
use super::points::{PointEntry, points};
use super::run::{find, settle_earlier};
use crate::bits::Bits;
use crate::chain::{Layer, Stretch};
use crate::image::{Extent, OpenOptions};
use crate::sync::{AtomicBool, CountedArc, Mutex, MutexGuard, Ordering};
use crate::{Access, Buffer, ByteRange, Directory, Error, Granularity, Host, Id, Image, Result};

/// Bytes that are read and compared at a time, unless a block is longer: as many as stay in the
/// cache of a processor from the one to the other.
const AT_ONCE: u64 = 256 << 10;

/// A point of a bitmap, by the digests of its blocks.
#[derive(Debug)]
pub struct Reference<T: Directory> {
    entry: PointEntry,
    image: Image<T>,
    /// The digests of each layer of its chain.
    digests: Vec<Digests<T::File>>,
    granularity: Granularity,
    block: Granularity,
    map: Map,
}

/// What is known of where a disk that is compared has data.
#[derive(Debug)]
struct Map {
    /// Where it had when it was last asked. A hole that has come there since is read as zeroes.
    data: Mutex<ByteRange>,
    /// Whether a thread is asking.
    asked: AtomicBool,
}

/// What a point held of a block.
#[derive(Clone, Copy)]
struct Stored {
    digest: BlockDigest,
    /// Where the bytes that it was taken of end on the disk.
    end: u64,
}

/// The point in `target` that the bitmap `name` of `image` is relative to. Where `image` is open for
/// writing, a point that a crash interrupted is settled first.
///
/// # Errors
///
/// [`Error::BitmapNotFound`]; [`Error::Unusable`] if there is no such point, or its digests are not
/// what they were; or any error of either side.
pub async fn reference<D: Directory, T: Directory + Clone>(
    image: &Image<D>,
    target: &T,
    name: &str,
    host: &Arc<dyn Host>,
) -> Result<Reference<T>> {
    let points = points(target).await?;
    if image.access() == Access::Write {
        settle_earlier(image, &points, name).await?;
    }
    let bitmap = find(image, name).await.ok_or_else(|| Error::BitmapNotFound(name.to_owned()))?;
    let refused = |what: &str| Error::unusable(image.name(), format!("bitmap '{name}': {what}"));
    let point = bitmap.points[0].ok_or_else(|| {
        refused("it is not relative to any backup, so there is nothing to compare with")
    })?;
    let entry = points
        .by_id(point)
        .ok_or_else(|| refused("the backup that it is relative to is not in the target"))?;
    Reference::open(target, entry.clone(), bitmap.granularity, host).await
}

impl Map {
    fn data(&self) -> MutexGuard<'_, ByteRange> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Directory + Clone> Reference<T> {
    async fn open(
        target: &T,
        entry: PointEntry,
        granularity: Granularity,
        host: &Arc<dyn Host>,
    ) -> Result<Self> {
        let options = OpenOptions::new(Access::Read);
        let name = entry.descriptor();
        let image = Image::open(target.clone(), &name, options, Arc::clone(host)).await?;
        let block = block_of(granularity);
        let mut digests = Vec::new();
        for layer in image.chain().layers() {
            digests.push(digests_of(target, layer, block).await?);
        }
        let map = Map { data: Mutex::new(ByteRange::new(0, 0)), asked: AtomicBool::new(false) };
        Ok(Self { entry, image, digests, granularity, block, map })
    }
}

/// The digests of `layer`, which must be of blocks of the size `block`.
async fn digests_of<T: Directory>(
    target: &T,
    layer: &Layer<T::File>,
    block: Granularity,
) -> Result<Digests<T::File>> {
    let refused = |what| Error::unusable(&layer.name, what);
    let point = layer.point.as_ref().ok_or_else(|| refused("it is no backup point"))?;
    let cluster = layer.allocation.as_ref().map_or(block, |allocation| allocation.cluster);
    if point.block != block || cluster < block {
        return Err(refused("its digests are of another granularity than the bitmap's"));
    }
    let bits = layer.allocation.as_ref().map(|allocation| CountedArc::clone(&allocation.bits()));
    Digests::open_sound(target, point, (layer.size, bits.as_deref())).await
}

impl<T: Directory> Reference<T> {
    /// Which point it is.
    pub fn point(&self) -> Id {
        self.entry.point.id
    }

    /// The name of the point.
    pub fn name(&self) -> &str {
        &self.entry.name
    }

    /// Marks in `differing` the granules of `range` that hold something else in `image` than at the
    /// point; those that are marked in `skip` are not looked at. `range` starts at a multiple of
    /// 1 MiB. What the disk did not have at the point counts as differing, zeroes too.
    ///
    /// Several threads may each compare a range of their own.
    ///
    /// # Errors
    ///
    /// Any error of either side.
    pub async fn compare<D: Directory>(
        &self,
        image: &Image<D>,
        range: ByteRange,
        skip: Option<&Bits>,
        differing: &Bits,
    ) -> Result<()> {
        let at_once = AT_ONCE.max(self.block.bytes());
        let mut buffer = Buffer::zeroed(usize::try_from(at_once).expect("at most a window"));
        // What was added since has changed, and so has the block that ended there.
        let size = self.image.size();
        let common = if range.end() > size { size - size % self.block.bytes() } else { size };
        let mut offset = range.start();
        while let Some(part) = self.next_part(offset, range, skip) {
            buffer = self.compare_part(image, part.clip(common), buffer, differing).await?;
            let start = part.start().max(part.end().min(common));
            let added = ByteRange::new(start, part.end() - start);
            differing.set(self.granularity.granules_touched(added));
            offset = part.end();
        }
        Ok(())
    }

    /// Marks the blocks of `part` that hold something else than at the point.
    async fn compare_part<D: Directory>(
        &self,
        image: &Image<D>,
        part: ByteRange,
        mut buffer: Buffer,
        differing: &Bits,
    ) -> Result<Buffer> {
        let mut offset = part.start();
        while offset < part.end() {
            let rest = ByteRange::new(offset, part.end() - offset);
            let (length, data) = self.extent(image, rest).await?;
            // Blocks are compared whole: one that is a hole in part is read.
            let whole = length - length % self.block.bytes();
            let extent = match data {
                false if length == rest.length() => rest,
                false if whole > 0 => rest.clip(offset + whole),
                _ => rest.clip(offset + length.next_multiple_of(self.block.bytes())),
            };
            if data || extent.length() > length {
                buffer = self.compare_data(image, extent, buffer, differing).await?;
            } else {
                self.compare_hole(extent, differing).await?;
            }
            offset = extent.end();
        }
        Ok(buffer)
    }

    /// The length of the first extent of `range` in `image`, and whether it has data.
    ///
    /// To find the end of an extent costs some file systems a look at each page of it: each extent is
    /// asked for once, and as far as it goes, and not once for each range. Whoever comes while it is
    /// asked for reads meanwhile.
    async fn extent<D: Directory>(
        &self,
        image: &Image<D>,
        range: ByteRange,
    ) -> Result<(u64, bool)> {
        let (known, start) = (*self.map.data(), range.start());
        if known.start() <= start && start < known.end() {
            return Ok((range.clip(known.end()).length(), true));
        }
        if self.map.asked.swap(true, Ordering::Relaxed) {
            return Ok((range.length(), true));
        }
        let rest = ByteRange::new(start, image.size().max(range.end()) - start);
        let status = image.block_status(rest).await;
        self.map.asked.store(false, Ordering::Relaxed);
        let Extent { length, data, .. } = status?;
        if data {
            *self.map.data() = ByteRange::new(start, length);
        }
        Ok((length.min(range.length()), data))
    }

    /// The first part of `range` at or after `offset` that is to be looked at.
    fn next_part(&self, offset: u64, range: ByteRange, skip: Option<&Bits>) -> Option<ByteRange> {
        let mut part = ByteRange::new(offset, range.end().saturating_sub(offset));
        if let (Some(marked), false) = (skip, part.is_empty()) {
            let granules = self.granularity.granules_touched(part);
            let first = marked.next_clear_in(granules.clone())?;
            let end = marked.next_set_in(first..granules.end).unwrap_or(granules.end);
            let clear = self.granularity.bytes_of(first..end, range.end());
            let start = clear.start().max(offset);
            part = ByteRange::new(start, clear.end() - start);
        }
        (!part.is_empty()).then_some(part)
    }

    /// Marks what the point has in `hole`, which reads as zeroes.
    async fn compare_hole(&self, hole: ByteRange, differing: &Bits) -> Result<()> {
        let blocks = self.block.granules_touched(hole);
        let mut next = blocks.start;
        while let Some((stretch, depth)) = self.stretch(next..blocks.end) {
            next = stretch.end;
            if let Some(depth) = depth {
                self.digests[depth]
                    .each(stretch, |index, digest| {
                        if digest != BlockDigest::ZERO {
                            self.mark(index, differing);
                        }
                    })
                    .await?;
            }
        }
        Ok(())
    }

    /// Marks the blocks of `extent`, which has data, that hold something else than at the point.
    async fn compare_data<D: Directory>(
        &self,
        image: &Image<D>,
        extent: ByteRange,
        mut buffer: Buffer,
        differing: &Bits,
    ) -> Result<Buffer> {
        let mut offset = extent.start();
        while offset < extent.end() {
            let window = ByteRange::new(offset, extent.end() - offset);
            let window = window.clip(offset + buffer.len() as u64);
            let length = usize::try_from(window.length()).expect("within the buffer");
            buffer = image.read(offset, buffer.narrow(0..length)).await?;
            let stored = self.stored(self.block.granules_touched(window)).await?;
            for ((index, bytes), stored) in blocks(self.block, offset, &buffer).zip(stored) {
                if self.differs(index, bytes, stored).await? {
                    self.mark(index, differing);
                }
            }
            buffer = buffer.widen();
            offset = window.end();
        }
        Ok(buffer)
    }

    /// What the point held of `blocks`, which are few.
    async fn stored(&self, blocks: Range<u64>) -> Result<Vec<Stored>> {
        let mut stored = Vec::new();
        while let Some((stretch, depth)) =
            self.stretch(blocks.start + stored.len() as u64..blocks.end)
        {
            let Some(depth) = depth else {
                stored.extend(stretch.map(|_| Stored { digest: BlockDigest::ZERO, end: 0 }));
                continue;
            };
            let size = self.image.chain().layer(depth).size;
            let digests = self.digests[depth].of(stretch.clone()).await?;
            stored.extend(stretch.zip(digests).map(|(index, digest)| Stored {
                digest,
                end: self.block.bytes_of(index..index + 1, size).end(),
            }));
        }
        Ok(stored)
    }

    /// The first of `blocks` that have their digests in one place: the layer, or none if they are
    /// zeroes. `None` if there are no blocks.
    fn stretch(&self, blocks: Range<u64>) -> Option<(Range<u64>, Option<usize>)> {
        if blocks.is_empty() {
            return None;
        }
        let area = self.block.bytes_of(blocks.clone(), self.image.size());
        let Stretch { length, depth, present } = self.image.chain().locate(area);
        let count = length.div_ceil(self.block.bytes());
        Some((blocks.start..blocks.end.min(blocks.start + count), present.then_some(depth)))
    }

    /// Whether the block `index`, which holds `bytes`, is another than `stored`.
    async fn differs(&self, index: u64, bytes: &[u8], stored: Stored) -> Result<bool> {
        let start = index * self.block.bytes();
        if stored.digest == BlockDigest::ZERO || stored.end == start + bytes.len() as u64 {
            return Ok(BlockDigest::of(bytes) != stored.digest);
        }
        // The disk had another size, and ended in this block: no digest tells of a part of it.
        Ok(*self.image.read(start, Buffer::zeroed(bytes.len())).await? != *bytes)
    }

    fn mark(&self, block: u64, differing: &Bits) {
        let granule = block * self.block.bytes() / self.granularity.bytes();
        differing.set(granule..granule + 1);
    }
}
