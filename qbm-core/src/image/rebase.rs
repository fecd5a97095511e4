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
    let (mut uses, lock) = (Uses::default(), Some(Lock::Write));
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
