//! Rebase: another image goes behind an overlay, whose disk stays the same; or none does.

use crate::copy::Progress;
use crate::descriptor::ImageRef;
use crate::disk::Disk;
use crate::image::{self, no_overlay};
use crate::job::{Side, Steps, Then};
use crate::{ByteRange, Directory, Host, Image, Result};

use super::pair::{Pair, Part, WINDOW};

/// What is to be behind an overlay.
#[derive(Debug)]
pub struct Onto<'a, D: Directory> {
    /// What the descriptor is to say.
    pub backing: ImageRef,
    /// The same, open for reading.
    pub disk: Disk<'a, D>,
}

/// Puts `onto` behind `top` and closes it; with `None`, nothing. What shows through `top` and differs
/// from that is pulled into it first. Returns how many bytes were.
///
/// # Errors
///
/// [`Error::Unusable`](crate::Error::Unusable) if `top` is no overlay, or an error of the storage. What
/// is behind it is then what it was, or, where it was the last step that failed, what it is to be.
pub async fn rebase<D: Directory, B: Directory>(
    top: Image<D>,
    onto: Option<Onto<'_, B>>,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64> {
    let disk = onto.as_ref().map(|onto| onto.disk);
    match pull_differences(&top, disk, progress).await {
        Ok(pulled) => {
            top.put_over(onto.map(|onto| onto.backing)).await?;
            top.close().await?;
            Ok(pulled)
        }
        Err(error) => {
            // The first failure is the one to tell. What was pulled may stay.
            let _closed = top.close().await;
            Err(error)
        }
    }
}

/// Says that `backing` is behind the image `name`, without a look at either: the disk is another
/// unless they have the same contents.
///
/// # Errors
///
/// As for [`rebase`].
pub async fn rebase_unchecked<D: Directory>(
    directory: &D,
    name: &str,
    backing: Option<ImageRef>,
    host: &dyn Host,
) -> Result<()> {
    image::put_over(directory, name, backing, host).await
}

/// Pulls into `top` what shows through it and differs from `onto`, or from zeroes; returns how many
/// bytes those were. Guests may use `top` meanwhile.
pub(crate) async fn pull_differences<D: Directory, B: Directory>(
    top: &Image<D>,
    onto: Option<Disk<'_, B>>,
    steps: &mut (impl Steps + ?Sized),
) -> Result<u64> {
    let cluster = top.cluster().ok_or_else(|| no_overlay(top.name()))?.bytes();
    let total = top.size();
    // What the overlay has itself it keeps.
    let mut pair = Pair::new(Disk::Image(top), onto, true).await;
    let mut pulled = 0;
    let mut left = ByteRange::new(0, total);
    while !left.is_empty() {
        let step = match pull_first(top, &mut pair, left, cluster).await {
            Ok(step) => step,
            Err(error) => {
                let part = left.clip(left.start() + WINDOW);
                match steps.trouble(Side::Source, error, part).await? {
                    Then::Again => continue,
                    Then::Skip => (part.length(), 0),
                }
            }
        };
        left = left.skip(step.0);
        pulled += step.1;
        steps.step(Progress { done: left.start(), total }, step.1).await?;
    }
    Ok(pulled)
}

/// The same for the first bytes of `left`; returns how many were dealt with, and how many pulled.
async fn pull_first<D: Directory, B: Directory>(
    top: &Image<D>,
    pair: &mut Pair<'_, D, B>,
    left: ByteRange,
    cluster: u64,
) -> Result<(u64, u64)> {
    let part = match pair.first(left).await? {
        Part::Same(part) => return Ok((part.length(), 0)),
        Part::Unknown(part) => part,
    };
    let mut pulled = 0;
    for piece in pair.differing(part, cluster).await? {
        // With what it is a part of: the clusters whole.
        top.pull(piece).await?;
        pulled += piece.length();
    }
    Ok((part.length(), pulled))
}
