//! Checking an image, and clearing away what a crash left.

use std::sync::Arc;

use super::{Image, OpenOptions};
use crate::descriptor::Doubt;
use crate::{Access, Directory, Error, Host, Result};

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Files that are ours by their names, and that nothing refers to.
    pub orphans: Vec<String>,
    /// Bitmaps that count granules as changed that may not be, and why.
    pub doubts: Vec<(String, Doubt)>,
    /// Whether it was not closed cleanly. Nothing is lost by that; the next open recovers.
    pub unclean: bool,
}

/// Checks the image that `image` is.
///
/// # Errors
///
/// Any error of the directory.
pub async fn check<D: Directory>(image: &Image<D>) -> Result<CheckReport> {
    let descriptor = image.descriptor().await;
    let names = image.directory.list().await.map_err(Error::io(&image.name, "list beside"))?;
    let ours =
        |name: &String| is_ours(&image.name, name) && !descriptor.files().any(|file| file == name);
    let mut orphans: Vec<_> = names.into_iter().filter(ours).collect();
    orphans.sort();
    let bitmaps = image.bitmaps().await;
    Ok(CheckReport {
        orphans,
        doubts: bitmaps.into_iter().filter_map(|b| Some((b.name, b.doubt?))).collect(),
        unclean: descriptor.in_use.is_some() && image.access == Access::Read,
    })
}

/// Recovers the image `name` if it was not closed cleanly, and removes its orphans.
///
/// Returns what was found before.
///
/// # Errors
///
/// As for [`Image::open`] and [`Image::close`].
pub async fn repair<D: Directory>(
    directory: D,
    name: &str,
    data: Option<D::File>,
    host: Arc<dyn Host>,
) -> Result<CheckReport> {
    // Open for writing, so that a file under way in another process is not taken for an orphan.
    let options = OpenOptions { data, ..OpenOptions::new(Access::Write) };
    let image = Image::open(directory, name, options, host).await?;
    let report = check(&image).await?;
    image.remove_files(&report.orphans).await;
    image.close().await?;
    Ok(report)
}

/// Whether `file` is a name that only we give to files of the image `image`.
pub(super) fn is_ours(image: &str, file: &str) -> bool {
    let Some(rest) = file.strip_prefix(image).and_then(|rest| rest.strip_prefix('.')) else {
        return false;
    };
    let id = |text: &str| text.parse::<crate::Id>().is_ok();
    // With a dot in it, it would be a bitmap of the image whose name goes on like that.
    let bitmap = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    match rest.rsplit_once('.') {
        Some((middle, "tmp" | "digests")) => id(middle),
        Some((middle, "bits" | "seal")) => {
            middle.rsplit_once('.').is_some_and(|(name, text)| bitmap(name) && id(text))
        }
        _ => false,
    }
}
