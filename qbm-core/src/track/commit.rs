//! Group commit: one committer writes the pending pages, syncs once, and publishes what it wrote.
//!
//! The caller that finds nobody committing leads; whoever marks meanwhile joins the next round.
//! docs/format.md, "Marks", argues why a torn page is harmless: bits are only ever set, so each
//! byte after a crash lies between the old and the new value.

use std::io;

use super::segment::{Segment, SegmentFile};
use crate::bits::PAGE_BYTES;
use crate::mutants::{self, Mutant};
use crate::sync::Ordering;
use crate::{Buffer, Persist, Storage};

/// Pages that are written before a sync publishes them; bounds the memory of a commit to 1 MiB.
const BATCH_PAGES: usize = 256;

/// The right to write a segment's file. There is at most one of it for a segment.
pub(crate) struct Lead<'a, F> {
    segment: &'a Segment<F>,
    /// Pages taken from `pending` and not yet published.
    taken: Vec<usize>,
    /// Whether a write may be under way: dropped now, it may land at any later time.
    writing: bool,
}

/// Adjacent pages of one snapshot.
struct Run {
    first_page: usize,
    buffer: Buffer,
}

impl<'a, F> Lead<'a, F> {
    pub(super) fn new(segment: &'a Segment<F>) -> Self {
        Self { segment, taken: Vec::new(), writing: false }
    }

    /// The segment that this leads.
    pub(crate) fn segment(&self) -> &'a Segment<F> {
        self.segment
    }

    /// Tells all who wait that their marks cannot be made durable.
    pub(crate) fn fail(&self, why: String) {
        self.segment.note_failure(why);
    }
}

impl<F: Storage> Lead<'_, F> {
    /// Makes every mark durable that was pending when the call began.
    ///
    /// # Errors
    ///
    /// Any error of the file. The segment is then poisoned, since after a failed sync nothing is
    /// known; the sync is not repeated.
    pub(crate) async fn commit(&mut self) -> io::Result<()> {
        let segment = self.segment;
        let file = segment.file();
        if segment.abandoned.load(Ordering::Acquire) {
            // A committer was dropped under way. Its older snapshot must not land after ours.
            if mutants::without(Mutant::CommitUnsettled) {
                file.file.settle().await;
            }
            segment.abandoned.store(false, Ordering::Release);
        }
        if mutants::without(Mutant::FlagAfterSnapshot) {
            // Taken before the snapshot: a mark that comes between the two is noted again.
            segment.pending.take(&mut self.taken);
        } else {
            segment.pending.take(&mut self.taken);
            segment.pending.restore(&self.taken);
        }
        self.writing = true;
        let written = self.write_file(&file).await;
        self.writing = false;
        if written.is_err() {
            segment.poison();
            segment.pending.restore(&self.taken);
            self.taken.clear();
        }
        written
    }

    async fn write_file(&mut self, file: &SegmentFile<F>) -> io::Result<()> {
        // A page written into a file that somebody has cut would make it long enough again, with
        // zeroes where marks of other pages were. Cut, it is at least known to be too short.
        if file.file.len().await? < self.segment.wanted.file_len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "somebody has cut it"));
        }
        self.write_taken(file).await
    }

    async fn write_taken(&mut self, file: &SegmentFile<F>) -> io::Result<()> {
        while !self.taken.is_empty() {
            let batch = self.taken.len().min(BATCH_PAGES);
            let runs = self.snapshot(&self.taken[..batch]);
            if mutants::planted(Mutant::FlagAfterSnapshot) {
                mutants::race(Mutant::FlagAfterSnapshot).await;
                self.segment.pending.take(&mut Vec::new());
            }
            let runs = match write_runs(&file.file, runs).await {
                Err(_) if mutants::planted(Mutant::RetrySync) => {
                    file.file.sync().await?;
                    self.snapshot(&self.taken[..batch])
                }
                written => written?,
            };
            self.publish(&runs);
            self.taken.drain(..batch);
        }
        Ok(())
    }

    /// Private copies of `pages`, adjacent ones together, cut at the end of the file.
    fn snapshot(&self, pages: &[usize]) -> Vec<Run> {
        let mut runs = Vec::new();
        for run in pages.chunk_by(|page, next| page + 1 == *next) {
            let first_page = run[0];
            let mut buffer = Buffer::zeroed(run.len() * PAGE_BYTES);
            for (page, bytes) in run.iter().zip(buffer.chunks_exact_mut(PAGE_BYTES)) {
                let bytes = bytes.try_into().expect("a chunk of one page");
                self.segment.wanted.page_bytes(*page, bytes);
            }
            let last = run[run.len() - 1];
            let length = buffer.len() - PAGE_BYTES + self.segment.wanted.page_len(last);
            runs.push(Run { first_page, buffer: buffer.narrow(0..length) });
        }
        runs
    }

    /// Makes known what is durable now: the snapshots, not what memory holds by now.
    fn publish(&self, runs: &[Run]) {
        let segment = self.segment;
        for run in runs {
            for (index, bytes) in run.buffer.chunks(PAGE_BYTES).enumerate() {
                let page = run.first_page + index;
                if mutants::planted(Mutant::DurableFromMemory) {
                    let mut now = [0; PAGE_BYTES];
                    segment.wanted.page_bytes(page, &mut now);
                    segment.durable.publish(page, &now);
                } else {
                    segment.durable.publish(page, bytes);
                }
            }
        }
        segment.waiting.wake_all();
    }

    /// Puts `file` in place of the poisoned one; all pages are written to it once more.
    ///
    /// `file` durably holds all that was wanted when the rotation began, and the descriptor names
    /// it durably. Its bits are published by the next [`commit`](Self::commit).
    pub(crate) fn rotated(&self, file: SegmentFile<F>) {
        self.segment.replace_file(file);
    }
}

/// Writes `runs` and makes them durable; gives them back.
async fn write_runs<F: Storage>(file: &F, runs: Vec<Run>) -> io::Result<Vec<Run>> {
    // One run needs no sync of the whole file.
    let persist = if runs.len() == 1 { Persist::Now } else { Persist::Later };
    let persist = if mutants::planted(Mutant::NoSync) { Persist::Later } else { persist };
    let mut written = Vec::with_capacity(runs.len());
    for Run { first_page, buffer } in runs {
        let buffer = file.write_at((first_page * PAGE_BYTES) as u64, buffer, persist).await?;
        written.push(Run { first_page, buffer });
    }
    if persist == Persist::Later && mutants::without(Mutant::NoSync) {
        // A crash before this leaves any part of the pages: no writer relies on them yet.
        file.sync().await?;
    }
    Ok(written)
}

impl<F> Drop for Lead<'_, F> {
    fn drop(&mut self) {
        // What was taken and not published goes back, for the next round or the rotation.
        self.segment.pending.restore(&self.taken);
        if self.writing {
            self.segment.abandoned.store(true, Ordering::Release);
        }
        self.segment.stop_leading();
    }
}
