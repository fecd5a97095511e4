//! Verifying a point: its contents by their digest, and its chain down to a full point.

use std::sync::Arc;

use super::Progress;
use super::contents;
use super::points::{PointEntry, Points};
use crate::image::OpenOptions;
use crate::{Access, Directory, Error, Host, Image, Result};

/// What is wrong with a point.
#[derive(Debug)]
#[non_exhaustive]
pub enum Finding {
    /// Its contents are not those that were stored.
    Damaged,
    /// The point before it is not in the target.
    ParentMissing,
    /// It, or a point behind it, cannot be opened.
    Unusable(Error),
}

/// Verifies the point `entry`, but not the contents of those behind it.
///
/// # Errors
///
/// What could not be read at all is a [`Finding`]; an error is one of `target` itself.
pub async fn verify<T: Directory + Clone>(
    target: &T,
    (points, entry): (&Points, &PointEntry),
    host: &Arc<dyn Host>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<Finding>> {
    if entry.point.parent.is_some_and(|parent| points.by_id(parent).is_none()) {
        return Ok(Some(Finding::ParentMissing));
    }
    let options = OpenOptions::new(Access::Read);
    let opened = Image::open(target.clone(), &entry.descriptor(), options, Arc::clone(host)).await;
    let image = match opened {
        Ok(image) => image,
        Err(error) => return Ok(Some(Finding::Unusable(error))),
    };
    let (name, data, allocation) = image.top_layer();
    match contents::digest_of(data, allocation, progress).await {
        Ok(digest) if digest == entry.point.digest => Ok(None),
        Ok(_) => Ok(Some(Finding::Damaged)),
        Err(error) => Ok(Some(Finding::Unusable(Error::io(name, "read")(error)))),
    }
}
