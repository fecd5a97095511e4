//! The points of a target: its descriptors that say that they are one.

use crate::chain::MAX_LAYERS;
use crate::descriptor::{Descriptor, MAX_DESCRIPTOR_BYTES, Point};
use crate::{Access, Directory, Error, Id, Result, directory as names};

/// The ending of a point's descriptor.
pub(super) const DESCRIPTOR_SUFFIX: &str = ".qbm";

/// A point of a target.
#[derive(Clone, Debug, PartialEq)]
pub struct PointEntry {
    /// Its name; the descriptor is `NAME.qbm`.
    pub name: String,
    /// What it is.
    pub point: Point,
    /// The size of its disk in bytes.
    pub size: u64,
}

impl PointEntry {
    /// The name of its descriptor.
    pub fn descriptor(&self) -> String {
        format!("{}{DESCRIPTOR_SUFFIX}", self.name)
    }
}

/// What is in a target.
#[derive(Debug, Default)]
pub struct Points {
    /// The points, oldest first.
    pub entries: Vec<PointEntry>,
    /// Descriptors that could not be read, and why.
    pub unreadable: Vec<(String, Error)>,
}

impl Points {
    /// The point `id`.
    pub fn by_id(&self, id: Id) -> Option<&PointEntry> {
        self.entries.iter().find(|entry| entry.point.id == id)
    }

    /// How many points a restore of the point `id` reads: itself and those behind it. No more than
    /// [`MAX_LAYERS`] are counted, so that a cycle is too long and soon found.
    pub(super) fn depth(&self, id: Id) -> usize {
        let parent = |id: &Id| self.by_id(*id)?.point.parent;
        std::iter::successors(Some(id), parent).take(MAX_LAYERS).count()
    }

    /// The point that `text` means: a name, an id, or `latest`.
    pub fn find(&self, text: &str) -> Option<&PointEntry> {
        if text == "latest" {
            return self.entries.last();
        }
        let id = text.parse().ok();
        self.entries.iter().find(|entry| entry.name == text || Some(entry.point.id) == id)
    }
}

/// The points of `target`.
///
/// # Errors
///
/// Any error of listing the directory; a descriptor that cannot be read is in the result.
pub async fn points<D: Directory>(target: &D) -> Result<Points> {
    let mut points = Points::default();
    let mut files = target.list().await.map_err(Error::io("target", "list"))?;
    files.sort();
    for file in files {
        let Some(name) = file.strip_suffix(DESCRIPTOR_SUFFIX) else { continue };
        match read(target, &file).await {
            Ok(Descriptor { point: Some(point), size, .. }) => {
                let size = size.unwrap_or(0);
                points.entries.push(PointEntry { name: name.to_owned(), point, size });
            }
            Ok(_) => {}
            Err(error) => points.unreadable.push((file, error)),
        }
    }
    // Times can stand still or jump; then the names decide, which sort as they were given.
    points.entries.sort_by(|a, b| (a.point.created, &a.name).cmp(&(b.point.created, &b.name)));
    Ok(points)
}

async fn read<D: Directory>(target: &D, file: &str) -> Result<Descriptor> {
    let opened = target.open(file, Access::Read).await.map_err(Error::io(file, "open"))?;
    let text = names::read_whole(&opened, MAX_DESCRIPTOR_BYTES).await;
    let text = text.map_err(Error::io(file, "read"))?;
    Descriptor::parse(&text).map_err(|error| Error::Descriptor { file: file.to_owned(), error })
}
