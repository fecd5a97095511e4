//! Commit: what an overlay has goes down into an image behind it.

use crate::copy::{Copying, Writing, copy};
use crate::disk::Disk;
use crate::image::BitmapAction;
use crate::job::Steps;
use crate::{Directory, Error, Image, Result};

/// What a commit does.
#[derive(Clone, Copy, Debug)]
pub struct CommitOptions {
    /// Which layer it goes into: 1 is the one right behind the top.
    pub depth: usize,
    /// Whether the top is empty afterwards. Only where it goes into the layer right behind: what is
    /// in between would show otherwise.
    pub empty: bool,
    /// Whether the marks of the top's dirty bitmaps become marks of those of the same name behind,
    /// which are added where they are missing.
    pub merge_bitmaps: bool,
}

/// Puts what the layers of `top` above `base` have into `base`; returns the bytes written.
///
/// `top` is open for writing, where [the caller holds what is behind](crate::image::OpenOptions::holds_behind), and `base`,
/// the layer at the depth of the options, for writing too; its dirty bitmaps mark what is written. It
/// is made as long as `top` where it is shorter. The disk of `top` does not change, and neither do its
/// bitmaps; what is between the two becomes useless.
///
/// # Errors
///
/// [`Error::Unusable`] if `base` is not that layer, or any error of either side: all is then still in
/// `top`, and a part of it in `base`.
pub async fn commit<D: Directory, B: Directory>(
    top: &Image<D>,
    base: Disk<'_, B>,
    options: &CommitOptions,
    steps: &mut (impl Steps + ?Sized),
) -> Result<u64> {
    let CommitOptions { depth, empty, merge_bitmaps } = *options;
    if depth == 0 || depth >= top.layers() || base.is_layer_of(top, depth).await == Some(false) {
        return Err(Error::unusable(top.name(), "what to commit to is not behind it"));
    }
    if empty && depth > 1 {
        let what = "it cannot be emptied: what is between it and the base would show";
        return Err(Error::unusable(top.name(), what));
    }
    let size = top.size();
    let base = if base.size() < size { base.resized(size).await? } else { base };
    if merge_bitmaps {
        merge(top, base).await?;
    }
    // Down there, and durable, before the top gives it up.
    let copying = Copying { above: Some(depth), ..Copying::all(size, Writing::All) };
    let written = copy(Disk::Image(top), base, &copying, steps).await?;
    if empty {
        top.give_up_clusters().await?;
    }
    Ok(written)
}

/// Merges the bitmaps of `top` into those of `base`. Done again, it changes nothing.
async fn merge<D: Directory, B: Directory>(top: &Image<D>, base: Disk<'_, B>) -> Result<()> {
    let Disk::Image(base) = base else {
        let what = "a raw disk has no bitmaps to merge those of the overlay into";
        return Err(Error::unusable(top.name(), what));
    };
    let there = base.bitmaps().await;
    let mut actions = Vec::new();
    for bitmap in top.bitmaps().await {
        let name = bitmap.name;
        if !there.iter().any(|other| other.name == name) {
            let (granularity, disabled) = (bitmap.granularity, bitmap.disabled);
            actions.push(BitmapAction::Add { name: name.clone(), granularity, disabled });
        }
        let marks = top.marks(&name).await?;
        actions.push(BitmapAction::MergeMarks { target: name, marks });
    }
    base.transaction(&actions).await
}
