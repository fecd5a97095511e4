//! What is where on the disk.

use super::Image;
use crate::bits::{Bits, runs_of_union};
use crate::chain::Stretch;
use crate::{ByteRange, Directory, Error, Granularity, Result, Storage};

/// A stretch of the disk that is alike, in the terms of `qemu-img map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its first byte.
    pub start: u64,
    /// Its bytes; at least one.
    pub length: u64,
    /// The layer that answers for it, from 0 at the top: the last one that reaches so far.
    pub depth: usize,
    /// Whether a layer has it; otherwise it reads as zeroes because none does.
    pub present: bool,
    /// Whether it may read as something else than zeroes.
    pub data: bool,
}

/// A stretch of the disk that a bitmap marks wholly, or nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkedExtent {
    /// Its bytes; at least one.
    pub length: u64,
    /// Whether its granules are marked.
    pub marked: bool,
}

impl<D: Directory> Image<D> {
    /// The name of the data image of the layer at `depth`, from 0 at the top.
    ///
    /// # Panics
    ///
    /// If there is no such layer.
    pub fn layer_name(&self, depth: usize) -> &str {
        &self.chain.layer(depth).name
    }

    /// What the first bytes of `range` are, as far as they are alike. `range` is not empty.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`], or an error of the storage.
    pub async fn block_status(&self, range: ByteRange) -> Result<Extent> {
        let size = self.size();
        if range.end() > size || range.is_empty() {
            return Err(Error::OutOfRange { range, size });
        }
        let start = range.start();
        let Stretch { length, depth, present } = self.chain.locate(range);
        if !present {
            return Ok(Extent { start, length, depth, present, data: false });
        }
        let layer = self.chain.layer(depth);
        let there = ByteRange::new(start, length);
        let status = layer.data.block_status(there).await.map_err(Error::io(&layer.name, "map"))?;
        let length = status.length.clamp(1, length);
        Ok(Extent { start, length, depth, present, data: status.data })
    }

    /// What the bitmap `name` marks of `range`: the first `most` extents, which follow each other
    /// from its start. `range` is not empty. Writes go on meanwhile; what was complete when the
    /// call began is marked.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`], [`Error::BitmapNotFound`].
    pub async fn marked_extents(
        &self,
        name: &str,
        range: ByteRange,
        most: usize,
    ) -> Result<Vec<MarkedExtent>> {
        let control = self.control.lock().await;
        let size = self.size();
        if range.end() > size || range.is_empty() {
            return Err(Error::OutOfRange { range, size });
        }
        let bitmap = control.bitmap(name)?;
        let layers: Vec<&Bits> = bitmap.segments.iter().map(|held| &held.segment.wanted).collect();
        Ok(marked_extents(&layers, bitmap.granularity, range, most))
    }
}

/// What the union of `layers` marks of `range`: the first `most` extents.
pub(super) fn marked_extents(
    layers: &[&Bits],
    granularity: Granularity,
    range: ByteRange,
    most: usize,
) -> Vec<MarkedExtent> {
    let runs = runs_of_union(layers, granularity.granules_touched(range)).take(most);
    let extents = runs.map(|run| {
        let bytes = granularity.bytes_of(run.bits, range.end());
        let length = bytes.end() - bytes.start().max(range.start());
        MarkedExtent { length, marked: run.set }
    });
    extents.collect()
}
