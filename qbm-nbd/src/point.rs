//! The disk of a point as a disk to be served, for reading.

use std::sync::Arc;

use futures_executor::block_on;
use qbm_core::image::PointView;
use qbm_core::{Buffer, ByteRange, Directory, Image, Persist, Unmap};

use crate::disk::{Context, Disk, Extent, Fault, Pace};
use crate::image::{extents, fault};
use crate::protocol::ErrorCode;

/// A live point of an image. Once it is settled, reads fail.
#[derive(Debug)]
pub struct PointDisk<D: Directory> {
    image: Arc<Image<D>>,
    view: PointView<D::File>,
}

impl<D: Directory> PointDisk<D> {
    /// The point of `image` that `view` shows.
    pub fn new(image: Arc<Image<D>>, view: PointView<D::File>) -> Self {
        Self { image, view }
    }
}

fn read_only() -> Fault {
    Fault::of_client(ErrorCode::NotPermitted, "the disk is read-only")
}

impl<D: Directory> Disk for PointDisk<D> {
    fn size(&self) -> u64 {
        self.view.size()
    }

    fn read(&self, offset: u64, buffer: Buffer) -> Result<Buffer, Fault> {
        block_on(self.image.read_at_point(&self.view, offset, buffer))
            .map_err(|error| fault(&error))
    }

    fn write(&self, _offset: u64, _buffer: Buffer, _persist: Persist) -> Result<Buffer, Fault> {
        Err(read_only())
    }

    fn may_wait(&self, _range: ByteRange) -> bool {
        false
    }

    fn write_zeroes(&self, _range: ByteRange, _unmap: Unmap, _pace: Pace) -> Result<(), Fault> {
        Err(read_only())
    }

    fn discard(&self, _range: ByteRange) -> Result<(), Fault> {
        Err(read_only())
    }

    fn flush(&self) -> Result<(), Fault> {
        Ok(())
    }

    /// The one bitmap is that of the point, whatever it is called.
    fn extents(
        &self,
        context: &Context,
        range: ByteRange,
        most: usize,
    ) -> Result<Vec<Extent>, Fault> {
        let status = |rest| block_on(self.image.block_status_at_point(&self.view, rest));
        let marks = |_: &str| Ok(self.view.marked_extents(range, most));
        extents(context, (range, most), status, marks)
    }
}
