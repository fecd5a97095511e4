//! First writes to clusters of an overlay: copied whole from what is behind, then allocated.
//!
//! A crash leaves the bit of such a cluster clear until a flush, and any part of its data: so what
//! is in the data image where a bit is clear is never relied upon, and zeroes are really written.

use super::Image;
use super::io::follow;
use crate::mutants::{self, Mutant};
use crate::track::clusters::Clusters;
use crate::{Buffer, ByteRange, Directory, Error, Persist, Result, Storage, Unmap};

/// The most bytes that are copied, or put together in memory for one write, at a time.
const COPY: u64 = 1 << 20;

impl<D: Directory> Image<D> {
    /// Whether a write to `range` changes no more than its bytes in the data image.
    pub(super) fn is_allocated(&self, range: ByteRange) -> bool {
        self.clusters.as_ref().is_none_or(|clusters| clusters.are_complete(range))
    }

    /// Writes `buffer` at `offset`, where not all is allocated.
    pub(super) async fn first_write(&self, offset: u64, buffer: Buffer) -> Result<Buffer> {
        let range = ByteRange::new(offset, buffer.len() as u64);
        let mut given = Some(buffer);
        let written = self.claimed(range, async |clusters| {
            let buffer = given.take().expect("it is done once");
            let whole = self.whole_clusters(clusters, range);
            let name = self.chain.data_name();
            if whole == range || whole.length() > COPY || mutants::planted(Mutant::CopySkipped) {
                self.copy_around(range, whole).await?;
                let written = self.data().write_at(offset, buffer, Persist::Later).await;
                return written.map_err(Error::io(name, "write"));
            }
            let copy = Buffer::zeroed(length(whole));
            let mut copy = self.chain.read_behind(whole.start(), copy).await?;
            let place = length(ByteRange::new(whole.start(), offset - whole.start()));
            copy[place..][..buffer.len()].copy_from_slice(&buffer);
            let written = self.data().write_at(whole.start(), copy, Persist::Later).await;
            written.map_err(Error::io(name, "write"))?;
            Ok(buffer)
        });
        match written.await {
            Err(Error::Moved { .. }) => Err(Error::Moved { buffer: given }),
            written => written,
        }
    }

    /// Makes `range` read as zeroes, where not all is allocated.
    pub(super) async fn first_zeroes(&self, range: ByteRange, unmap: Unmap) -> Result<()> {
        self.claimed(range, async move |clusters| {
            self.copy_around(range, self.whole_clusters(clusters, range)).await?;
            if mutants::planted(Mutant::ZeroesSkipped) {
                return Ok(());
            }
            let written = self.data().write_zeroes(range, unmap).await;
            written.map_err(Error::io(self.chain.data_name(), "write zeroes"))
        })
        .await
    }

    /// Gives up the contents of `range`, where not all is allocated: its whole clusters read as
    /// zeroes. No bit is cleared, since the bytes behind it would show again.
    pub(super) async fn first_discard(&self, range: ByteRange) -> Result<()> {
        let clusters = self.clusters.as_ref().expect("what is not allocated is a cluster");
        let cluster = clusters.allocation().cluster.bytes();
        let end = if range.end() == self.size() { range.end() } else { down(range.end(), cluster) };
        let start = range.start().next_multiple_of(cluster);
        if start >= end {
            // Less than a cluster: it may stay as it is, and copying it would give up nothing.
            return Ok(());
        }
        self.first_zeroes(ByteRange::new(start, end - start), Unmap::Allowed).await
    }

    /// Does `work`, which writes all clusters of `range` whole, and allocates them.
    async fn claimed<T>(
        &self,
        range: ByteRange,
        work: impl AsyncFnOnce(&Clusters<D::File>) -> Result<T>,
    ) -> Result<T> {
        let clusters = self.clusters.as_ref().expect("what is not allocated is a cluster");
        // The claim before the ticket: whoever waits for all tickets may have claimed everything.
        let claim = clusters.claim(range, self.data()).await;
        let mut followers = Vec::new();
        let done = async {
            let ticket = self.enter(range.start(), range.length()).await?;
            followers = ticket.duties().followers();
            let touched = clusters.allocation().cluster.granules_touched(range);
            if mutants::planted(Mutant::MarkBeforeCopy) {
                clusters.complete(touched.clone());
            }
            let done = work(clusters).await;
            if done.is_ok() {
                clusters.complete(touched);
            }
            ticket.leave();
            done
        };
        let done = done.await;
        claim.release();
        follow(followers).await;
        done
    }

    /// `range` and what is missing of the clusters at its ends.
    fn whole_clusters(&self, clusters: &Clusters<D::File>, range: ByteRange) -> ByteRange {
        let (allocation, size) = (clusters.allocation(), self.size());
        let bits = allocation.bits();
        let touched = allocation.cluster.granules_touched(range);
        let last = touched.end - 1;
        let whole = |cluster: u64| allocation.cluster.bytes_of(cluster..cluster + 1, size);
        let missing = |cluster: u64| !bits.get(cluster);
        let start =
            if missing(touched.start) { whole(touched.start).start() } else { range.start() };
        let end = if missing(last) { whole(last).end() } else { range.end() };
        ByteRange::new(start, end - start)
    }

    /// Copies what `whole` has before and after `range` from behind to the data image.
    async fn copy_around(&self, range: ByteRange, whole: ByteRange) -> Result<()> {
        if mutants::planted(Mutant::CopySkipped) {
            return Ok(());
        }
        self.copy_up(ByteRange::new(whole.start(), range.start() - whole.start())).await?;
        self.copy_up(ByteRange::new(range.end(), whole.end() - range.end())).await
    }

    /// Copies `range` from behind to the data image.
    pub(super) async fn copy_up(&self, range: ByteRange) -> Result<()> {
        let mut offset = range.start();
        while offset < range.end() {
            let part = ByteRange::new(offset, (range.end() - offset).min(COPY));
            let copy = self.chain.read_behind(offset, Buffer::zeroed(length(part))).await?;
            let written = self.data().write_at(offset, copy, Persist::Later).await;
            written.map_err(Error::io(self.chain.data_name(), "write"))?;
            offset = part.end();
        }
        Ok(())
    }

    /// Allocates the last cluster, where the disk ends within it, so that it may be made longer.
    /// Under a claim on all.
    pub(super) async fn allocate_last(&self, clusters: &Clusters<D::File>) -> Result<()> {
        let (cluster, size) = (clusters.allocation().cluster, self.size());
        let last = ByteRange::new(down(size, cluster.bytes()), size % cluster.bytes());
        if !clusters.are_complete(last) {
            self.copy_up(last).await?;
            clusters.complete(cluster.granules_touched(last));
        }
        Ok(())
    }
}

/// `offset` rounded down to a multiple of `cluster`.
fn down(offset: u64, cluster: u64) -> u64 {
    offset - offset % cluster
}

fn length(range: ByteRange) -> usize {
    usize::try_from(range.length()).expect("it is in memory")
}
