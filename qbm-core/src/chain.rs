//! A data image and the images behind it, for reading.
//!
//! Where the allocation bitmap of a layer has no bit, the bytes are those of the layer behind it,
//! and past the end of that one, or where there is none, they are zeroes.

use crate::bits::Bits;
use crate::{Buffer, ByteRange, Granularity, Result, Storage, error::Error};

/// The most layers of a chain.
pub(crate) const MAX_LAYERS: usize = 32;

/// One image of a chain.
#[derive(Debug)]
pub(crate) struct Layer<F> {
    /// The name of the data image, for messages.
    pub(crate) name: String,
    /// The data image.
    pub(crate) data: F,
    /// Size of its disk in bytes.
    pub(crate) size: u64,
    /// Which clusters are in the data image; `None` means all.
    pub(crate) allocation: Option<Allocation>,
}

/// An allocation bitmap in memory.
#[derive(Debug)]
pub(crate) struct Allocation {
    /// The size of a cluster.
    pub(crate) cluster: Granularity,
    /// One bit a cluster.
    pub(crate) bits: Bits,
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
    /// The layer that has them, from 0 at the top; `None`: no layer has them, they are zeroes.
    pub(crate) depth: Option<usize>,
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

    /// The layer at `depth`.
    pub(crate) fn layer(&self, depth: usize) -> &Layer<F> {
        &self.layers[depth]
    }

    /// Whether every byte is in the data image of the top layer.
    pub(crate) fn is_flat(&self) -> bool {
        self.layers[0].allocation.is_none()
    }

    /// Where the first bytes of `range` are. `range` is not empty.
    pub(crate) fn locate(&self, mut range: ByteRange) -> Stretch {
        for (depth, layer) in self.layers.iter().enumerate() {
            if range.start() >= layer.size && depth > 0 {
                return Stretch { length: range.length(), depth: None };
            }
            if depth > 0 {
                range = range.clip(layer.size);
            }
            let Some(Allocation { cluster, bits }) = &layer.allocation else {
                return Stretch { length: range.length(), depth: Some(depth) };
            };
            let clusters = cluster.granules_touched(range);
            let present = bits.get(clusters.start);
            // No further than the range reaches, however long the run is.
            let end =
                if present { bits.next_clear_in(clusters) } else { bits.next_set_in(clusters) };
            let end = end.and_then(|end| end.checked_mul(cluster.bytes()));
            range = range.clip(end.unwrap_or(range.end()));
            if present {
                return Stretch { length: range.length(), depth: Some(depth) };
            }
        }
        Stretch { length: range.length(), depth: None }
    }

    /// Fills `buffer` from `offset` of the disk.
    pub(crate) async fn read_at(&self, offset: u64, buffer: Buffer) -> Result<Buffer> {
        if self.is_flat() {
            return self.read_layer(0, offset, buffer).await;
        }
        let whole = buffer.len();
        let mut buffer = buffer;
        let mut done = 0;
        while done < whole {
            let left = ByteRange::new(offset + done as u64, (whole - done) as u64);
            let stretch = self.locate(left);
            let end = done + usize::try_from(stretch.length).expect("within the buffer");
            buffer = buffer.narrow(done..end);
            buffer = match stretch.depth {
                Some(depth) => self.read_layer(depth, left.start(), buffer).await?,
                None => {
                    buffer.fill(0);
                    buffer
                }
            };
            buffer = buffer.widen();
            done = end;
        }
        Ok(buffer)
    }

    async fn read_layer(&self, depth: usize, offset: u64, buffer: Buffer) -> Result<Buffer> {
        let layer = &self.layers[depth];
        layer.data.read_at(offset, buffer).await.map_err(Error::io(&layer.name, "read"))
    }
}
