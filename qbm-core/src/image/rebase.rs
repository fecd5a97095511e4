//! What is behind an image according to its descriptor, and another in its place.

use super::Image;
use super::open::open_data;
use super::uses::Uses;
use crate::descriptor::{BitmapKind, Descriptor, ImageRef};
use crate::{Access, Directory, Error, Granularity, Host, Lock, Result, directory as names};

impl<D: Directory> Image<D> {
    /// The size of its clusters, if it is an overlay that is open for writing.
    pub(crate) fn cluster(&self) -> Option<Granularity> {
        self.clusters.as_ref().map(|clusters| clusters.allocation().cluster)
    }

    /// Puts `backing` behind the image, by one replace of the descriptor. The caller has seen to it
    /// that the disk is the same over both; until it is closed, it reads what was behind it before.
    ///
    /// # Errors
    ///
    /// Any error of the storage; what is behind it is then what it was, or `backing`.
    pub(crate) async fn put_over(&self, backing: Option<ImageRef>) -> Result<()> {
        // What was pulled must be durable before what is behind it is another.
        self.flush().await?;
        self.commit_edit(|descriptor| put_behind(descriptor, backing.as_ref())).await
    }

    /// Puts the layer at `below` behind the one at `depth`, which is above it: what is between the two is
    /// no part of the disk any more. The caller has seen to it that the disk stays the same; until it is
    /// closed, the image reads what is between them as before.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] if the one cannot be named by the descriptor of the other; any error of the
    /// storage, such as that somebody else uses the layer. What is behind it is then what it was.
    pub async fn take_out_between(&self, depth: usize, below: usize) -> Result<()> {
        let (layer, below) = (self.layer_image(depth), self.layer_image(below));
        let backing = ImageRef { file: named_by(&layer.file, below)?, format: below.format };
        if depth == 0 {
            return self.put_over(Some(backing)).await;
        }
        self.lock_layer(depth).await?;
        let (directory, name) = (&self.directory, &layer.file);
        let put = put_over_locked(directory, name, Some(backing), &*self.host, None).await;
        self.unlock_layer(depth).await?;
        put
    }
}

/// The name of `image` for the descriptor `name`, beside which or in a folder of which it is.
fn named_by(name: &str, image: &ImageRef) -> Result<String> {
    let folder = name.rsplit_once('/').map(|(folder, _)| folder);
    let inside = match folder {
        Some(folder) if !image.file.starts_with('/') => {
            image.file.strip_prefix(folder).and_then(|file| file.strip_prefix('/'))
        }
        _ => Some(image.file.as_str()),
    };
    let what = || format!("it cannot name '{}', which is not in its folder", image.file);
    inside.map(str::to_owned).ok_or_else(|| Error::unusable(name, what()))
}

/// Puts `backing` behind the image `name`, whose disk becomes another unless it shows the same.
///
/// # Errors
///
/// [`Error::Unusable`] if it is no overlay, or any error of the storage.
pub(crate) async fn put_over<D: Directory>(
    directory: &D,
    name: &str,
    backing: Option<ImageRef>,
    host: &dyn Host,
) -> Result<()> {
    put_over_locked(directory, name, backing, host, Some(Lock::Write)).await
}

/// The same, with this lock of the image; with none, the caller has it.
async fn put_over_locked<D: Directory>(
    directory: &D,
    name: &str,
    backing: Option<ImageRef>,
    host: &dyn Host,
    lock: Option<Lock>,
) -> Result<()> {
    let mut uses = Uses::default();
    // Held until the end: nobody has it open.
    let (mut descriptor, _data) =
        open_data(directory, name, (Access::Write, None), lock, &mut uses).await?;
    if descriptor.allocation().is_none() {
        return Err(no_overlay(name));
    }
    put_behind(&mut descriptor, backing.as_ref());
    let temporary = format!("{name}.{}.tmp", host.fresh_id());
    let text = descriptor.to_text().map_err(Error::descriptor(name))?;
    names::replace(directory, &temporary, name, &text).await.map_err(Error::io(name, "replace"))
}

/// An image that nothing can be behind.
pub(crate) fn no_overlay(name: &str) -> Error {
    Error::unusable(
        name,
        "it has no allocation bitmap: all of it is its own, and nothing is behind it",
    )
}

fn put_behind(descriptor: &mut Descriptor, backing: Option<&ImageRef>) {
    let kinds = descriptor.bitmaps.iter_mut().map(|bitmap| &mut bitmap.kind);
    for kind in kinds.filter(|kind| **kind != BitmapKind::Dirty) {
        *kind = BitmapKind::Allocation { backing: backing.cloned() };
    }
}
