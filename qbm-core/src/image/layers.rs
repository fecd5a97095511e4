//! Opening the data image and what is behind it.

use std::sync::Arc;

use crate::bits::Bits;
use crate::chain::{Allocation, Chain, Layer, MAX_LAYERS};
use crate::descriptor::{Descriptor, Format, ImageRef, MAX_DESCRIPTOR_BYTES, beside};
use crate::track::segment::SegmentFile;
use crate::units::MAX_SIZE;
use crate::{Access, Directory, Error, Lock, Result, Storage, directory as names};

use super::uses::Uses;
use super::{seal, segment_file};

/// Reads and checks the descriptor `name`; returns its file too.
pub(super) async fn read_descriptor<D: Directory>(
    directory: &D,
    name: &str,
) -> Result<(Descriptor, D::File)> {
    let file = directory.open(name, Access::Read).await.map_err(Error::io(name, "open"))?;
    let text = names::read_whole(&file, MAX_DESCRIPTOR_BYTES).await;
    let text = text.map_err(Error::io(name, "read"))?;
    let descriptor = Descriptor::parse(&text).map_err(Error::descriptor(name))?;
    Ok((descriptor, file))
}

/// The layers of an image, and the allocation bitmap's file where it is open for writing.
pub(super) struct Opened<F> {
    pub(super) chain: Chain<F>,
    pub(super) allocation: Option<SegmentFile<F>>,
}

/// What the layers of an image are for, and how they are locked.
#[derive(Clone, Copy)]
pub(super) struct How {
    /// The top one.
    pub(super) top: (Access, Option<Lock>),
    /// Those behind it, which are always for reading; this is what the top is for as they see it.
    pub(super) behind: (Access, Option<Lock>),
}

/// Opens the allocation bitmap of `descriptor`, whose data image is `data`, and what is behind it.
///
/// `uses` has the files of the top layer, and gets those behind it.
pub(super) async fn open_chain<D: Directory>(
    directory: &D,
    (name, descriptor): (&str, &Descriptor),
    data: D::File,
    how: How,
    uses: &mut Uses,
) -> Result<Opened<D::File>> {
    let top = (name, descriptor);
    let (layer, allocation) = open_layer(directory, top, data, how.top, uses).await?;
    let mut layers = vec![layer];
    if let Some(backing) = descriptor.backing() {
        open_behind(directory, (name, backing), how.behind, (&mut layers, uses)).await?;
    }
    Ok(Opened { chain: Chain::new(layers), allocation })
}

/// Appends to `layers` the image `backing` of the descriptor `name`, and what is behind that, all for
/// reading. `access` is what the top layer is for.
pub(super) async fn open_behind<D: Directory>(
    directory: &D,
    (name, backing): (&str, &ImageRef),
    (access, lock): (Access, Option<Lock>),
    (layers, uses): (&mut Vec<Layer<D::File>>, &mut Uses),
) -> Result<()> {
    let lock = lock.map(|_| Lock::Read);
    let mut next = Some((name.to_owned(), backing.clone()));
    while let Some((name, backing)) = next.take() {
        check_room_above(&name, layers)?;
        let behind = beside(&name, &backing.file);
        match backing.format {
            Format::Raw => {
                let data = open_locked(directory, &behind, (Access::Read, lock), uses).await?;
                let size = size_of(&behind, &data).await?;
                let image = ImageRef { file: behind.clone(), format: Format::Raw };
                let (allocation, point) = (None, None);
                layers.push(Layer { name: behind, image, data, size, allocation, point });
            }
            Format::Qbm => {
                let (descriptor, file) = read_descriptor(directory, &behind).await?;
                uses.note(&behind, &file).await?;
                if access == Access::Write && descriptor.in_use.is_some() {
                    // What a crash left of it may still be lost, and an overlay would show that.
                    let what = "it is behind another image, and was not closed cleanly: \
                                repair it first, with 'qbm check -r all'";
                    return Err(Error::unusable(&behind, what));
                }
                let data = beside(&behind, &descriptor.image.file);
                let data = open_locked(directory, &data, (Access::Read, lock), uses).await?;
                let top = (behind.as_str(), &descriptor);
                let how = (Access::Read, lock);
                layers.push(open_layer(directory, top, data, how, uses).await?.0);
                next = descriptor.backing().cloned().map(|backing| (behind, backing));
            }
        }
    }
    Ok(())
}

