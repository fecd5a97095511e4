//! A disk that is read or written, whatever keeps it: a plain file or an image.

use crate::image::Extent;
use crate::{Buffer, ByteRange, Directory, Error, Image, Lock, Persist, Result, Storage, Unmap};

/// A disk that is open.
#[derive(Debug)]
pub enum Disk<'a, D: Directory> {
    /// The bytes of the disk and nothing else.
    File {
        /// Its name, for messages.
        name: &'a str,
        /// The file or device.
        file: &'a D::File,
        /// Bytes of it that are the disk.
        size: u64,
    },
    /// An image, whose bitmaps mark what is written.
    Image(&'a Image<D>),
}

// Not derived: a directory need not be `Copy` for a reference to its files to be.
impl<D: Directory> Clone for Disk<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Directory> Copy for Disk<'_, D> {}

impl<D: Directory> Disk<'_, D> {
    /// The size of the disk in bytes.
    pub fn size(self) -> u64 {
        match self {
            Self::File { size, .. } => size,
            Self::Image(image) => image.size(),
        }
    }

    /// What the first bytes of `range` are, as far as they are alike: nothing past the end.
    ///
    /// # Errors
    ///
    /// An error of the storage.
    pub async fn extent(self, range: ByteRange) -> Result<Extent> {
        let start = range.start();
        let there = range.clip(self.size());
        if there.is_empty() {
            let length = range.length();
            return Ok(Extent { start, length, depth: 0, present: false, data: false });
        }
        match self {
            Self::Image(image) => image.block_status(there).await,
            Self::File { name, file, .. } => {
                let status = file.block_status(there).await.map_err(Error::io(name, "map"))?;
                let length = status.length.clamp(1, there.length());
                Ok(Extent { start, length, depth: 0, present: true, data: status.data })
            }
        }
    }

    /// Whether it is the layer of `image` at `depth`; `None` where that cannot be known.
    pub(crate) async fn is_layer_of<I: Directory>(
        self,
        image: &Image<I>,
        depth: usize,
    ) -> Option<bool> {
        match self {
            Self::File { file, .. } => image.is_layer(depth, file).await,
            Self::Image(own) => image.is_layer(depth, own.top_layer().1).await,
        }
    }

    /// How many images it is made of.
    pub(crate) fn layers(self) -> usize {
        match self {
            Self::File { .. } => 1,
            Self::Image(image) => image.layers(),
        }
    }

    /// Whether its layer at `place` is known to be that of `image` at `depth`: the same data image with
    /// the same clusters in it.
    pub(crate) async fn layer_is<I: Directory>(
        self,
        place: usize,
        image: &Image<I>,
        depth: usize,
    ) -> bool {
        match self {
            Self::File { file, size, .. } => image.has_layer(depth, file, (size, None)).await,
            Self::Image(own) => {
                let layer = own.layer(place);
                let contents = (layer.size, layer.allocation.as_deref());
                image.has_layer(depth, &layer.data, contents).await
            }
        }
    }

    /// Locks it, if it is an image its data image.
    pub(crate) async fn lock(self, lock: Lock) -> Result<()> {
        let (name, file) = match self {
            Self::File { name, file, .. } => (name, file),
            Self::Image(image) => (image.top_layer().0, image.top_layer().1),
        };
        file.lock(lock).await.map_err(Error::io(name, "lock"))
    }

    /// Fills `buffer` from `offset`, with zeroes past the end.
    ///
    /// # Errors
    ///
    /// An error of the storage.
    pub async fn read(self, offset: u64, buffer: Buffer) -> Result<Buffer> {
        let whole = buffer.len();
        let there = self.size().saturating_sub(offset).min(whole as u64);
        let there = usize::try_from(there).expect("within the buffer");
        let mut past = buffer.narrow(there..whole);
        past.fill(0);
        let buffer = past.widen().narrow(0..there);
        let buffer = match self {
            _ if there == 0 => buffer,
            Self::File { name, file, .. } => {
                file.read_at(offset, buffer).await.map_err(Error::io(name, "read"))?
            }
            Self::Image(image) => image.read(offset, buffer).await?,
        };
        Ok(buffer.widen().narrow(0..whole))
    }

    /// Writes all of `buffer` at `offset`.
    ///
    /// # Errors
    ///
    /// As for [`Image::write`].
    pub async fn write(self, offset: u64, buffer: Buffer) -> Result<Buffer> {
        match self {
            Self::File { name, file, .. } => {
                let written = file.write_at(offset, buffer, Persist::Later).await;
                written.map_err(Error::io(name, "write"))
            }
            Self::Image(image) => image.write(offset, buffer, Persist::Later).await,
        }
    }

    /// Makes `range` read as zeroes.
    ///
    /// # Errors
    ///
    /// As for [`Image::write`].
    pub async fn write_zeroes(self, range: ByteRange, unmap: Unmap) -> Result<()> {
        match self {
            Self::File { name, file, .. } => {
                file.write_zeroes(range, unmap).await.map_err(Error::io(name, "write zeroes"))
            }
            Self::Image(image) => image.write_zeroes(range, unmap).await,
        }
    }

    /// The disk with `size` bytes, to which it is made longer or cut.
    ///
    /// # Errors
    ///
    /// As for [`Image::resize`].
    pub async fn resized(self, size: u64) -> Result<Self> {
        match self {
            Self::File { name, file, .. } => {
                file.set_len(size).await.map_err(Error::io(name, "resize"))?;
                Ok(Self::File { name, file, size })
            }
            Self::Image(image) => image.resize(size).await.map(|()| self),
        }
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    ///
    /// As for [`Image::flush`].
    pub async fn flush(self) -> Result<()> {
        match self {
            Self::File { name, file, .. } => file.sync().await.map_err(Error::io(name, "sync")),
            Self::Image(image) => image.flush().await,
        }
    }
}
