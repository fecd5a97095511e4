//! An image of `qbm-core` as a disk.

use std::io;

use futures_executor::block_on;
use qbm_core::image::MarkedExtent;
use qbm_core::{Buffer, ByteRange, Directory, Error, Image, Persist, Unmap};

use crate::disk::{Context, Disk, Extent, Fault, Pace};
use crate::protocol::{DIRTY, ErrorCode, allocation_flag};

impl<D: Directory> Disk for Image<D> {
    fn size(&self) -> u64 {
        Image::size(self)
    }

    fn read(&self, offset: u64, buffer: Buffer) -> Result<Buffer, Fault> {
        block_on(Image::read(self, offset, buffer)).map_err(|error| fault(&error))
    }

    fn write(&self, offset: u64, buffer: Buffer, persist: Persist) -> Result<Buffer, Fault> {
        block_on(Image::write(self, offset, buffer, persist)).map_err(|error| fault(&error))
    }

    fn may_wait(&self, range: ByteRange) -> bool {
        !self.is_free(range)
    }

    fn write_zeroes(&self, range: ByteRange, unmap: Unmap, pace: Pace) -> Result<(), Fault> {
        refuse_slow(pace, || block_on(self.zeroes_fast(range, unmap)))?;
        block_on(Image::write_zeroes(self, range, unmap)).map_err(|error| fault(&error))
    }

    fn discard(&self, range: ByteRange) -> Result<(), Fault> {
        block_on(Image::discard(self, range)).map_err(|error| fault(&error))
    }

    fn flush(&self) -> Result<(), Fault> {
        block_on(Image::flush(self)).map_err(|error| fault(&error))
    }

    fn extents(
        &self,
        context: &Context,
        range: ByteRange,
        most: usize,
    ) -> Result<Vec<Extent>, Fault> {
        let status = |rest| block_on(self.block_status(rest));
        let marks = |name: &str| block_on(self.marked_extents(name, range, most));
        extents(context, (range, most), status, marks)
    }
}

/// Refuses zeroes that could not be made at `pace`, before anything is marked: what is refused has
/// changed nothing.
pub(crate) fn refuse_slow(pace: Pace, are_fast: impl FnOnce() -> bool) -> Result<(), Fault> {
    if pace == Pace::Fast && !are_fast() {
        let what = "zeroes would have to be written";
        return Err(Fault::of_client(ErrorCode::NotSupported, what));
    }
    Ok(())
}

/// What `range` is in terms of `context`, at most `most` extents: `status` tells what it holds, and `marks`
/// what a bitmap marks.
pub(crate) fn extents(
    context: &Context,
    (range, most): (ByteRange, usize),
    status: impl Fn(ByteRange) -> qbm_core::Result<qbm_core::image::Extent>,
    marks: impl FnOnce(&str) -> qbm_core::Result<Vec<MarkedExtent>>,
) -> Result<Vec<Extent>, Fault> {
    match context {
        Context::Allocation => stretches(status, range, most, allocation_flags),
        Context::AllocationDepth => stretches(status, range, most, depth_flags),
        Context::DirtyBitmap(name) => {
            marks(name).map(|extents| marked(&extents)).map_err(|error| fault(&error))
        }
    }
}

pub(crate) fn allocation_flags(extent: &qbm_core::image::Extent) -> u32 {
    if extent.data { 0 } else { allocation_flag::HOLE | allocation_flag::ZERO }
}

fn depth_flags(extent: &qbm_core::image::Extent) -> u32 {
    if !extent.present {
        return 0;
    }
    u32::try_from(extent.depth + 1).expect("a chain is short")
}

/// What a bitmap marks, in the flags of its context.
fn marked(extents: &[MarkedExtent]) -> Vec<Extent> {
    let flags = |marked| if marked { DIRTY } else { 0 };
    extents.iter().map(|e| Extent { length: e.length, flags: flags(e.marked) }).collect()
}

/// The first stretches of `range`, those joined that `flags` does not tell apart. `status` is asked
/// at most `most` times.
pub(crate) fn stretches(
    status: impl Fn(ByteRange) -> qbm_core::Result<qbm_core::image::Extent>,
    range: ByteRange,
    most: usize,
    flags: impl Fn(&qbm_core::image::Extent) -> u32,
) -> Result<Vec<Extent>, Fault> {
    let mut extents: Vec<Extent> = Vec::new();
    let mut offset = range.start();
    for _ in 0..most {
        if offset == range.end() {
            break;
        }
        let rest = ByteRange::new(offset, range.end() - offset);
        let stretch = status(rest).map_err(|error| fault(&error))?;
        offset += stretch.length;
        let extent = Extent { length: stretch.length, flags: flags(&stretch) };
        match extents.last_mut() {
            Some(last) if last.flags == extent.flags => last.length += extent.length,
            _ => extents.push(extent),
        }
    }
    Ok(extents)
}

/// What a client is told of `error`; the operator is told all of it.
pub(crate) fn fault(error: &Error) -> Fault {
    let (code, what) = match error {
        Error::ReadOnly => (ErrorCode::NotPermitted, "the disk is read-only"),
        Error::OutOfRange { .. } => (ErrorCode::Invalid, "the request is outside the disk"),
        Error::Io { error, .. } if is_full(error) => (ErrorCode::NoSpace, "there is no space left"),
        _ => (ErrorCode::Io, "the storage failed"),
    };
    Fault { code, what, detail: Some(error.to_string()) }
}

/// "Error values" wants these three told as `NBD_ENOSPC`.
fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
