//! Stream: what shows through an image in use comes up into it, until it needs nothing behind it.
//!
//! Guests may write meanwhile: a cluster that they have written is the image's own, and whoever pulls
//! one takes turns with them ([`Image::pull`]).
//!
//! # What a crash leaves
//!
//! The same disk: its clusters are durable before the one replace of the descriptor after which what
//! was behind it is so no longer.

use super::control::JobControl;
use super::steps::{Steps, Whole};
use crate::graph::{Onto, pull_differences};
use crate::{Directory, Image, Result};

/// Puts `onto` behind `top`, or nothing, while guests use it: what shows through and differs from that is
/// pulled into it first.
///
/// The caller begins the job by calling this, and [concludes](JobControl::conclude) it.
///
/// # Errors
///
/// [`Error::Unusable`](crate::Error::Unusable) if `top` is no overlay, [`Error::Cancelled`](crate::Error::Cancelled), or an error of the storage, also
/// one that was to be ignored: what is behind it is then what it was.
pub async fn stream<D: Directory, B: Directory>(
    top: &Image<D>,
    onto: Option<Onto<'_, B>>,
    control: &JobControl,
) -> Result<()> {
    control.begin();
    let mut steps = Whole::of(control);
    let disk = onto.as_ref().map(|onto| onto.disk);
    pull_differences(top, disk, &mut steps).await?;
    steps.settle().await?;
    top.put_over(onto.map(|onto| onto.backing)).await
}
