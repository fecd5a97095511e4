//! A disk that moves from one image to another while it is served.

use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_executor::block_on;
use qbm_core::{Buffer, ByteRange, Directory, Error, Image, Persist, Unmap};

use crate::disk::{Context, Disk, Extent, Fault, Pace};
use crate::image::{fault, refuse_slow};

/// Whatever has a disk, and keeps it open for as long as it is held.
pub trait Placed: Send + Sync + 'static {
    /// Where the files of its image are, if it is one.
    type Directory: Directory;

    /// Its disk.
    fn place(&self) -> Place<'_, Self::Directory>;
}

/// Where a disk is.
pub enum Place<'a, D: Directory> {
    /// An image, from which it may move.
    Image(&'a Image<D>),
    /// Elsewhere, where it stays.
    Other(&'a dyn Disk),
}

/// The disk of an image, and another one once it has moved there.
///
/// Whoever moves it does so while the image keeps its writes waiting ([`qbm_core::job::mirror()`]): they
/// are then made on the other one, and no client notices.
pub struct MovingDisk<P> {
    at: ArcSwap<P>,
}

impl<P: Placed> MovingDisk<P> {
    /// The disk of `at`.
    pub fn new(at: Arc<P>) -> Self {
        Self { at: ArcSwap::new(at) }
    }

    /// Whose disk it is now.
    pub fn at(&self) -> Arc<P> {
        self.at.load_full()
    }

    /// Moves it to the disk of `to`, which has the same size.
    pub fn move_to(&self, to: Arc<P>) {
        self.at.store(to);
    }

    /// Does what does not have to be done again if it moves meanwhile.
    fn with<T>(&self, request: impl FnOnce(&dyn Disk) -> T) -> T {
        match self.at.load().place() {
            Place::Image(image) => request(image),
            Place::Other(disk) => request(disk),
        }
    }

    /// Does `request` that changes something, and does it again where the disk has moved to meanwhile.
    /// What it was given to write is given back for that.
    fn change<T>(
        &self,
        mut given: Option<Buffer>,
        request: impl Fn(&Image<P::Directory>, Option<Buffer>) -> Result<T, Error>,
        other: impl FnOnce(&dyn Disk, Option<Buffer>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        loop {
            let at = self.at.load();
            let image = match at.place() {
                Place::Image(image) => image,
                Place::Other(disk) => return other(disk, given),
            };
            match request(image, given) {
                // Unless it is an image that something else has moved from.
                Err(Error::Moved { buffer }) if !Arc::ptr_eq(&at, &self.at.load()) => {
                    given = buffer;
                }
                done => return done.map_err(|error| fault(&error)),
            }
        }
    }
}

/// What there is to write.
fn given(buffer: Option<Buffer>) -> Buffer {
    buffer.expect("a write that is not done gives its buffer back")
}

impl<P: Placed> Disk for MovingDisk<P> {
    fn size(&self) -> u64 {
        self.with(Disk::size)
    }

    fn read(&self, offset: u64, buffer: Buffer) -> Result<Buffer, Fault> {
        self.with(|disk| disk.read(offset, buffer))
    }

    fn write(&self, offset: u64, buffer: Buffer, persist: Persist) -> Result<Buffer, Fault> {
        self.change(
            Some(buffer),
            |image, buffer| block_on(image.write(offset, given(buffer), persist)),
            |disk, buffer| disk.write(offset, given(buffer), persist),
        )
    }

    fn may_wait(&self, range: ByteRange) -> bool {
        self.with(|disk| disk.may_wait(range))
    }

    fn write_zeroes(&self, range: ByteRange, unmap: Unmap, pace: Pace) -> Result<(), Fault> {
        if let Place::Image(image) = self.at.load().place() {
            refuse_slow(pace, || block_on(image.zeroes_fast(range, unmap)))?;
        }
        self.change(
            None,
            |image, _| block_on(image.write_zeroes(range, unmap)),
            |disk, _| disk.write_zeroes(range, unmap, pace),
        )
    }

    fn discard(&self, range: ByteRange) -> Result<(), Fault> {
        self.change(None, |image, _| block_on(image.discard(range)), |disk, _| disk.discard(range))
    }

    fn flush(&self) -> Result<(), Fault> {
        // Where it has moved from, all was durable where it has moved to before it did.
        self.with(Disk::flush)
    }

    fn extents(
        &self,
        context: &Context,
        range: ByteRange,
        most: usize,
    ) -> Result<Vec<Extent>, Fault> {
        self.with(|disk| disk.extents(context, range, most))
    }
}
