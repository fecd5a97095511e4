//! Rotation: a segment whose file failed goes on in a new one.
//!
//! After a failed sync nothing is known of a file, and a second sync proves nothing. But memory
//! holds every mark, so all of them are written to a new file, and the descriptor names that.

use super::Image;
use super::segment_file;
use crate::bits::{Bits, PAGE_BYTES};
use crate::mutants::{self, Mutant};
use crate::track::commit::Lead;
use crate::track::segment::SegmentFile;
use crate::{Buffer, Directory, Error, Persist, Result, Storage};

impl<D: Directory> Image<D> {
    /// Makes the pending marks durable, in a new file if need be.
    ///
    /// # Errors
    ///
    /// Why neither could be done; all who wait for these marks are told the same.
    pub(super) async fn commit_or_rotate(
        &self,
        lead: &mut Lead<'_, D::File>,
    ) -> Result<(), String> {
        if !lead.segment().is_poisoned() && lead.commit().await.is_ok() {
            return Ok(());
        }
        let rotated = async {
            self.rotate(lead).await.map_err(|error| error.to_string())?;
            lead.commit().await.map_err(|error| error.to_string())
        };
        let outcome = rotated.await;
        if let Err(why) = &outcome {
            lead.fail(why.clone());
        }
        outcome
    }

    async fn rotate(&self, lead: &mut Lead<'_, D::File>) -> Result<()> {
        let segment = lead.segment();
        let name = segment_file::fresh_name(&self.name, &segment.bitmap, "bits", &*self.host);
        let file = self.directory.create(&name).await.map_err(Error::io(&name, "create"))?;
        let written = async {
            write_all(&file, &segment.wanted).await?;
            // Before the descriptor names it.
            file.sync().await?;
            self.directory.sync().await
        };
        if let Err(error) = written.await {
            self.remove_files(std::slice::from_ref(&name)).await;
            return Err(Error::io(&name, "write")(error));
        }
        let old = segment.file().name.clone();
        // The book stays locked until the segment has its new file: an operation that commits
        // in between would name the old one.
        let mut book = self.book.lock().await;
        let mut next = book.descriptor().clone();
        let segments = next.bitmaps.iter_mut().flat_map(|bitmap| &mut bitmap.segments);
        let named = segments.into_iter().find(|segment| segment.file == old);
        // Not named: it belongs to a switch that is under way, which will name the new file, or to
        // one that failed, whose descriptor may be on the medium with the old file until this.
        if let Some(named) = named {
            named.file.clone_from(&name);
        }
        self.commit_book(&mut book, next).await?;
        if mutants::planted(Mutant::RotatedLate) {
            drop(book);
            lead.rotated(SegmentFile { name, file });
        } else {
            lead.rotated(SegmentFile { name, file });
            drop(book);
        }
        self.remove_files(&[old]).await;
        Ok(())
    }
}

/// Writes every page of `bits`, zeroes included, so that later writes are overwrites.
async fn write_all<F: Storage>(file: &F, bits: &Bits) -> std::io::Result<()> {
    let mut buffer = Buffer::zeroed(PAGE_BYTES);
    for page in 0..bits.page_count() {
        let offset = (page * PAGE_BYTES) as u64;
        bits.page_bytes(page, (&mut *buffer).try_into().expect("one page"));
        let part = buffer.narrow(0..bits.page_len(page));
        buffer = file.write_at(offset, part, Persist::Later).await?.widen();
    }
    Ok(())
}
