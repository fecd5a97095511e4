//! Opening an image.

use std::sync::Arc;

use super::bitmaps::Control;
use super::book::{Book, check_room};
use super::flush::Syncs;
use super::uses::Uses;
use super::{Image, layers, load};
use crate::bits::Bits;
use crate::chain::Chain;
use crate::descriptor::Descriptor;
use crate::sync::{AsyncMutex, AtomicU64};
use crate::track::clusters::Clusters;
use crate::track::gate::Gate;
use crate::track::segment::{Segment, SegmentFile};
use crate::{Access, Directory, Error, Host, Lock, Result, Storage, directory as names};

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
    /// Whether the caller has locked what is behind it, and may write to that.
    pub holds_behind: bool,
    /// Whether an overlay over it [has locked](Image::lock_layer) its data image for whoever opens it so.
    pub locked: bool,
}

impl<F> OpenOptions<F> {
    /// For `access`, with nothing special.
    pub fn new(access: Access) -> Self {
        Self { access, data: None, shared: false, holds_behind: false, locked: false }
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
        let OpenOptions { access, data, shared, holds_behind, locked } = options;
        let lock = match access {
            Access::Read => Lock::Read,
            Access::Write => Lock::Write,
        };
        let lock = (!shared || access == Access::Write).then_some(lock);
        let mut uses = Uses::default();
        let of_data = lock.filter(|_| !locked);
        let (descriptor, data) =
            open_data(&directory, name, (access, data), of_data, &mut uses).await?;
        if access == Access::Write {
            refuse_point(name, &descriptor)?;
            check_room(name, &descriptor)?;
        }
        let top = (name, &descriptor);
        let behind = if holds_behind { (Access::Read, None) } else { (access, lock) };
        let how = layers::How { top: (access, lock), behind };
        let opened = layers::open_chain(&directory, top, data, how, &mut uses).await?;
        let layers::Opened { chain, allocation } = opened;
        let size = chain.layer(0).size;
        let place = (&directory, name, &*host);
        let found =
            load::find((&directory, name), &descriptor, (access, lock), size, &mut uses).await?;
        if access == Access::Write {
            refuse_copy_in_use(&directory, name, &mut uses).await?;
        }
        let bitmaps = load::bitmaps(place, &descriptor, found, size).await?;
        let image = Self {
            name: name.to_owned(),
            host,
            access,
            size: AtomicU64::new(size),
            syncs: Syncs::default(),
            clusters: allocation.map(|file| clusters(&descriptor, &chain, file)),
            durability: descriptor.durability,
            gate: Gate::new(Vec::new()),
            control: AsyncMutex::new(Control {
                bitmaps,
                lingering: Vec::new(),
                shields: Vec::new(),
                watches: Vec::new(),
                holds: Vec::new(),
            }),
            book: AsyncMutex::new(Book::new(descriptor)),
            directory,
            chain,
        };
        image.judge().await?;
        if access == Access::Write {
            image.recover().await?;
        }
        Ok(image)
    }
}

/// Refuses a backup point: other points, and what its digest says, depend on its bytes.
fn refuse_point(name: &str, descriptor: &Descriptor) -> Result<()> {
    match descriptor.point {
        None => Ok(()),
        Some(_) => {
            let what = "it is a backup point, and stays as it is: \
                        make an overlay over it, with 'qbm overlay', and write to that";
            Err(Error::unusable(name, what))
        }
    }
}

/// The clusters of the top layer of `chain`, whose allocation bitmap goes on in `file`.
fn clusters<F: Storage>(
    descriptor: &Descriptor,
    chain: &Chain<F>,
    file: SegmentFile<F>,
) -> Clusters<F> {
    let bitmap = descriptor.allocation().expect("it has a file");
    let allocation = chain.layer(0).allocation.as_ref().expect("it was loaded");
    let wanted = Bits::new(allocation.bits().len());
    wanted.union(&allocation.bits());
    let segment = Segment::holding(&bitmap.name, bitmap.granularity, wanted, file);
    Clusters::new(Arc::clone(allocation), segment)
}

/// Refuses an image of which a file has the name that the copy of its descriptor will get.
async fn refuse_copy_in_use<D: Directory>(
    directory: &D,
    name: &str,
    uses: &mut Uses,
) -> Result<()> {
    let copy = copy_name(name);
    let found = names::open_if_there(directory, &copy, Access::Read).await;
    match found.map_err(Error::io(&copy, "open"))? {
        Some(file) => uses.note(&copy, &file).await,
        None => Ok(()),
    }
}

/// The name of the copy of the descriptor `name`.
pub(super) fn copy_name(name: &str) -> String {
    format!("{name}~")
}

/// Opens and locks the data image, and reads the descriptor under the lock.
pub(super) async fn open_data<D: Directory>(
    directory: &D,
    name: &str,
    (access, data): (Access, Option<D::File>),
    lock: Option<Lock>,
    uses: &mut Uses,
) -> Result<(Descriptor, D::File)> {
    let (before, _) = layers::read_descriptor(directory, name).await?;
    let file = &before.image.file;
    let data = match data {
        Some(data) => data,
        None => directory.open(file, access).await.map_err(Error::io(file, "open"))?,
    };
    if let Some(lock) = lock {
        data.lock(lock).await.map_err(Error::io(file, "lock"))?;
    }
    // Read again: until the lock was ours, another process could replace the descriptor.
    let (descriptor, book) = layers::read_descriptor(directory, name).await?;
    uses.note(name, &book).await?;
    uses.note(file, &data).await?;
    if descriptor.image != before.image {
        return Err(Error::unusable(name, "it was changed while it was opened; try again"));
    }
    Ok((descriptor, data))
}
