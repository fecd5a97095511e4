//! Putting a point back: onto a new file, or over a disk by writing only what differs.

use crate::copy::{Copying, Progress, Writing, copy};
use crate::disk::Disk;
use crate::{Directory, Image, Result};

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
    sink: Disk<'_, D>,
    writing: Writing,
    progress: &mut dyn FnMut(Progress),
) -> Result<Restored> {
    let size = point.size();
    let written = copy(Disk::Image(point), sink, &Copying::all(size, writing), progress).await?;
    Ok(Restored { size, written })
}
