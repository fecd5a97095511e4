//! Rebase: another image goes behind an overlay, whose disk stays the same; or none does.

use crate::copy::Progress;
use crate::descriptor::ImageRef;
use crate::disk::Disk;
use crate::image::{self, Extent, no_overlay};
use crate::job::{Side, Steps, Then};
use crate::{ByteRange, Directory, Host, Image, Result};

use super::windows::{WINDOW, Windows};

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
    let mut windows = Windows::default();
    let mut pulled = 0;
    let mut left = ByteRange::new(0, total);
    while !left.is_empty() {
        let step = match pull_first(top, onto, (left, cluster), &mut windows).await {
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
    onto: Option<Disk<'_, B>>,
    (left, cluster): (ByteRange, u64),
    windows: &mut Windows,
) -> Result<(u64, u64)> {
    let shown = top.block_status(left).await?;
    let there = match onto {
        Some(disk) => disk.extent(left.clip(left.start() + shown.length)).await?,
        None => Extent { present: false, data: false, ..shown },
    };
    let mut part = left.clip(left.start() + shown.length.min(there.length));
    let mut pulled = 0;
    let own = shown.present && shown.depth == 0;
    if !own && (shown.data || there.data) {
        part = part.clip(part.start() + WINDOW);
        for piece in windows.differing(Disk::Image(top), onto, part, cluster).await? {
            // With what it is a part of: the clusters whole.
            top.pull(piece).await?;
            pulled += piece.length();
        }
    }
    Ok((part.length(), pulled))
}
