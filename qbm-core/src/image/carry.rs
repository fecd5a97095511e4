//! Bitmaps that go along when a disk moves to another image: those that are in memory only. The others
//! belong to their image, and stay with it.

use super::{BitmapAction, Image};
use crate::{Directory, Result};

impl<D: Directory> Image<D> {
    /// Adds to `to` the bitmaps of this image that are in memory only, with their marks, but for those
    /// of which it has the name already. The caller keeps writes of both waiting.
    ///
    /// # Errors
    ///
    /// As for [`transaction`](Self::transaction); `to` then has none of them.
    pub async fn carry_bitmaps<T: Directory>(&self, to: &Image<T>) -> Result<()> {
        let there = to.bitmaps().await;
        let mut actions = Vec::new();
        for bitmap in self.bitmaps().await {
            let name = bitmap.name;
            if bitmap.persistent || there.iter().any(|other| other.name == name) {
                continue;
            }
            let marks = self.marks(&name).await?;
            let (granularity, disabled) = (bitmap.granularity, bitmap.disabled);
            actions.push(BitmapAction::AddInMemory { name: name.clone(), granularity, disabled });
            actions.push(BitmapAction::MergeMarks { target: name, marks });
        }
        to.transaction(&actions).await
    }
}
