//! Verifying a point: its contents by their digests, and its chain down to a full point.

use std::sync::Arc;

use super::digests::{BlockDigest, Digests, PointDigest, blocks};
use super::points::{PointEntry, Points};
use super::{Progress, WINDOW};
use crate::image::OpenOptions;
use crate::{
    Access, Buffer, ByteRange, Directory, Error, Granularity, Host, Image, Result, Storage,
};

/// The most damaged areas of a point that are told.
pub const MAX_AREAS: usize = 1000;

/// What is wrong with a point.
#[derive(Debug)]
#[non_exhaustive]
pub enum Finding {
    /// Its contents are not those that were stored.
    Damaged {
        /// Where, in ascending order, as far as the digests of its blocks can tell: the first
        /// [`MAX_AREAS`]. None if they are damaged too, or if it is the allocation bitmap.
        areas: Vec<ByteRange>,
    },
    /// The digests of its blocks are damaged or gone. Its contents are whole.
    DigestsDamaged,
    /// The point before it is not in the target.
    ParentMissing,
    /// It, or a point behind it, cannot be opened.
    Unusable(Error),
}

/// Verifies the point `entry`, but not the contents of those behind it.
///
/// # Errors
///
/// What could not be read at all is a [`Finding`]; an error is one of `target` itself.
pub async fn verify<T: Directory + Clone>(
    target: &T,
    (points, entry): (&Points, &PointEntry),
    host: &Arc<dyn Host>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<Finding>> {
    if entry.point.parent.is_some_and(|parent| points.by_id(parent).is_none()) {
        return Ok(Some(Finding::ParentMissing));
    }
    let options = OpenOptions::new(Access::Read);
    let opened = Image::open(target.clone(), &entry.descriptor(), options, Arc::clone(host)).await;
    let image = match opened {
        Ok(image) => image,
        Err(error) => return Ok(Some(Finding::Unusable(error))),
    };
    Ok(look_at(&image, entry, progress)
        .await
        .unwrap_or_else(|error| Some(Finding::Unusable(error))))
}

async fn look_at<T: Directory>(
    image: &Image<T>,
    entry: &PointEntry,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<Finding>> {
    let (name, data, allocation) = image.top_layer();
    let allocation = allocation.as_deref();
    let digests = Digests::open_sound(image.directory(), &entry.point, (image.size(), allocation));
    let digests = digests.await.ok();
    let block = entry.point.block;
    let found = PointDigest::new(block);
    let mut scan = Scan { block, size: image.size(), digests, found, areas: Vec::new() };
    scan.run((name, data), progress).await?;
    let is_whole = scan.found.finish(allocation) == entry.point.digest;
    Ok(match (is_whole, scan.digests) {
        (true, Some(_)) => None,
        (true, None) => Some(Finding::DigestsDamaged),
        (false, _) => Some(Finding::Damaged { areas: scan.areas }),
    })
}

/// A look at all of a data image.
struct Scan<F> {
    block: Granularity,
    /// The size of the disk in bytes.
    size: u64,
    /// What its blocks had when they were stored, if that is still known.
    digests: Option<Digests<F>>,
    /// The digest that the point has by what is found.
    found: PointDigest,
    /// Where a block is another.
    areas: Vec<ByteRange>,
}

impl<F: Storage> Scan<F> {
    async fn run(
        &mut self,
        (name, data): (&str, &F),
        progress: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        let mut offset = 0;
        let mut data_until = 0;
        while offset < self.size {
            let rest = ByteRange::new(offset, self.size - offset);
            let window = rest.clip(offset + WINDOW);
            if offset >= data_until {
                let status = data.block_status(rest).await.map_err(Error::io(name, "map"))?;
                let end = offset + status.length;
                if status.data {
                    data_until = end;
                } else if end >= window.end() {
                    // On to the window in which the data starts.
                    let hole = rest.clip(if end < self.size { end - end % WINDOW } else { end });
                    self.hole(hole).await?;
                    offset = hole.end();
                    progress(Progress { done: offset, total: self.size });
                    continue;
                }
            }
            let length = usize::try_from(window.length()).expect("a window fits into memory");
            let bytes = data.read_at(offset, Buffer::zeroed(length)).await;
            self.window(offset, &bytes.map_err(Error::io(name, "read"))?).await?;
            offset = window.end();
            progress(Progress { done: offset, total: self.size });
        }
        Ok(())
    }

    /// Takes in a window with data.
    async fn window(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let found: Vec<_> = blocks(self.block, offset, bytes)
            .map(|(index, bytes)| (index, BlockDigest::of(bytes)))
            .collect();
        for (index, digest) in &found {
            self.found.add(*index, *digest);
        }
        let Some(digests) = &self.digests else { return Ok(()) };
        let first = offset / self.block.bytes();
        let stored = digests.of(first..first + found.len() as u64).await?;
        for ((index, found), stored) in found.into_iter().zip(stored) {
            if found != stored {
                self.note(index);
            }
        }
        Ok(())
    }

    /// Takes in a hole.
    async fn hole(&mut self, hole: ByteRange) -> Result<()> {
        let blocks = self.block.granules_touched(hole);
        let mut differing = Vec::new();
        if let Some(digests) = &self.digests {
            digests
                .each(blocks, |index, digest| {
                    if digest != BlockDigest::ZERO && differing.len() < MAX_AREAS {
                        differing.push(index);
                    }
                })
                .await?;
        }
        differing.into_iter().for_each(|index| self.note(index));
        Ok(())
    }

    /// Notes that the block `index` is another.
    fn note(&mut self, index: u64) {
        let block = self.block.bytes_of(index..index + 1, self.size);
        let full = self.areas.len() == MAX_AREAS;
        match self.areas.last_mut() {
            Some(last) if last.end() == block.start() => {
                *last = ByteRange::new(last.start(), block.end() - last.start());
            }
            _ if full => {}
            _ => self.areas.push(block),
        }
    }
}
