//! Two disks, a window at a time: where they are known to be the same, and where they differ.

use crate::disk::Disk;
use crate::image::Extent;
use crate::{Buffer, ByteRange, Directory, Image, Result};

/// Bytes that are compared at a time.
pub(super) const WINDOW: u64 = 1 << 20;

/// Two disks that are compared, in buffers that are used again.
pub(super) struct Pair<'a, S: Directory, B: Directory> {
    one: Disk<'a, S>,
    /// `None` is one of zeroes.
    other: Option<Disk<'a, B>>,
    /// From which depth on the layers of `one` are those of `other`.
    shared: Option<usize>,
    /// Whether what the top layer of `one` has itself counts as the same.
    own_counts: bool,
    /// Where what has data in either ends, as it was said when last asked. To find that out costs
    /// some file systems a look at each page: it is not asked again for each window.
    data_until: u64,
    spare: Vec<Buffer>,
}

/// A part of a disk, which is not empty.
pub(super) enum Part {
    /// The same in both.
    Same(ByteRange),
    /// To be looked at: at most a window.
    Unknown(ByteRange),
}

impl<'a, S: Directory, B: Directory> Pair<'a, S, B> {
    /// With `own_counts`, what the top layer of `one` has itself counts as the same.
    pub(super) async fn new(
        one: Disk<'a, S>,
        other: Option<Disk<'a, B>>,
        own_counts: bool,
    ) -> Self {
        let shared = match (one, other) {
            (Disk::Image(image), Some(other)) => shared_from(image, other).await,
            _ => None,
        };
        Self { one, other, shared, own_counts, data_until: 0, spare: Vec::new() }
    }

    /// The first part of `range`, which is not empty. Parts are asked for in ascending order.
    pub(super) async fn first(&mut self, range: ByteRange) -> Result<Part> {
        let start = range.start();
        if start >= self.data_until {
            let ours = self.one.extent(range).await?;
            let own = self.own_counts && ours.present && ours.depth == 0;
            let there = range.clip(start + ours.length);
            if own || self.shared.is_some_and(|depth| ours.depth >= depth) {
                return Ok(Part::Same(there));
            }
            let theirs = match self.other {
                Some(disk) => disk.extent(there).await?,
                None => Extent { data: false, ..ours },
            };
            let alike = there.clip(start + theirs.length);
            if !ours.data && !theirs.data {
                return Ok(Part::Same(alike));
            }
            self.data_until = alike.end();
        }
        Ok(Part::Unknown(range.clip(self.data_until).clip(start + WINDOW)))
    }

    /// The parts of `part`, at most a window, each within a cluster, in which the two differ.
    pub(super) async fn differing(
        &mut self,
        part: ByteRange,
        cluster: u64,
    ) -> Result<Vec<ByteRange>> {
        let shown = self.buffer(part);
        let shown = self.one.read(part.start(), shown).await?;
        let mut there = self.buffer(part);
        match self.other {
            Some(disk) => there = disk.read(part.start(), there).await?,
            None => there.fill(0),
        }
        let mut differing = Vec::new();
        let mut left = part;
        while !left.is_empty() {
            let end = (left.start() + 1).next_multiple_of(cluster);
            let piece = left.clip(end);
            let place = |offset: u64| usize::try_from(offset - part.start()).expect("a window");
            let bytes = place(piece.start())..place(piece.end());
            if shown[bytes.clone()] != there[bytes] {
                differing.push(piece);
            }
            left = left.skip(piece.length());
        }
        self.spare.extend([shown, there]);
        Ok(differing)
    }

    fn buffer(&mut self, part: ByteRange) -> Buffer {
        let length = usize::try_from(part.length()).expect("at most a window");
        let whole = usize::try_from(WINDOW).expect("a window fits into memory");
        self.spare.pop().unwrap_or_else(|| Buffer::zeroed(whole)).narrow(0..length)
    }
}

/// From which depth on the layers of `image` are those that `other` is made of; `None` where they
/// are not, or that cannot be known.
async fn shared_from<S: Directory, B: Directory>(
    image: &Image<S>,
    other: Disk<'_, B>,
) -> Option<usize> {
    let depth = image.layers().checked_sub(other.layers())?;
    for place in 0..other.layers() {
        if !other.layer_is(place, image, depth + place).await {
            return None;
        }
    }
    Some(depth)
}
