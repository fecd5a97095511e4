//! Creating an image: around a data image that is there, with a new one, or over another image.

use std::sync::Arc;

use super::bitmaps::Marks;
use super::uses::Uses;
use super::{layers, segment_file};
use crate::bits::Bits;
use crate::chain::Layer;
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
        describe(directory, name, (&file, &data), (vec![], durability), host).await
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
    let behind = behind(directory, name, &backing).await?;
    let size = size.unwrap_or(behind[0].size);
    segment_file::check_granules(cluster, size)?;
    let made = async {
        let data = create_data(directory, &file, size).await?;
        let own = Bits::new(cluster.granules_of(size));
        let over = Some(Over { backing, cluster, own });
        let contents = Contents { file: file.clone(), data, over, bitmaps: vec![], durability };
        create_around(directory, name, contents, host).await
    };
    let made = made.await;
    remove_if_vain(directory, name, &[file], &made).await;
    made.map(|()| size)
}

/// A disk in a file, to which an image is to be made with all that belongs to it.
#[derive(Debug)]
pub struct Contents<F> {
    /// The data image, by its name in the descriptor.
    pub file: String,
    /// The same, with bytes that are durable.
    pub data: F,
    /// What is behind it; `None` where all of it counts.
    pub over: Option<Over>,
    /// Its dirty bitmaps.
    pub bitmaps: Vec<NewBitmap>,
    /// When marks are to be durable.
    pub durability: Durability,
}

/// What is behind a new image, and which of its own clusters count.
#[derive(Debug)]
pub struct Over {
    /// What is behind it, by its name in the descriptor.
    pub backing: ImageRef,
    /// What is copied and allocated at a time.
    pub cluster: Granularity,
    /// The clusters that are in the data image.
    pub own: Bits,
}

/// A dirty bitmap of a new image, which belongs to no backup point.
#[derive(Debug)]
pub struct NewBitmap {
    /// Its name.
    pub name: String,
    /// Whether it does not record.
    pub disabled: bool,
    /// What is marked.
    pub marks: Marks,
}

/// Creates the image `name` with `contents`, by one replace of its descriptor. The names of all files
/// in the directory are durable then, that of the data image too.
///
/// # Errors
///
/// As for [`create`].
pub async fn create_around<D: Directory>(
    directory: &D,
    name: &str,
    contents: Contents<D::File>,
    host: &dyn Host,
) -> Result<()> {
    names::refuse_taken(directory, name).await?;
    let Contents { file, data, over, bitmaps, durability } = contents;
    if over.is_some() && bitmaps.iter().any(|bitmap| bitmap.name == ALLOCATION) {
        return Err(Error::BitmapExists(ALLOCATION.to_owned()));
    }
    // Held until it is behind the new image.
    let _behind = match &over {
        Some(over) => behind(directory, name, &over.backing).await?,
        None => Vec::new(),
    };
    let mut described = Vec::new();
    let mut files = Vec::new();
    let made = async {
        data.lock(Lock::Read).await.map_err(Error::io(&file, "lock"))?;
        let size = layers::size_of(&file, &data).await?;
        for (bitmap, bits) in to_describe(over, bitmaps) {
            segment_file::check_granules(bitmap.granularity, size)?;
            assert_eq!(bits.len(), bitmap.granularity.granules_of(size), "a bit for each granule");
            let file = segment_file::fresh_name(name, &bitmap.name, "bits", host);
            files.push(file.clone());
            segment_file::create_holding(directory, &file, &bits).await?;
            described.push(Bitmap { segments: vec![SegmentRef { file, point: None }], ..bitmap });
        }
        // All that the descriptor names, before it does.
        directory.sync().await.map_err(Error::io(name, "sync the directory of"))?;
        describe(directory, name, (&file, &data), (described, durability), host).await
    };
    let made = made.await;
    remove_if_vain(directory, name, &files, &made).await;
    made
}

/// What a descriptor says of the bitmaps of a new image, but for their files, and their bits.
fn to_describe(over: Option<Over>, bitmaps: Vec<NewBitmap>) -> Vec<(Bitmap, Arc<Bits>)> {
    let allocation = over.map(|Over { backing, cluster, own }| {
        let bitmap = Bitmap {
            name: ALLOCATION.to_owned(),
            granularity: cluster,
            kind: BitmapKind::Allocation { backing: Some(backing) },
            segments: Vec::new(),
            disabled: false,
            doubt: None,
            seal: None,
        };
        (bitmap, Arc::new(own))
    });
    let dirty = bitmaps.into_iter().map(|NewBitmap { name, disabled, marks }| {
        let Marks { bits, granularity, doubt } = marks;
        let kind = BitmapKind::Dirty;
        let segments = Vec::new();
        (Bitmap { name, granularity, kind, segments, disabled, doubt, seal: None }, bits)
    });
    allocation.into_iter().chain(dirty).collect()
}

/// What is to be behind the image `name`, locked: nobody changes it while it gets an overlay.
async fn behind<D: Directory>(
    directory: &D,
    name: &str,
    backing: &ImageRef,
) -> Result<Vec<Layer<D::File>>> {
    let (mut behind, mut uses) = (Vec::new(), Uses::default());
    let how = (Access::Write, Some(Lock::Read));
    layers::open_behind(directory, (name, backing), how, (&mut behind, &mut uses)).await?;
    layers::check_room_above(name, &behind)?;
    Ok(behind)
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
    (bitmaps, durability): (Vec<Bitmap>, Durability),
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
    descriptor.bitmaps = bitmaps;
    descriptor.stamp = data.identity().await.map_err(Error::io(file, "stat"))?;
    let temporary = format!("{name}.{}.tmp", host.fresh_id());
    let text = descriptor.to_text().map_err(Error::descriptor(name))?;
    names::replace(directory, &temporary, name, &text).await.map_err(Error::io(name, "create"))
}
