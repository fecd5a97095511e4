//! Clusters of an overlay that change places without a change of the disk: pulled up from what is
//! behind, or given up because what is behind has the same.
//!
//! Nothing that a guest could see changes, so no bitmap marks anything.

use std::sync::Arc;

use super::Image;
use super::switch::Plan;
use crate::chain::{Allocation, Layer};
use crate::sync::CountedArc;
use crate::track::clusters::Clusters;
use crate::{Access, ByteRange, Directory, Error, Result, Storage, Unmap};

impl<D: Directory> Image<D> {
    /// How many images it is made of: one, and those behind it.
    pub fn layers(&self) -> usize {
        self.chain.layers().len()
    }

    /// Whether `storage` is the data image of the layer at `depth`; `None` where that cannot be known.
    pub(crate) async fn is_layer<F: Storage>(&self, depth: usize, storage: &F) -> Option<bool> {
        let which = |identity: crate::Identity| (identity.device, identity.inode);
        let layer = self.chain.layer(depth).data.identity().await.ok().flatten().map(which);
        let other = storage.identity().await.ok().flatten().map(which);
        Some(layer? == other?)
    }

    pub(crate) fn layer(&self, depth: usize) -> &Layer<D::File> {
        self.chain.layer(depth)
    }

    /// Whether `data`, of which the clusters in `allocation` count, and all if there is none, is known
    /// to be the layer at `depth`, a disk of `size` bytes.
    pub(crate) async fn has_layer<F: Storage>(
        &self,
        depth: usize,
        data: &F,
        (size, allocation): (u64, Option<&Allocation>),
    ) -> bool {
        let layer = self.chain.layer(depth);
        let own = layer.allocation.as_deref();
        layer.size == size
            && own.is_some() == allocation.is_some()
            && own.zip(allocation).is_none_or(|(own, other)| own.is_like(other))
            && self.is_layer(depth, data).await == Some(true)
    }

    /// Puts into the image what its clusters in `range` show, so that they no longer depend on what
    /// is behind; durable with the next [flush](Self::flush).
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`], or an error of the storage, with some of them pulled.
    pub async fn pull(&self, range: ByteRange) -> Result<()> {
        if self.access == Access::Read {
            return Err(Error::ReadOnly);
        }
        let Some(clusters) = &self.clusters else { return Ok(()) };
        // Under the claim the size stays, and so does what is behind.
        let claim = clusters.claim(range, self.data()).await;
        let pulled = self.pull_missing(clusters, range.clip(self.size())).await;
        claim.release();
        pulled
    }

    async fn pull_missing(&self, clusters: &Clusters<D::File>, range: ByteRange) -> Result<()> {
        let cluster = clusters.allocation().cluster;
        let mut touched = cluster.granules_touched(range);
        while !touched.is_empty() {
            let bits = CountedArc::clone(&clusters.allocation().bits());
            let Some(first) = bits.next_clear_in(touched.clone()) else { break };
            let end = bits.next_set_in(first..touched.end).unwrap_or(touched.end);
            self.pull_bytes(cluster.bytes_of(first..end, self.size())).await?;
            clusters.complete(first..end);
            touched.start = end;
        }
        Ok(())
    }

    /// Writes to the data image what `range` shows, of which the image has nothing.
    async fn pull_bytes(&self, range: ByteRange) -> Result<()> {
        let mut left = range;
        while !left.is_empty() {
            let extent = self.block_status(left).await?;
            let part = left.clip(left.start() + extent.length);
            if extent.data {
                self.copy_up(part).await?;
            } else {
                // Written: what is in the data image where nothing is allocated can be anything.
                let zeroed = self.data().write_zeroes(part, Unmap::Allowed).await;
                zeroed.map_err(Error::io(self.chain.data_name(), "write zeroes"))?;
            }
            left = left.skip(part.length());
        }
        Ok(())
    }

    /// Gives up all clusters: the disk is then what is behind, where the caller has put the same,
    /// and made it durable.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`], or an error of the storage. All clusters are then still there, unless
    /// it was the discard of what nothing shows any more that failed.
    pub(crate) async fn give_up_clusters(&self) -> Result<()> {
        if self.access == Access::Read {
            return Err(Error::ReadOnly);
        }
        let Some(clusters) = &self.clusters else { return Ok(()) };
        let mut control = self.control.lock().await;
        self.settle_length().await?;
        let claim = clusters.claim_all(self.data()).await;
        let done = async {
            // Nothing may be left to settle into the bitmap that goes.
            self.flush().await?;
            let old = clusters.segment();
            let empty = self.create_segment(&old.bitmap, old.granularity, self.size()).await?;
            let mut plan = Plan::of(&control, self.size());
            plan.allocation = Some(Arc::new(empty.relaxed(false)));
            self.prepare_or_give_up(&control, &plan).await?;
            // The one step: before it a crash finds all clusters, after it none, and the same disk.
            let gone = self.decide(&mut control, plan).await?;
            self.remove_files(&gone).await;
            let whole = ByteRange::new(0, self.size());
            let discarded = self.data().discard(whole).await;
            discarded.map_err(Error::io(self.chain.data_name(), "discard"))
        };
        let done = done.await;
        claim.release();
        done
    }
}
