//! Putting a point back: onto a new file, or over a disk by writing only what differs.

use super::contents::SECTOR;
use super::{Progress, WINDOW};
use crate::zeroes::is_zero;
use crate::{Buffer, ByteRange, Directory, Error, Image, Persist, Result, Storage, Unmap};

/// Where a point is put.
#[derive(Debug)]
pub enum Sink<'a, D: Directory> {
    /// A plain file or device.
    File(&'a D::File),
    /// An image, whose bitmaps then mark what is written.
    Image(&'a Image<D>),
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// Everything that is not zero, to a sink that reads as zeroes.
    ToEmpty,
    /// Everything, whatever the sink holds.
    All,
    /// What differs from what the sink holds.
    Changed,
}

/// What a restore did, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The size of the disk.
    pub size: u64,
    /// Written to the sink, zeroes included.
    pub written: u64,
}

/// Writes the disk of `point` to `sink`, which is at least as long, and makes it durable.
///
/// # Errors
///
/// Any error of either side; the sink then holds a mixture.
pub async fn restore<P: Directory, D: Directory>(
    point: &Image<P>,
    sink: Sink<'_, D>,
    writing: Writing,
    progress: &mut dyn FnMut(Progress),
) -> Result<Restored> {
    let size = point.size();
    let mut restored = Restored { size, written: 0 };
    let mut offset = 0;
    while offset < size {
        let rest = ByteRange::new(offset, size - offset);
        let extent = point.block_status(rest).await?;
        let end = offset + extent.length;
        if !extent.data && writing == Writing::ToEmpty {
            offset = end;
            progress(Progress { done: offset, total: size });
        }
        while offset < end {
            let part = ByteRange::new(offset, WINDOW.min(end - offset));
            restored.written += put(point, &sink, (part, extent.data), writing).await?;
            offset = part.end();
            progress(Progress { done: offset, total: size });
        }
    }
    sink.sync().await?;
    Ok(restored)
}

/// Puts `part` of the disk; returns the bytes written.
async fn put<P: Directory, D: Directory>(
    point: &Image<P>,
    sink: &Sink<'_, D>,
    (part, is_data): (ByteRange, bool),
    writing: Writing,
) -> Result<u64> {
    let length = usize::try_from(part.length()).expect("at most a window");
    let wanted = Buffer::zeroed(length);
    let mut wanted = if is_data { point.read(part.start(), wanted).await? } else { wanted };
    let present = match writing {
        Writing::Changed => Some(sink.read(part.start(), Buffer::zeroed(length)).await?),
        Writing::ToEmpty | Writing::All => None,
    };
    let mut written = 0;
    for run in differing(&wanted, present.as_deref(), writing) {
        let place = ByteRange::new(part.start() + run.start as u64, run.len() as u64);
        if is_zero(&wanted[run.clone()]) {
            sink.write_zeroes(place).await?;
        } else {
            wanted = sink.write(place.start(), wanted.narrow(run)).await?.widen();
        }
        written += place.length();
    }
    Ok(written)
}

/// The runs of sectors of `wanted` that have to be written; each is all zero or has no zero sector.
fn differing(
    wanted: &[u8],
    present: Option<&[u8]>,
    writing: Writing,
) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<(std::ops::Range<usize>, bool)> = Vec::new();
    for start in (0..wanted.len()).step_by(SECTOR) {
        let end = (start + SECTOR).min(wanted.len());
        let zero = is_zero(&wanted[start..end]);
        let needed = match (writing, present) {
            (Writing::ToEmpty, _) => !zero,
            (Writing::Changed, Some(present)) => present[start..end] != wanted[start..end],
            _ => true,
        };
        match runs.last_mut() {
            _ if !needed => {}
            Some((run, kind)) if run.end == start && *kind == zero => run.end = end,
            _ => runs.push((start..end, zero)),
        }
    }
    runs.into_iter().map(|(run, _)| run).collect()
}

impl<D: Directory> Sink<'_, D> {
    async fn read(&self, offset: u64, buffer: Buffer) -> Result<Buffer> {
        match self {
            Self::File(file) => file.read_at(offset, buffer).await.map_err(io("read")),
            Self::Image(image) => image.read(offset, buffer).await,
        }
    }

    async fn write(&self, offset: u64, buffer: Buffer) -> Result<Buffer> {
        match self {
            Self::File(file) => {
                file.write_at(offset, buffer, Persist::Later).await.map_err(io("write"))
            }
            Self::Image(image) => image.write(offset, buffer, Persist::Later).await,
        }
    }

    async fn write_zeroes(&self, range: ByteRange) -> Result<()> {
        match self {
            Self::File(file) => {
                file.write_zeroes(range, Unmap::Allowed).await.map_err(io("write zeroes"))
            }
            Self::Image(image) => image.write_zeroes(range, Unmap::Allowed).await,
        }
    }

    async fn sync(&self) -> Result<()> {
        match self {
            Self::File(file) => file.sync().await.map_err(io("sync")),
            Self::Image(image) => image.flush().await,
        }
    }
}

fn io(action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    Error::io("the restored disk", action)
}
