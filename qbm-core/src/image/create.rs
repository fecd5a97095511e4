//! Creating an image: around a data image that is there, with a new one, or over another image.

use super::uses::Uses;
use super::{layers, segment_file};
use crate::descriptor::{Bitmap, BitmapKind, Descriptor, Durability, Format, ImageRef, SegmentRef};
use crate::units::MAX_SIZE;
use crate::{
    Access, ByteRange, Directory, Error, Granularity, Host, Lock, Result, Storage,
    directory as names,
};

/// The name of the allocation bitmap of an image that is made here.
pub(crate) const ALLOCATION: &str = "allocation";

/// How an image is created.
#[derive(Debug)]
pub struct CreateOptions<F> {
    /// The data image, by its name in the descriptor.
    pub file: String,
    /// The data image where it is there already: it is only read. `None` makes a new one.
    pub data: Option<F>,
    /// The size of a new data image in bytes.
    pub size: u64,
    /// When marks are to be durable.
    pub durability: Durability,
}

/// Creates the image `name` in `directory`, without bitmaps.
///
/// # Errors
///
/// [`Error::Unusable`] if the name is taken; otherwise any error of the directory or storage.
/// Nothing is then left behind that was not there before.
pub async fn create<D: Directory>(
    directory: &D,
    name: &str,
    options: CreateOptions<D::File>,
    host: &dyn Host,
) -> Result<()> {
    names::refuse_taken(directory, name).await?;
    let CreateOptions { file, data, size, durability } = options;
    let is_new = data.is_none();
    let made = async {
        let data = match data {
            Some(data) => data,
            None => create_data(directory, &file, size).await?,
        };
        data.lock(Lock::Read).await.map_err(Error::io(&file, "lock"))?;
        describe(directory, name, (&file, &data), (None, durability), host).await
    };
    let made = made.await;
    if is_new {
        remove_if_vain(directory, name, &[file], &made).await;
    }
    made
}

/// How an overlay is created.
#[derive(Debug)]
pub struct OverlayOptions {
    /// The new data image, by its name in the descriptor.
    pub file: String,
    /// The image that shows where nothing is written, by its name in the descriptor. It stays as it
    /// is, and must not be changed for as long as the overlay is to show the same.
    pub backing: ImageRef,
    /// What is copied and allocated at a time.
    pub cluster: Granularity,
    /// The size of the disk in bytes; `None` for that of the backing image.
    pub size: Option<u64>,
    /// When marks are to be durable.
    pub durability: Durability,
}

/// Creates the image `name` over another one, without dirty bitmaps; returns its size in bytes.
///
/// # Errors
///
/// As for [`create`], and for opening the backing image.
pub async fn create_overlay<D: Directory>(
    directory: &D,
    name: &str,
    options: OverlayOptions,
    host: &dyn Host,
) -> Result<u64> {
    names::refuse_taken(directory, name).await?;
    let OverlayOptions { file, backing, cluster, size, durability } = options;
    let (mut behind, mut uses) = (Vec::new(), Uses::default());
    // Locked until the end: nobody changes what is behind while it gets an overlay.
    let how = (Access::Write, Some(Lock::Read));
    layers::open_behind(directory, (name, &backing), how, (&mut behind, &mut uses)).await?;
    layers::check_room_above(name, &behind)?;
    let size = size.unwrap_or(behind[0].size);
    segment_file::check_granules(cluster, size)?;
    let bits = segment_file::fresh_name(name, ALLOCATION, "bits", host);
    let made = async {
        let data = create_data(directory, &file, size).await?;
        data.lock(Lock::Read).await.map_err(Error::io(&file, "lock"))?;
        let length = cluster.granules_of(size).div_ceil(8);
        segment_file::create_file(directory, &bits, length).await?;
        directory.sync().await.map_err(Error::io(&bits, "sync the directory of"))?;
        let allocation = Bitmap {
            name: ALLOCATION.to_owned(),
            granularity: cluster,
            kind: BitmapKind::Allocation { backing: Some(backing) },
            segments: vec![SegmentRef { file: bits.clone(), point: None }],
            disabled: false,
            doubt: None,
            seal: None,
        };
        let bitmap = (Some(allocation), durability);
        describe(directory, name, (&file, &data), bitmap, host).await
    };
    let made = made.await;
    remove_if_vain(directory, name, &[file, bits], &made).await;
    made.map(|()| size)
}

/// Removes the new `files` of an image that was not made.
async fn remove_if_vain<D: Directory>(
    directory: &D,
    name: &str,
    files: &[String],
    made: &Result<()>,
) {
    let Err(error) = made else { return };
    let failed = match error {
        Error::Io { file, action: "create", .. } => Some(file.as_str()),
        _ => None,
    };
    if failed == Some(name) {
        // A crash may find the descriptor all the same.
        return;
    }
    for file in files.iter().filter(|file| failed != Some(file)) {
        // Best effort: no descriptor names it. One that could not be created is not ours.
        let _removed = directory.remove(file).await;
    }
}

async fn create_data<D: Directory>(directory: &D, file: &str, size: u64) -> Result<D::File> {
    if size > MAX_SIZE {
        return Err(Error::OutOfRange { range: ByteRange::new(MAX_SIZE, 0), size: MAX_SIZE });
    }
    let data = directory.create(file).await.map_err(Error::io(file, "create"))?;
    data.set_len(size).await.map_err(Error::io(file, "resize"))?;
    // Before a descriptor names it; `replace` syncs the directory.
    data.sync().await.map_err(Error::io(file, "sync"))?;
    directory.sync().await.map_err(Error::io(file, "sync the directory of"))?;
    Ok(data)
}

async fn describe<D: Directory>(
    directory: &D,
    name: &str,
    (file, data): (&str, &D::File),
    (allocation, durability): (Option<Bitmap>, Durability),
    host: &dyn Host,
) -> Result<()> {
    let stat = Error::io(file, "stat");
    let size = match data.len().await {
        Ok(size) if size <= MAX_SIZE => size,
        Ok(size) => return Err(Error::unusable(file, format!("{size} bytes are too many"))),
        Err(error) => return Err(stat(error)),
    };
    let mut descriptor = Descriptor::new(ImageRef { file: file.to_owned(), format: Format::Raw });
    descriptor.id = Some(host.fresh_id());
    descriptor.size = Some(size);
    descriptor.durability = durability;
    descriptor.bitmaps.extend(allocation);
    descriptor.stamp = data.identity().await.map_err(Error::io(file, "stat"))?;
    let temporary = format!("{name}.{}.tmp", host.fresh_id());
    let text = descriptor.to_text().map_err(Error::descriptor(name))?;
    names::replace(directory, &temporary, name, &text).await.map_err(Error::io(name, "create"))
}