/// Refuses one more layer than `layers` where they are as many as can be.
pub(super) fn check_room_above<F>(name: &str, layers: &[Layer<F>]) -> Result<()> {
    if layers.len() < MAX_LAYERS {
        return Ok(());
    }
    let what = format!("more than {MAX_LAYERS} images are behind each other");
    Err(Error::unusable(name, what))
}

/// The layer of one descriptor, and for writing the file of its allocation bitmap.
async fn open_layer<D: Directory>(
    directory: &D,
    (name, descriptor): (&str, &Descriptor),
    data: D::File,
    (access, lock): (Access, Option<Lock>),
    uses: &mut Uses,
) -> Result<(Layer<D::File>, Option<SegmentFile<D::File>>)> {
    let file = beside(name, &descriptor.image.file);
    let length = size_of(&file, &data).await?;
    let image = ImageRef { file: name.to_owned(), format: Format::Qbm };
    let point = descriptor.point.clone();
    let Some(bitmap) = descriptor.allocation() else {
        let allocation = None;
        return Ok((Layer { name: file, image, data, size: length, allocation, point }, None));
    };
    let size = overlay_size(name, descriptor, length)?;
    segment_file::check_granules(bitmap.granularity, size)?;
    let bits = Bits::new(bitmap.granularity.granules_of(size));
    let mut last = None;
    for segment in &bitmap.segments {
        let top = name;
        let name = beside(top, &segment.file);
        let opened = open_locked(directory, &name, (access, lock), uses).await?;
        let doubt = segment_file::load(&opened, &bits, bits.file_len()).await;
        // There is no safe guess in place of one that is damaged.
        if let Some(doubt) = doubt.map_err(Error::io(&name, "read"))? {
            return Err(Error::unusable(&name, doubt.sentence()));
        }
        if let Some(seal) = descriptor.seal_of(bitmap).map(|seal| beside(top, seal)) {
            let state = (segment.file.as_str(), descriptor.generation);
            if let Some(doubt) = seal::check(directory, &seal, state, &bits, uses).await? {
                let what = doubt.sentence();
                let what = format!("{what}; if the bitmap is known to be right, remove {seal}");
                return Err(Error::unusable(&name, what));
            }
        }
        last = Some(SegmentFile { name: segment.file.clone(), file: opened });
    }
    let allocation = Some(Arc::new(Allocation::new(bitmap.granularity, bits)));
    let last = last.filter(|_| access == Access::Write);
    Ok((Layer { name: file, image, data, size, allocation, point }, last))
}

/// The size of the disk of an image with an allocation bitmap, whose data image has `length` bytes.
fn overlay_size(name: &str, descriptor: &Descriptor, length: u64) -> Result<u64> {
    match descriptor.size {
        // A resize that was cut short: the data was made longer, or not yet cut, and the bitmap is
        // that of the size that was committed.
        Some(size) if size < length && descriptor.in_use.is_some() => Ok(size),
        Some(size) if size != length => {
            let what =
                format!("the data image has {length} bytes, and not what the descriptor says");
            Err(Error::unusable(name, what))
        }
        _ => Ok(length),
    }
}

async fn open_locked<D: Directory>(
    directory: &D,
    name: &str,
    (access, lock): (Access, Option<Lock>),
    uses: &mut Uses,
) -> Result<D::File> {
    let file = directory.open(name, access).await.map_err(Error::io(name, "open"))?;
    uses.note(name, &file).await?;
    if let Some(lock) = lock {
        file.lock(lock).await.map_err(Error::io(name, "lock"))?;
    }
    Ok(file)
}

/// The size of the disk in `data`, in bytes.
pub(super) async fn size_of<F: Storage>(name: &str, data: &F) -> Result<u64> {
    match data.len().await.map_err(Error::io(name, "stat"))? {
        size if size <= MAX_SIZE => Ok(size),
        size => Err(Error::unusable(name, format!("{size} bytes are more than a disk can have"))),
    }
}
