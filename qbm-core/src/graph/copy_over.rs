//! A copy of a disk over another one: only the clusters in which the two differ.

use crate::bits::Bits;
use crate::copy::{Copying, Progress, Writing, copy_bytes};
use crate::disk::Disk;
use crate::{ByteRange, Directory, Granularity, Result};

use super::windows::{WINDOW, Windows};

/// Copies to `data`, which is empty and as long as `source`, each cluster of `source` that differs
/// from `backing`, and makes it durable. Returns which they are: with those over `backing` it is the
/// same disk.
///
/// # Errors
///
/// Any error of the three.
pub async fn copy_over<S: Directory, B: Directory, T: Directory>(
    source: Disk<'_, S>,
    backing: Disk<'_, B>,
    (data, cluster): (Disk<'_, T>, Granularity),
    progress: &mut dyn FnMut(Progress),
) -> Result<Bits> {
    let size = source.size();
    let own = Bits::new(cluster.granules_of(size));
    let shared = depth_in(source, backing).await;
    let mut windows = Windows::default();
    // Whole clusters, so that each is compared to its end before it is copied.
    let step = WINDOW.max(cluster.bytes());
    let mut offset = 0;
    while offset < size {
        let rest = ByteRange::new(offset, size - offset);
        let same = same_from(source, backing, shared, rest).await?;
        let end = if same == size { size } else { same - same % step };
        let stretch = if end > offset {
            rest.clip(end)
        } else {
            let stretch = rest.clip(offset + step);
            compare(source, backing, shared, (stretch, cluster), (&own, &mut windows)).await?;
            for granules in own.areas_in(cluster.granules_touched(stretch)) {
                let from = cluster.bytes_of(granules, size);
                let copying =
                    Copying { from, to: from.start(), ..Copying::all(size, Writing::ToEmpty) };
                copy_bytes(source, data, &copying, &mut |_| ()).await?;
            }
            stretch
        };
        offset = stretch.end();
        progress(Progress { done: offset, total: size });
    }
    // Before anything says that it counts.
    data.flush().await?;
    Ok(own)
}

/// How deep in `source` the layer lies that is `backing`, if it is one.
async fn depth_in<S: Directory, B: Directory>(
    source: Disk<'_, S>,
    backing: Disk<'_, B>,
) -> Option<usize> {
    let Disk::Image(image) = source else { return None };
    for depth in 0..image.layers() {
        if backing.is_layer_of(image, depth).await == Some(true) {
            return Some(depth);
        }
    }
    None
}

/// Where the first bytes of `range` end that are known to be the same in both without a look at them.
async fn same_from<S: Directory, B: Directory>(
    source: Disk<'_, S>,
    backing: Disk<'_, B>,
    shared: Option<usize>,
    range: ByteRange,
) -> Result<u64> {
    let ours = source.extent(range).await?;
    if shared.is_some_and(|depth| ours.depth >= depth) {
        return Ok(range.start() + ours.length);
    }
    let theirs = backing.extent(range).await?;
    let alike = if ours.data || theirs.data { 0 } else { ours.length.min(theirs.length) };
    Ok(range.start() + alike)
}

/// Sets the clusters of `stretch` that differ.
async fn compare<S: Directory, B: Directory>(
    source: Disk<'_, S>,
    backing: Disk<'_, B>,
    shared: Option<usize>,
    (stretch, cluster): (ByteRange, Granularity),
    (own, windows): (&Bits, &mut Windows),
) -> Result<()> {
    let mut left = stretch;
    while !left.is_empty() {
        let same = same_from(source, backing, shared, left).await?;
        if same > left.start() {
            left = left.skip(same - left.start());
            continue;
        }
        let length = source.extent(left).await?.length.min(WINDOW);
        let part = left.clip(left.start() + length);
        for piece in windows.differing(source, Some(backing), part, cluster.bytes()).await? {
            own.set(cluster.granules_touched(piece));
        }
        left = left.skip(part.length());
    }
    Ok(())
}
