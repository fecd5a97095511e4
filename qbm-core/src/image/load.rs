//! From the files of the dirty bitmaps to the bitmaps of an open image.
//!
//! All that are there are opened and read before any that is missing is made: an image that is
//! refused gets no new file.

use std::sync::Arc;

use super::bitmaps::{Held, Tracked};
use super::uses::Uses;
use super::{seal, segment_file};
use crate::bits::Bits;
use crate::descriptor::{self, BitmapKind, Descriptor, Doubt, Durability};
use crate::mutants::{self, Mutant};
use crate::track::segment::{Segment, SegmentFile};
use crate::{Access, Directory, Error, Host, Lock, Result, Storage, directory as names};

/// A segment as it was found.
pub(super) struct Found<F> {
    /// `None`: it is gone.
    file: Option<F>,
    marks: Bits,
    /// Why marks are there that may not have been in the file.
    doubt: Option<Doubt>,
}

/// The dirty bitmaps of `descriptor`.
fn dirty(descriptor: &Descriptor) -> impl Iterator<Item = &descriptor::Bitmap> {
    descriptor.bitmaps.iter().filter(|bitmap| bitmap.kind == BitmapKind::Dirty)
}

/// Opens and reads the segments of the dirty bitmaps, in the order of the descriptor. What is
/// doubtful in a file is marked and noted.
pub(super) async fn find<D: Directory>(
    (directory, image): (&D, &str),
    descriptor: &Descriptor,
    (access, lock): (Access, Option<Lock>),
    size: u64,
    uses: &mut Uses,
) -> Result<Vec<Found<D::File>>> {
    for bitmap in dirty(descriptor) {
        segment_file::check_granules(bitmap.granularity, size)?;
    }
    let granules = |bitmap: &descriptor::Bitmap| {
        bitmap.granularity.granules_of(size) * bitmap.segments.len() as u64
    };
    segment_file::check_together(image, dirty(descriptor).map(granules).sum())?;
    let mut found = Vec::new();
    // A resize that was cut short leaves the bitmaps of the size that was committed.
    let committed = descriptor.size.map_or(size, |committed| committed.min(size));
    for bitmap in dirty(descriptor) {
        let expected = bitmap.granularity.granules_of(committed).div_ceil(8);
        for name in bitmap.files() {
            let file = open(directory, name, access).await?;
            if let Some(file) = &file {
                uses.note(name, file).await?;
                if let Some(lock) = lock {
                    file.lock(lock).await.map_err(Error::io(name, "lock"))?;
                }
            }
            let marks = Bits::new(bitmap.granularity.granules_of(size));
            let doubt = match &file {
                Some(file) => {
                    let doubt = segment_file::load(file, &marks, expected).await;
                    let doubt = doubt.map_err(Error::io(name, "read"))?;
                    let state = (name, descriptor.generation);
                    let damaged = match descriptor.seal_of(bitmap) {
                        Some(seal) => seal::check(directory, seal, state, &marks, uses).await,
                        None => Ok(None),
                    };
                    // Not a reason to refuse a disk whose data and marks are there.
                    let damaged = damaged.unwrap_or_else(|_| {
                        marks.set_all();
                        Some(Doubt::SealDamaged)
                    });
                    doubt.or(damaged)
                }
                None => {
                    marks.set_all();
                    Some(Doubt::SegmentMissing)
                }
            };
            found.push(Found { file, marks, doubt });
        }
    }
    Ok(found)
}

/// Opens a segment, or finds that it is gone and may be made anew.
async fn open<D: Directory>(directory: &D, name: &str, access: Access) -> Result<Option<D::File>> {
    let opened = match access {
        Access::Read => directory.open(name, access).await.map(Some),
        Access::Write => names::open_if_there(directory, name, access).await,
    };
    opened.map_err(Error::io(name, "open"))
}

/// The dirty bitmaps of a disk of `size` bytes, of which `found` are the segments. Those that are
/// gone get a new file under another name.
pub(super) async fn bitmaps<D: Directory>(
    (directory, image, host): (&D, &str, &dyn Host),
    descriptor: &Descriptor,
    found: Vec<Found<D::File>>,
    size: u64,
) -> Result<Vec<Tracked<D::File>>> {
    // Longer than it was at the last commit: a resize was cut short, or a stranger made it.
    let grown_from = descriptor.size.filter(|committed| *committed < size);
    let relaxed = descriptor.durability == Durability::Close;
    let mut found = found.into_iter();
    let mut bitmaps = Vec::new();
    for bitmap in dirty(descriptor) {
        let mut tracked = Tracked {
            name: bitmap.name.clone(),
            granularity: bitmap.granularity,
            segments: Vec::new(),
            disabled: bitmap.disabled,
            doubt: bitmap.doubt,
            busy: None,
        };
        for (reference, Found { file, marks, doubt }) in bitmap.segments.iter().zip(&mut found) {
            let forgotten = mutants::planted(Mutant::FrozenForgotten) && reference.point.is_some();
            let marks = if forgotten { Bits::new(marks.len()) } else { marks };
            if let Some(committed) = grown_from {
                // Also in the last byte that the file has, and in a granule that was partial.
                marks.set(committed / bitmap.granularity.bytes()..marks.len());
            }
            let file = match file {
                Some(file) => SegmentFile { name: reference.file.clone(), file },
                None => {
                    let name = segment_file::fresh_name(image, &bitmap.name, "bits", host);
                    let file =
                        segment_file::create_file(directory, &name, marks.file_len()).await?;
                    SegmentFile { name, file }
                }
            };
            let segment = Segment::holding(&bitmap.name, bitmap.granularity, marks, file);
            if doubt == Some(Doubt::SegmentExcess) {
                // Not a file of ours to write to: the marks go on in a new one.
                segment.poison();
            }
            tracked.doubt = doubt.or(tracked.doubt);
            let segment = Arc::new(segment.relaxed(relaxed));
            tracked.segments.push(Held { segment, point: reference.point });
        }
        bitmaps.push(tracked);
    }
    Ok(bitmaps)
}
