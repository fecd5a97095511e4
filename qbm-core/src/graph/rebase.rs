//! Rebase: another image goes behind an overlay, whose disk stays the same; or none does.

use crate::copy::Progress;
use crate::descriptor::ImageRef;
use crate::disk::Disk;
use crate::image::{self, Extent, no_overlay};
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
            top.close_over(onto.map(|onto| onto.backing)).await?;
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

async fn pull_differences<D: Directory, B: Directory>(
    top: &Image<D>,
    onto: Option<Disk<'_, B>>,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64> {
    let cluster = top.cluster().ok_or_else(|| no_overlay(top.name()))?.bytes();
    let size = top.size();
    let mut windows = Windows::default();
    let mut pulled = 0;
    let mut offset = 0;
    while offset < size {
        let rest = ByteRange::new(offset, size - offset);
        let shown = top.block_status(rest).await?;
        let there = match onto {
            Some(disk) => disk.extent(rest.clip(offset + shown.length)).await?,
            None => Extent { present: false, data: false, ..shown },
        };
        let mut part = rest.clip(offset + shown.length.min(there.length));
        let own = shown.present && shown.depth == 0;
        if !own && (shown.data || there.data) {
            part = part.clip(offset + WINDOW);
            for piece in windows.differing(Disk::Image(top), onto, part, cluster).await? {
                // With what it is a part of: the clusters whole.
                top.pull(piece).await?;
                pulled += piece.length();
            }
        }
        offset = part.end();
        progress(Progress { done: offset, total: size });
    }
    Ok(pulled)
}
