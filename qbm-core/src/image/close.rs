//! A clean close: the image is plain version 1 again.

use std::io;
use std::sync::Arc;

use super::Image;
use super::switch::Plan;
use super::transaction::plan_collapse;
use crate::mutants::{self, Mutant};
use crate::track::clusters::Clusters;
use crate::track::segment::Segment;
use crate::{Access, Directory, Error, Identity, Result, Storage};

impl<D: Directory> Image<D> {
    /// Makes everything durable and takes the marks of an open image away.
    ///
    /// Points that were not settled are given up: their bitmaps keep all marks. Bitmaps that are not
    /// persistent are gone.
    ///
    /// # Errors
    ///
    /// Any error of the storage. The image is then as after a crash: no mark is lost, and the
    /// next open recovers.
    pub async fn close(self) -> Result<()> {
        if self.access == Access::Read {
            return Ok(());
        }
        // Requests whose futures were dropped may still be under way.
        if mutants::without(Mutant::CloseUnsettled) {
            self.data().settle().await;
        }
        self.settle_length().await?;
        self.flush().await?;
        let mut control = self.control.lock().await;
        let mut plan = Plan::of(&control, self.size());
        for index in 0..plan.bitmaps.len() {
            plan.bitmaps[index].busy = None;
            plan_collapse(&mut plan, index);
        }
        if !plan.unions.is_empty() {
            self.switch_to(&mut control, plan).await?;
        }
        let persistent = control.bitmaps.iter().filter(|bitmap| bitmap.is_persistent());
        let dirty = persistent.map(|bitmap| Arc::clone(&bitmap.active().segment));
        let clusters = self.clusters.as_ref().map(Clusters::segment);
        let segments: Vec<_> = dirty.chain(clusters).collect();
        for segment in &segments {
            if !self.is_named(segment).await {
                // Memory has all marks: they go on in a new file.
                segment.poison();
            }
            self.commit_all(segment).await?;
        }
        let seals = self.seal(&segments).await;
        // After the last sync, which may still have changed the times of the file.
        let stamp =
            self.data().identity().await.map_err(Error::io(self.chain.data_name(), "stat"))?;
        let size = self.size();
        self.commit_edit(|descriptor| {
            for (bitmap, seal) in seals {
                if let Some(bitmap) = descriptor.bitmap_mut(&bitmap) {
                    bitmap.seal = Some(seal);
                }
            }
            descriptor.in_use = None;
            descriptor.stamp = stamp;
            descriptor.size = Some(size);
        })
        .await
    }

    /// Whether the next open will find the file of `segment` that was written to. Somebody who
    /// disregards our lock may have put another in its place, or removed its name.
    async fn is_named(&self, segment: &Segment<D::File>) -> bool {
        let ours = segment.file();
        let found = async {
            let named = self.directory.open(&ours.name, Access::Read).await?;
            io::Result::Ok((named.identity().await?, ours.file.identity().await?))
        };
        let which = |identity: Identity| (identity.device, identity.inode);
        found.await.is_ok_and(|(named, written)| named.map(which) == written.map(which))
    }
}
