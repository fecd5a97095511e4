//! From what a crash or a stranger left to a state that can be relied upon.

use std::sync::Arc;

use super::Image;
use super::bitmaps;
use super::check::is_ours;
use super::open::copy_name;
use crate::descriptor::{Descriptor, Doubt, Durability, InUse};
use crate::mutants::{self, Mutant};
use crate::track::segment::Segment;
use crate::{Directory, Error, Result, Storage};

impl<D: Directory> Image<D> {
    /// Decides whether the marks can be trusted, and marks everything where they cannot.
    pub(super) async fn judge(&self) -> Result<()> {
        let book = self.book.lock().await;
        let Some(doubt) = self.doubt(book.descriptor()).await? else { return Ok(()) };
        let mut control = self.control.lock().await;
        for bitmap in control.bitmaps.iter_mut().filter(|bitmap| !bitmap.disabled) {
            bitmap.active().segment.wanted.set_all();
            bitmap.doubt = Some(doubt);
        }
        Ok(())
    }

    /// Why no bitmap of this image can be trusted, if so.
    async fn doubt(&self, descriptor: &Descriptor) -> Result<Option<Doubt>> {
        if let Some(in_use) = &descriptor.in_use {
            // The stamp is of no use: the data was being written.
            if in_use.data_sync_failed {
                return Ok(Some(Doubt::DataSyncFailed));
            }
            if descriptor.size.is_some_and(|size| size > self.size()) {
                // No resize of ours cuts the data before the descriptor says so.
                return Ok(Some(Doubt::DataChanged));
            }
            let lost = descriptor.durability == Durability::Close;
            return Ok(lost.then_some(Doubt::NotStored));
        }
        let resized = descriptor.size.is_some_and(|size| size != self.size());
        let Some(stamp) = descriptor.stamp else {
            return Ok(resized.then_some(Doubt::DataChanged));
        };
        let now = self.data().identity().await;
        let now = now.map_err(Error::io(self.chain.data_name(), "stat"))?;
        Ok((resized || now != Some(stamp)).then_some(Doubt::DataChanged))
    }

    /// Makes durable what was loaded, and the image ours.
    pub(super) async fn recover(&self) -> Result<()> {
        let mut control = self.control.lock().await;
        let before = self.book.lock().await.descriptor().clone();
        let crashed = before.in_use.is_some();
        if mutants::without(Mutant::KillNoDirSync) {
            // First: the descriptor that was read may not be the durable one, and one that says
            // how the data was left at a close must not come back after we have touched it.
            self.directory.sync().await.map_err(Error::io(&self.name, "sync the directory of"))?;
        }
        if crashed {
            self.settle_data().await?;
        }
        // What was added is marked in memory, and the files are too short for that.
        let grown = before.size.is_some_and(|committed| committed < self.size());
        // The reason before the marks: a crash in between must not leave marks without one.
        self.note_doubts(&control.bitmaps, &before).await?;
        for bitmap in &control.bitmaps {
            for held in &bitmap.segments {
                let sound = bitmap.doubt.is_none() && !held.segment.is_poisoned();
                self.settle_segment(&held.segment, sound && !crashed && !grown).await?;
            }
        }
        if let Some(clusters) = &self.clusters {
            // Before the first request: a write to what is allocated already relies on its bit.
            self.settle_segment(&clusters.segment(), !crashed).await?;
        }
        self.write_descriptor(&copy_name(&self.name), &before).await?;
        self.take_into_use(&mut control.bitmaps).await?;
        // Of a descriptor that somebody else made, only what `check` would remove as an orphan.
        let seals = before.bitmaps.into_iter().filter_map(|bitmap| bitmap.seal);
        let seals = seals.map(|seal| seal.file).filter(|file| is_ours(&self.name, file));
        self.remove_files(&seals.collect::<Vec<_>>()).await;
        self.gate.replace(control.duties(bitmaps::recording(&control.bitmaps)));
        Ok(())
    }

    /// Makes the marks of `segment` durable, which the file surely has if it is `trusted`.
    async fn settle_segment(&self, segment: &Arc<Segment<D::File>>, trusted: bool) -> Result<()> {
        if trusted || mutants::planted(Mutant::KillTrust) {
            segment.durable.union(&segment.wanted);
            return Ok(());
        }
        if mutants::planted(Mutant::KillSyncOnly) {
            let file = segment.file();
            file.file.sync().await.map_err(Error::io(&file.name, "sync"))?;
            segment.durable.union(&segment.wanted);
            return Ok(());
        }
        // What was read may be in memory alone, left there by the process that died, and a sync
        // would not say whether an earlier one failed: so it is written again.
        segment.note_all();
        self.commit_all(segment).await
    }

    /// After a crash: what is read of the data from here on is durable, and so is its length.
    ///
    /// The process that died may have been told that a sync failed, and had no time to tell us. Its
    /// writes since are then in the page cache and nowhere else, and no later sync helps.
    async fn settle_data(&self) -> Result<()> {
        let (name, data) = (self.chain.data_name(), self.data());
        // Set again: a resize may have been cut short between the length and its sync.
        data.set_len(self.size()).await.map_err(Error::io(name, "resize"))?;
        self.flush().await?;
        if mutants::planted(Mutant::KillTrustData) {
            return Ok(());
        }
        // A backup must not store what can go without a mark.
        data.invalidate_cache().await.map_err(Error::io(name, "drop the cache of"))
    }

    /// Notes in the descriptor why bitmaps are doubtful, where it does not say so yet.
    async fn note_doubts(
        &self,
        bitmaps: &[bitmaps::Tracked<D::File>],
        before: &Descriptor,
    ) -> Result<()> {
        let noted = |name: &str| before.bitmap(name).and_then(|bitmap| bitmap.doubt);
        if bitmaps.iter().all(|bitmap| bitmap.doubt == noted(&bitmap.name)) {
            return Ok(());
        }
        self.commit_edit(|descriptor| {
            for bitmap in bitmaps {
                if let Some(named) = descriptor.bitmap_mut(&bitmap.name) {
                    named.doubt = bitmap.doubt;
                }
            }
        })
        .await
    }

    async fn take_into_use(&self, bitmaps: &mut [bitmaps::Tracked<D::File>]) -> Result<()> {
        let opener = self.host.opener();
        let in_use = InUse {
            opener: self.host.fresh_id(),
            pid: opener.pid,
            program: opener.program,
            boot: opener.boot,
            since: self.host.now(),
            data_sync_failed: false,
        };
        let (id, size) = (self.host.fresh_id(), self.size());
        self.commit_edit(|descriptor| {
            bitmaps::put_into(bitmaps, descriptor);
            descriptor.bitmaps.iter_mut().for_each(|bitmap| bitmap.seal = None);
            descriptor.id.get_or_insert(id);
            descriptor.generation = descriptor.generation.saturating_add(1);
            descriptor.size = Some(size);
            descriptor.stamp = None;
            descriptor.in_use = Some(in_use);
        })
        .await
    }
}
