//! Commit of an image between others: what it has goes down into one behind it, and it is taken out.
//!
//! A commit of the image in use is a mirror onto what is behind it ([`super::mirror()`]).
//!
//! # What a crash leaves
//!
//! The same disk: what is committed shows the same above and below, and is durable below before the one
//! replace of a descriptor after which what was above is no part of the disk.

use super::control::JobControl;
use super::steps::{Steps, Whole};
use crate::graph::{self, CommitOptions};
use crate::{Directory, Disk, Image, Result};

/// Puts what the layers of `top` above `base` have into `base`, the layer at `depth`, and calls
/// `take_out`, after which they are no part of any disk. Nobody writes to `top` meanwhile.
///
/// The caller begins the job by calling this, and [concludes](JobControl::conclude) it.
///
/// # Errors
///
/// Those of [`graph::commit`] and of `take_out`, [`Error::Cancelled`](crate::Error::Cancelled), or an error
/// that was to be ignored.
pub async fn commit<D: Directory, B: Directory>(
    top: &Image<D>,
    (base, depth): (Disk<'_, B>, usize),
    control: &JobControl,
    take_out: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    control.begin();
    let options = CommitOptions { depth, empty: false, merge_bitmaps: false };
    let mut steps = Whole::of(control);
    graph::commit(top, base, &options, &mut steps).await?;
    steps.settle().await?;
    take_out().await
}
