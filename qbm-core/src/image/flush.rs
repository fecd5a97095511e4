//! Syncing the data image: one sync at a time, shared by all who wait.
//!
//! A kernel tells the failure of a sync once, to whoever asked first, and takes the pages for
//! clean from then on. With two syncs under way the one that returns `Ok` could be the one that
//! was told nothing, so there is only ever one, and its failure is known before the next begins.

use super::Image;
use crate::mutants::{self, Mutant};
use crate::sync::{AsyncMutex, AtomicBool, AtomicU64, Ordering};
use crate::{Access, Directory, Error, Result, Storage};

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
    /// Makes every write durable that was complete when the call began. The marks are already.
    ///
    /// Run it to its end: a flush whose future is dropped half-way counts as failed, because
    /// nobody heard how it ended.
    ///
    /// # Errors
    ///
    /// [`Error::DataSyncFailed`] from the first failure until the image is reopened.
    pub async fn flush(&self) -> Result<()> {
        if self.access == Access::Read {
            return Ok(());
        }
        let syncs = &self.syncs;
        let mut arrived = syncs.begun.load(Ordering::Acquire);
        if mutants::planted(Mutant::FlushJoins) && syncs.succeeded.load(Ordering::Acquire) < arrived
        {
            arrived -= 1;
        }
        let turn = syncs.turn.lock().await;
        let _turn = (!mutants::planted(Mutant::FlushTogether)).then_some(turn);
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
        if self.data().sync().await.is_err() {
            self.note_data_failure().await;
            return Err(Error::DataSyncFailed);
        }
        syncs.failed.store(false, Ordering::Release);
        syncs.succeeded.store(number, Ordering::Release);
        Ok(())
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
