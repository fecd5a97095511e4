//! Opening the data image and what is behind it.

use crate::bits::Bits;
use crate::chain::{Allocation, Chain, Layer, MAX_LAYERS};
use crate::descriptor::{BitmapKind, Descriptor, Format, ImageRef, MAX_DESCRIPTOR_BYTES};
use crate::units::MAX_SIZE;
use crate::{Access, Directory, Error, Lock, Result, Storage, directory as names};

use super::segment_file;
use super::uses::Uses;

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

/// Opens what is behind `top`, the data image of `descriptor`, for reading.
///
/// `uses` has the files of the top layer, and gets those behind it.
pub(super) async fn open_chain<D: Directory>(
    directory: &D,
    (name, descriptor): (&str, &Descriptor),
    top: D::File,
    lock: Option<Lock>,
    uses: &mut Uses,
) -> Result<Chain<D::File>> {
    let mut layers = Vec::new();
    let mut next = Some((name.to_owned(), descriptor.clone(), Some(top)));
    while let Some((name, descriptor, data)) = next.take() {
        if layers.len() == MAX_LAYERS {
            let what = format!("more than {MAX_LAYERS} images are behind each other");
            return Err(Error::unusable(&name, what));
        }
        let file = beside(&name, &descriptor.image.file);
        let data = match data {
            Some(data) => data,
            None => open_locked(directory, &file, lock, uses).await?,
        };
        let size = size_of(&file, &data).await?;
        let top = (name.as_str(), &descriptor);
        let allocation = load_allocation(directory, top, (size, lock), uses).await?;
        layers.push(Layer { name: file, data, size, allocation });
        let Some(backing) = backing_of(&descriptor) else { break };
        let behind = beside(&name, &backing.file);
        match backing.format {
            Format::Raw => {
                let data = open_locked(directory, &behind, lock, uses).await?;
                let size = size_of(&behind, &data).await?;
                layers.push(Layer { name: behind, data, size, allocation: None });
            }
            Format::Qbm => {
                let (descriptor, file) = read_descriptor(directory, &behind).await?;
                uses.note(&behind, &file).await?;
                next = Some((behind, descriptor, None));
            }
        }
    }
    Ok(Chain::new(layers))
}

fn backing_of(descriptor: &Descriptor) -> Option<&ImageRef> {
    match &descriptor.allocation()?.kind {
        BitmapKind::Allocation { backing } => backing.as_ref(),
        BitmapKind::Dirty => None,
    }
}

/// The name `file` as the descriptor `name` means it: beside itself.
fn beside(name: &str, file: &str) -> String {
    match name.rsplit_once('/') {
        Some((folder, _)) if !file.starts_with('/') => format!("{folder}/{file}"),
        _ => file.to_owned(),
    }
}

async fn open_locked<D: Directory>(
    directory: &D,
    name: &str,
    lock: Option<Lock>,
    uses: &mut Uses,
) -> Result<D::File> {
    let file = directory.open(name, Access::Read).await.map_err(Error::io(name, "open"))?;
    uses.note(name, &file).await?;
    if lock.is_some() {
        file.lock(Lock::Read).await.map_err(Error::io(name, "lock"))?;
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

/// Reads the allocation bitmap. There is no safe guess in place of one that is damaged.
async fn load_allocation<D: Directory>(
    directory: &D,
    (name, descriptor): (&str, &Descriptor),
    (size, lock): (u64, Option<Lock>),
    uses: &mut Uses,
) -> Result<Option<Allocation>> {
    let Some(bitmap) = descriptor.allocation() else { return Ok(None) };
    if descriptor.size.is_some_and(|expected| expected != size) {
        let what = format!("the data image has {size} bytes, and not what the descriptor says");
        return Err(Error::unusable(name, what));
    }
    segment_file::check_granules(bitmap.granularity, size)?;
    let bits = Bits::new(bitmap.granularity.granules_of(size));
    for segment in &bitmap.segments {
        let file = beside(name, &segment.file);
        let opened = open_locked(directory, &file, lock, uses).await?;
        let doubt = segment_file::load(&opened, &bits, bits.file_len()).await;
        let doubt = doubt.map_err(Error::io(&file, "read"))?;
        if let Some(doubt) = doubt {
            return Err(Error::unusable(&file, doubt.sentence()));
        }
    }
    Ok(Some(Allocation { cluster: bitmap.granularity, bits }))
}
