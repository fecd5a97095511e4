//! New marks for a bitmap, found by looking at the disk.

use std::sync::Arc;

use super::Image;
use super::bitmaps::{self, Held, Persistence, free};
use super::switch::Plan;
use crate::bits::Bits;
use crate::mutants::{self, Mutant};
use crate::{Access, Directory, Error, Id, Result};

impl<D: Directory> Image<D> {
    /// Marks in the bitmap `name` what `differing` finds to be another than at the point `point`,
    /// and what is written from now on, and nothing else. No doubt of it is left.
    ///
    /// `differing` looks at the disk once all writes are recorded for the new marks. Until it is
    /// done, other operations on bitmaps wait; requests of a guest do not.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`], [`Error::BitmapNotFound`], [`Error::BitmapBusy`], [`Error::Unusable`] if
    /// the bitmap is not relative to `point`, or an error of `differing` or the storage. The bitmap is
    /// then as it was.
    pub async fn rebuild(
        &self,
        name: &str,
        point: Id,
        differing: impl Future<Output = Result<Bits>>,
    ) -> Result<()> {
        if self.access == Access::Read {
            return Err(Error::ReadOnly);
        }
        let mut control = self.control.lock().await;
        let bitmap = control.free(name)?;
        let granularity = bitmap.granularity;
        if bitmap.segments[0].point != Some(point) {
            let what = format!("bitmap '{name}' is not relative to point {point}");
            return Err(Error::unusable(&self.name, what));
        }
        let mut plan = Plan::of(&control, self.size());
        let segment =
            match self.plan_segment(&mut plan, name, granularity, Persistence::Persistent).await {
                Ok(segment) => segment,
                Err(error) => {
                    self.forget_fresh(plan).await;
                    return Err(error);
                }
            };
        let bitmap = free(&mut plan.bitmaps, name)?;
        bitmap.segments = vec![Held { segment: Arc::clone(&segment), point: Some(point) }];
        bitmap.doubt = None;
        self.prepare_or_give_up(&control, &plan).await?;
        if mutants::planted(Mutant::RebuildUnrecorded) {
            self.gate.replace(bitmaps::recording(&control.bitmaps));
        }
        let marked = async {
            segment.wanted.union(&differing.await?);
            segment.note_all();
            if mutants::planted(Mutant::RebuildEarly) {
                return Ok(());
            }
            self.commit_all(&segment).await
        };
        if let Err(error) = marked.await {
            self.give_up(&control, &plan).await;
            return Err(error);
        }
        let gone = self.decide(&mut control, plan).await?;
        self.remove_files(&gone).await;
        Ok(())
    }
}
