//! A data image and the images behind it, for reading.
//!
//! Where the allocation bitmap of a layer has no bit, the bytes are those of the layer behind it,
//! and past the end of that one, or where there is none, they are zeroes.

use std::ops::Range;
use std::sync::Arc;

use crate::bits::Bits;
use crate::descriptor::{ImageRef, Point};
use crate::sync::{ArcSwap, CountedArc, Guard};
use crate::{Buffer, ByteRange, Granularity, Result, Storage, error::Error};

/// The most layers of a chain.
pub const MAX_LAYERS: usize = 32;

/// One image of a chain.
#[derive(Debug)]
pub(crate) struct Layer<F> {
    /// The name of the data image, for messages.
    pub(crate) name: String,
    /// Itself, as a descriptor beside that of the top names it.
    pub(crate) image: ImageRef,
    /// The data image.
    pub(crate) data: F,
    /// Size of its disk in bytes.
    pub(crate) size: u64,
    /// Which clusters are in the data image; `None` means all.
    pub(crate) allocation: Option<Arc<Allocation>>,
    /// The backup point that it is, if it is one.
    pub(crate) point: Option<Point>,
}

/// An allocation bitmap in memory. Of the top layer it may change while it is read.
#[derive(Debug)]
pub(crate) struct Allocation {
    /// The size of a cluster.
    pub(crate) cluster: Granularity,
    /// One bit a cluster: whoever sees it set finds the whole cluster in the data image.
    bits: ArcSwap<Bits>,
}

impl Allocation {
    pub(crate) fn new(cluster: Granularity, bits: Bits) -> Self {
        Self { cluster, bits: ArcSwap::new(CountedArc::new(bits)) }
    }

    /// The bits as of now.
    pub(crate) fn bits(&self) -> Guard<CountedArc<Bits>> {
        self.bits.load()
    }

    /// Puts others in their place, of another length perhaps.
    pub(crate) fn replace(&self, bits: Bits) {
        self.bits.swap(CountedArc::new(bits));
    }

    /// Whether the same clusters are in the data image as by `other`.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.cluster == other.cluster && self.bits().areas().eq(other.bits().areas())
    }

    /// The first of `range` that are alike, and whether they are in the data image. What the bits do
    /// not reach, because the disk has just been cut, is not.
    fn first_stretch(&self, range: ByteRange) -> (ByteRange, bool) {
        let bits = self.bits();
        let Range { start, end } = self.cluster.granules_touched(range);
        let clusters = start.min(bits.len())..end.min(bits.len());
        if clusters.is_empty() {
            return (range, false);
        }
        let present = bits.get(clusters.start);
        // No further than the range reaches, however long the run is.
        let next = if present { bits.next_clear_in(clusters) } else { bits.next_set_in(clusters) };
        let reach = next.unwrap_or(if end > bits.len() { bits.len() } else { end });
        let reach = reach.checked_mul(self.cluster.bytes()).unwrap_or(range.end());
        (range.clip(reach), present)
    }
}

/// Layers from the top to the base; at least one.
#[derive(Debug)]
pub(crate) struct Chain<F> {
    layers: Vec<Layer<F>>,
}

/// Where the first bytes of a range are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// How many bytes are there together.
    pub(crate) length: u64,
    /// The layer that answers for them, from 0 at the top: the last one that reaches so far.
    pub(crate) depth: usize,
    /// Whether that layer has them; otherwise they are zeroes.
    pub(crate) present: bool,
}

impl<F: Storage> Chain<F> {
    /// A chain of `layers`, top first.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub(crate) fn new(layers: Vec<Layer<F>>) -> Self {
        assert!(!layers.is_empty(), "a chain has a top");
        Self { layers }
    }

    /// The data image of the top layer.
    pub(crate) fn data(&self) -> &F {
        &self.layers[0].data
    }

    /// The name of the data image of the top layer.
    pub(crate) fn data_name(&self) -> &str {
        &self.layers[0].name
    }

    /// All layers, from the top to the base.
    pub(crate) fn layers(&self) -> &[Layer<F>] {
        &self.layers
    }

    /// The layer at `depth`.
    pub(crate) fn layer(&self, depth: usize) -> &Layer<F> {
        &self.layers[depth]
    }

    /// Where the first bytes of `range` are. `range` is not empty.
    pub(crate) fn locate(&self, range: ByteRange) -> Stretch {
        self.locate_from(0, range)
    }

    /// The same for the disk that the layers from `top` on make.
    fn locate_from(&self, top: usize, mut range: ByteRange) -> Stretch {
        let mut last = top;
        for (depth, layer) in self.layers.iter().enumerate().skip(top) {
            if depth > 0 {
                if range.start() >= layer.size {
                    break;
                }
                range = range.clip(layer.size);
            }
            let (first, present) = match &layer.allocation {
                Some(allocation) => allocation.first_stretch(range),
                None => (range, true),
            };
            range = first;
            last = depth;
            if present {
                return Stretch { length: range.length(), depth, present };
            }
        }
        Stretch { length: range.length(), depth: last, present: false }
    }

    /// Fills `buffer` from `offset` of the disk.
    pub(crate) async fn read_at(&self, offset: u64, buffer: Buffer) -> Result<Buffer> {
        if self.layers[0].allocation.is_none() {
            return self.read_layer(0, offset, buffer).await;
        }
        self.read_from(0, offset, buffer).await
    }

    /// Fills `buffer` from `offset` of what is behind the top layer.
    pub(crate) async fn read_behind(&self, offset: u64, buffer: Buffer) -> Result<Buffer> {
        self.read_from(1, offset, buffer).await
    }

    async fn read_from(&self, top: usize, offset: u64, mut buffer: Buffer) -> Result<Buffer> {
        let window = buffer.window();
        let mut left = ByteRange::new(offset, window.len() as u64);
        let mut done = window.start;
        while !left.is_empty() {
            let stretch = self.locate_from(top, left);
            let end = done + usize::try_from(stretch.length).expect("within the buffer");
            buffer = buffer.narrow(done..end);
            if stretch.present {
                buffer = self.read_layer(stretch.depth, left.start(), buffer).await?;
            } else {
                buffer.fill(0);
            }
            left = left.skip(stretch.length);
            done = end;
        }
        Ok(buffer.narrow(window))
    }

    async fn read_layer(&self, depth: usize, offset: u64, buffer: Buffer) -> Result<Buffer> {
        let layer = &self.layers[depth];
        layer.data.read_at(offset, buffer).await.map_err(Error::io(&layer.name, "read"))
    }
}
