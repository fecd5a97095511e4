//! Comparing two disks, a window at a time.

use crate::disk::Disk;
use crate::{Buffer, ByteRange, Directory, Result};

/// Bytes that are compared at a time.
pub(super) const WINDOW: u64 = 1 << 20;

/// What is compared, in buffers that are used again.
#[derive(Default)]
pub(super) struct Windows {
    spare: Vec<Buffer>,
}

impl Windows {
    /// The parts of `part`, at most a window, each within a cluster, in which the two disks differ;
    /// `None` is one of zeroes.
    pub(super) async fn differing<D: Directory, B: Directory>(
        &mut self,
        one: Disk<'_, D>,
        other: Option<Disk<'_, B>>,
        part: ByteRange,
        cluster: u64,
    ) -> Result<Vec<ByteRange>> {
        let shown = one.read(part.start(), self.buffer(part)).await?;
        let mut there = self.buffer(part);
        match other {
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
