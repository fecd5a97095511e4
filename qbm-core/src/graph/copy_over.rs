//! A copy of a disk over another one: only the clusters in which the two differ.

use crate::bits::Bits;
use crate::copy::{Copying, Progress, Writing, copy_bytes};
use crate::disk::Disk;
use crate::{ByteRange, Directory, Granularity, Result};

use super::pair::{Pair, Part, WINDOW};

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
    let mut pair = Pair::new(source, Some(backing), false).await;
    // Whole clusters, so that each is compared to its end before it is copied.
    let step = WINDOW.max(cluster.bytes());
    let mut offset = 0;
    while offset < size {
        let rest = ByteRange::new(offset, size - offset);
        let end = match pair.first(rest).await? {
            Part::Same(part) if part.end() == size => size,
            Part::Same(part) => part.end() - part.end() % step,
            Part::Unknown(_) => offset,
        };
        let stretch = if end > offset {
            rest.clip(end)
        } else {
            let stretch = rest.clip(offset + step);
            compare(&mut pair, (stretch, cluster), &own).await?;
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

/// Sets the clusters of `stretch` that differ.
async fn compare<S: Directory, B: Directory>(
    pair: &mut Pair<'_, S, B>,
    (stretch, cluster): (ByteRange, Granularity),
    own: &Bits,
) -> Result<()> {
    let mut left = stretch;
    while !left.is_empty() {
        let part = match pair.first(left).await? {
            Part::Same(part) => part,
            Part::Unknown(part) => {
                for piece in pair.differing(part, cluster.bytes()).await? {
                    own.set(cluster.granules_touched(piece));
                }
                part
            }
        };
        left = left.skip(part.length());
    }
    Ok(())
}
