//! Opening an image.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures_util::lock::Mutex;

use super::bitmaps::{Control, Held, Tracked};
use super::book::{Book, check_room};
use super::flush::Syncs;
use super::segment_file;
use super::{Image, layers};
use crate::descriptor::{self, BitmapKind, Descriptor, Doubt, Durability};
use crate::track::gate::Gate;
use crate::track::segment::{Segment, SegmentFile};
use crate::{Access, Directory, Error, Host, Identity, Lock, Result, Storage};

/// How an image is opened.
#[derive(Debug)]
pub struct OpenOptions<F> {
    /// For reading, or for writing too.
    pub access: Access,
    /// The data image where the operator has opened it; otherwise the directory opens the one
    /// that the descriptor names.
    pub data: Option<F>,
    /// Whether others may write meanwhile: no locks are taken, and what is read may be torn.
    /// Only with [`Access::Read`].
    pub shared: bool,
}

impl<F> OpenOptions<F> {
    /// For `access`, with nothing special.
    pub fn new(access: Access) -> Self {
        Self { access, data: None, shared: false }
    }
}

impl<D: Directory> Image<D> {
    /// Opens the image with the descriptor `name` in `directory`.
    ///
    /// For writing, the image is recovered first if it was not closed cleanly, and says on the
    /// medium that it is in use before the first request. For reading nothing is changed.
    ///
    /// # Errors
    ///
    /// [`Error::Descriptor`], [`Error::Unusable`], [`Error::TooManyGranules`], or an error of
    /// the directory or storage, such as a lock that another program holds.
    pub async fn open(
        directory: D,
        name: &str,
        options: OpenOptions<D::File>,
        host: Arc<dyn Host>,
    ) -> Result<Self> {
        let OpenOptions { access, data, shared } = options;
        let lock = match access {
            Access::Read => Lock::Read,
            Access::Write => Lock::Write,
        };
        let lock = (!shared || access == Access::Write).then_some(lock);
        let (descriptor, data) = open_data(&directory, name, (access, data), lock).await?;
        if access == Access::Write && descriptor.allocation().is_some() {
            let what = "an image with an allocation bitmap can only be read";
            return Err(Error::unusable(name, what));
        }
        if access == Access::Write {
            check_room(name, &descriptor)?;
        }
        let chain = layers::open_chain(&directory, (name, &descriptor), data, lock).await?;
        let size = chain.layer(0).size;
        let bitmaps =
            load_bitmaps((&directory, name, &*host), &descriptor, (access, lock), size).await?;
        let image = Self {
            name: name.to_owned(),
            host,
            access,
            size: AtomicU64::new(size),
            syncs: Syncs::default(),
            durability: descriptor.durability,
            gate: Gate::new(Vec::new()),
            control: Mutex::new(Control { bitmaps, lingering: Vec::new() }),
            book: Mutex::new(Book::new(descriptor)),
            directory,
            chain,
        };
        image.refuse_shared_files().await?;
        image.judge().await?;
        if access == Access::Write {
            image.recover().await?;
        }
        Ok(image)
    }

    /// Refuses an image one file of which stands for two things.
    async fn refuse_shared_files(&self) -> Result<()> {
        let control = self.control.lock().await;
        let files: Vec<_> = control
            .bitmaps
            .iter()
            .flat_map(|bitmap| bitmap.segments.iter().map(|held| held.segment.file()))
            .collect();
        let mut seen = vec![identity(self.chain.data_name(), self.data()).await?];
        for file in files {
            let which = identity(&file.name, &file.file).await?;
            if which.is_some() && seen.contains(&which) {
                let what = "it stands for two things in this image";
                return Err(Error::unusable(&file.name, what));
            }
            seen.push(which);
        }
        Ok(())
    }
}

async fn identity<F: Storage>(name: &str, file: &F) -> Result<Option<(u64, u64)>> {
    let identity = file.identity().await.map_err(Error::io(name, "stat"))?;
    Ok(identity.map(|Identity { device, inode, .. }| (device, inode)))
}

