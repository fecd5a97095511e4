//! Syncing the data image: one sync at a time, shared by all who wait.
//!
//! A kernel tells the failure of a sync once, to whoever asked first, and takes the pages for
//! clean from then on. With two syncs under way the one that returns `Ok` could be the one that
//! was told nothing, so there is only ever one, and its failure is known before the next begins.

use super::Image;
use crate::bits::{Bits, PAGE_BYTES};
use crate::mutants::{self, Mutant};
use crate::sync::{AsyncMutex, AtomicBool, AtomicU64, Ordering};
use crate::track::clusters::Clusters;
use crate::{Access, Buffer, Directory, Error, Persist, Result, Storage};

/// The syncs of a data image.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    turn: AsyncMutex<()>,
    /// How many have begun.
    begun: AtomicU64,
    /// The number of the last one that succeeded.
    succeeded: AtomicU64,
    /// Set by a failure, and by a sync that was dropped half-way: nothing is known to be durable
    /// from then on, until a reopen.
    failed: AtomicBool,
}

impl<D: Directory> Image<D> {
    /// Makes every write durable that was complete when the call began. The marks are already; of an
    /// overlay, the clusters that have been allocated become durable with their data.
    ///
    /// Run it to its end: a flush whose future is dropped half-way counts as failed, because
    /// nobody heard how it ended.
    ///
    /// # Errors
    ///
    /// [`Error::DataSyncFailed`] from the first failure until the image is reopened;
    /// [`Error::AllocationWrite`] where a later flush may succeed.
    pub async fn flush(&self) -> Result<()> {
        if self.access == Access::Read {
            return Ok(());
        }
        let syncs = &self.syncs;
        let mut arrived = syncs.begun.load(Ordering::Acquire);
        if mutants::planted(Mutant::FlushJoins) {
            arrived = arrived.min(syncs.succeeded.load(Ordering::Acquire));
        }
        let turn = syncs.turn.lock().await;
        let _turn = mutants::without(Mutant::FlushTogether).then_some(turn);
        if syncs.failed.load(Ordering::Acquire) {
            return Err(Error::DataSyncFailed);
        }
        if syncs.succeeded.load(Ordering::Acquire) > arrived {
            // One that began after we came has done it for us.
            return Ok(());
        }
        let number = syncs.begun.fetch_add(1, Ordering::AcqRel) + 1;
        // Until its end is known it counts as failed; so it does if this future is dropped.
        syncs.failed.store(true, Ordering::Release);
        self.sync_data().await?;
        syncs.failed.store(false, Ordering::Release);
        if let Some(clusters) = &self.clusters {
            self.commit_clusters(clusters).await?;
        }
        syncs.succeeded.store(number, Ordering::Release);
        Ok(())
    }

    /// Syncs the data, and settles the clusters that were complete before.
    async fn sync_data(&self) -> Result<()> {
        let take = || self.clusters.as_ref().and_then(Clusters::take);
        // First: a cluster that becomes complete during the sync need not be covered by it.
        let complete = take();
        if mutants::planted(Mutant::AllocationFirst) {
            self.settle_clusters(&complete);
            self.commit_clusters(self.clusters.as_ref().expect("an overlay")).await?;
        }
        if mutants::planted(Mutant::AllocationAlone) {
            self.settle_clusters(&complete);
            return Ok(());
        }
        if self.data().sync().await.is_err() {
            // What was taken is forgotten: no flush succeeds any more.
            self.note_data_failure().await;
            return Err(Error::DataSyncFailed);
        }
        self.settle_clusters(&complete);
        if mutants::planted(Mutant::SnapshotLate) {
            self.settle_clusters(&take());
        }
        Ok(())
    }

    fn settle_clusters(&self, complete: &Option<Bits>) {
        if let (Some(clusters), Some(complete)) = (&self.clusters, complete) {
            clusters.settle(complete);
        }
    }

    /// Makes the settled clusters durable. A crash before that leaves them clear, and what is behind
    /// them shows; only then may a flush return.
    async fn commit_clusters(&self, clusters: &Clusters<D::File>) -> Result<()> {
        let segment = clusters.segment();
        if segment.is_committed() {
            return Ok(());
        }
        if mutants::planted(Mutant::AllocationUnsynced) {
            let page = {
                let mut bytes = [0; PAGE_BYTES];
                segment.wanted.page_bytes(0, &mut bytes);
                Buffer::from_slice(&bytes[..segment.wanted.page_len(0)])
            };
            let written = segment.file().file.write_at(0, page, Persist::Later).await;
            return written.map(drop).map_err(Error::io(&segment.bitmap, "write"));
        }
        let mut lead = segment.lead().await;
        let committed = self.commit_or_rotate(&mut lead).await;
        committed.map_err(|what| Error::AllocationWrite { bitmap: segment.bitmap.clone(), what })
    }

    /// Tells the next open too: the bitmaps are then doubtful.
    async fn note_data_failure(&self) {
        // Best effort: if the medium does not take this either, it is still known in memory.
        let _noted = self
            .commit_edit(|descriptor| {
                if let Some(in_use) = &mut descriptor.in_use {
                    in_use.data_sync_failed = true;
                }
            })
            .await;
    }
}