/// Opens and locks the data image, and reads the descriptor under the lock.
async fn open_data<D: Directory>(
    directory: &D,
    name: &str,
    (access, data): (Access, Option<D::File>),
    lock: Option<Lock>,
) -> Result<(Descriptor, D::File)> {
    let before = layers::read_descriptor(directory, name).await?;
    let file = &before.image.file;
    let data = match data {
        Some(data) => data,
        None => directory.open(file, access).await.map_err(Error::io(file, "open"))?,
    };
    if let Some(lock) = lock {
        data.lock(lock).await.map_err(Error::io(file, "lock"))?;
    }
    // Read again: until the lock was ours, another process could replace the descriptor.
    let descriptor = layers::read_descriptor(directory, name).await?;
    if descriptor.image != before.image {
        return Err(Error::unusable(name, "it was changed while it was opened; try again"));
    }
    Ok((descriptor, data))
}

/// Opens and reads the dirty bitmaps. What is doubtful in a file is marked and noted.
async fn load_bitmaps<D: Directory>(
    place: (&D, &str, &dyn Host),
    descriptor: &Descriptor,
    (access, lock): (Access, Option<Lock>),
    size: u64,
) -> Result<Vec<Tracked<D::File>>> {
    let mut bitmaps = Vec::new();
    // Longer than it was at the last commit: a resize was cut short, or a stranger made it.
    let grown_from = descriptor.size.filter(|committed| *committed < size);
    let relaxed = descriptor.durability == Durability::Close;
    for bitmap in descriptor.bitmaps.iter().filter(|bitmap| bitmap.kind == BitmapKind::Dirty) {
        segment_file::check_granules(bitmap.granularity, size)?;
        let mut tracked = Tracked {
            name: bitmap.name.clone(),
            granularity: bitmap.granularity,
            segments: Vec::new(),
            disabled: bitmap.disabled,
            doubt: bitmap.doubt,
            busy: None,
        };
        for reference in &bitmap.segments {
            let file = open_segment(place, (bitmap, &reference.file), access, size).await?;
            if let Some(lock) = lock {
                file.file.lock(lock).await.map_err(Error::io(&file.name, "lock"))?;
            }
            let missing = file.name != reference.file;
            let segment = Segment::new(&bitmap.name, bitmap.granularity, size, file);
            let doubt = load_segment(&segment, missing).await?;
            if let Some(committed) = grown_from {
                // Also in the last byte that the file has, and in a granule that was partial.
                let first = committed / bitmap.granularity.bytes();
                segment.wanted.set(first..segment.wanted.len());
            }
            tracked.doubt = doubt.or(tracked.doubt);
            let segment = Arc::new(segment.relaxed(relaxed));
            tracked.segments.push(Held { segment, point: reference.point });
        }
        bitmaps.push(tracked);
    }
    Ok(bitmaps)
}

/// Opens the file of a segment, or makes a new one under another name where it is gone.
async fn open_segment<D: Directory>(
    (directory, image, host): (&D, &str, &dyn Host),
    (bitmap, name): (&descriptor::Bitmap, &str),
    access: Access,
    size: u64,
) -> Result<SegmentFile<D::File>> {
    match directory.open(name, access).await {
        Ok(file) => Ok(SegmentFile { name: name.to_owned(), file }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && access == Access::Write => {
            let name = segment_file::fresh_name(image, &bitmap.name, host);
            let length = bitmap.granularity.granules_of(size).div_ceil(8);
            let file = segment_file::create_file(directory, &name, length).await?;
            Ok(SegmentFile { name, file })
        }
        Err(error) => Err(Error::io(name, "open")(error)),
    }
}

async fn load_segment<F: Storage>(segment: &Segment<F>, missing: bool) -> Result<Option<Doubt>> {
    if missing {
        segment.wanted.set_all();
        return Ok(Some(Doubt::SegmentMissing));
    }
    let file = segment.file();
    let doubt = segment_file::load(&file.file, &segment.wanted).await;
    let doubt = doubt.map_err(Error::io(&file.name, "read"))?;
    if doubt == Some(Doubt::SegmentExcess) {
        // Not a file of ours to write to: the marks go on in a new one.
        segment.poison();
    }
    Ok(doubt)
}
