//! Guest requests: reads, and the one rule for everything that may change data.
//!
//! A write to granules that are durably marked costs one atomic load a word and a ticket, which is
//! two atomic read-modify-writes on memory of its thread: no lock, no allocation, no system call of
//! ours.

use std::sync::Arc;

use futures_util::future::try_join_all;

use super::Image;
use crate::mutants::{self, Mutant};
use crate::track::duties::Duties;
use crate::track::gate::Ticket;
use crate::track::hold::Released;
use crate::track::segment::{Segment, Turn};
use crate::track::watch::Watch;
use crate::{Access, Buffer, ByteRange, Directory, Error, Persist, Result, Storage, Unmap};

impl<D: Directory> Image<D> {
    /// Fills `buffer` from `offset`, in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`], or an error of the storage.
    pub async fn read(&self, offset: u64, buffer: Buffer) -> Result<Buffer> {
        self.check_range(offset, buffer.len() as u64)?;
        self.chain.read_at(offset, buffer).await
    }

    /// Writes all of `buffer` at `offset`, after its granules are durably marked.
    ///
    /// A dropped future leaves the write to happen or not; its granules are marked either way.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`], [`Error::ReadOnly`], [`Error::BitmapWrite`] and [`Error::Moved`] with no
    /// byte written, or an error of the storage with any part of them written; with [`Persist::Now`] also those
    /// of [`flush`](Self::flush).
    pub async fn write(&self, offset: u64, buffer: Buffer, persist: Persist) -> Result<Buffer> {
        let ticket = match self.enter_free(offset, buffer.len() as u64) {
            Some(ticket) => ticket,
            None => match self.enter(offset, buffer.len() as u64).await {
                Err(Error::Moved { .. }) => return Err(Error::Moved { buffer: Some(buffer) }),
                entered => entered?,
            },
        };
        let range = ByteRange::new(offset, buffer.len() as u64);
        let buffer = if self.is_allocated(range) {
            let followers = ticket.duties().followers();
            let written = self.data().write_at(offset, buffer, Persist::Later).await;
            if mutants::planted(Mutant::ToldLate) {
                ticket.duties().tell(range);
            }
            if mutants::planted(Mutant::FollowHeld) {
                follow(followers.clone()).await;
            }
            ticket.leave();
            follow(followers).await;
            written.map_err(Error::io(self.chain.data_name(), "write"))?
        } else {
            ticket.leave();
            Box::pin(self.first_write(offset, buffer)).await?
        };
        if persist == Persist::Now {
            // Not by a durable write: its failure could go unseen beside a flush (see `flush`).
            Box::pin(self.flush()).await?;
        }
        Ok(buffer)
    }

    /// Makes `range` read as zeroes; marks as [`write`](Self::write) does.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    pub async fn write_zeroes(&self, range: ByteRange, unmap: Unmap) -> Result<()> {
        let ticket = self.enter(range.start(), range.length()).await?;
        if !self.is_allocated(range) {
            ticket.leave();
            return Box::pin(self.first_zeroes(range, unmap)).await;
        }
        let followers = ticket.duties().followers();
        let written = self.data().write_zeroes(range, unmap).await;
        ticket.leave();
        follow(followers).await;
        written.map_err(Error::io(self.chain.data_name(), "write zeroes"))
    }

    /// Whether [`write_zeroes`](Self::write_zeroes) to `range` would write no zeroes, as far as is known: no
    /// cluster has to be allocated for them, and the storage can do without.
    pub async fn zeroes_fast(&self, range: ByteRange, unmap: Unmap) -> bool {
        self.is_allocated(range) && self.data().zeroes_fast(unmap).await
    }

    /// Gives up the contents of `range`; marks as [`write`](Self::write) does.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    pub async fn discard(&self, range: ByteRange) -> Result<()> {
        let tracked = if mutants::planted(Mutant::UntrackedDiscard) { 0 } else { range.length() };
        let ticket = self.enter(range.start(), tracked).await?;
        if !self.is_allocated(range) {
            ticket.leave();
            return Box::pin(self.first_discard(range)).await;
        }
        let followers = ticket.duties().followers();
        let discarded = self.data().discard(range).await;
        ticket.leave();
        follow(followers).await;
        discarded.map_err(Error::io(self.chain.data_name(), "discard"))
    }

    /// Whether a write to `range` would find its marks durable, and nothing to be copied first. A
    /// hint: an operation on bitmaps may change it at once.
    pub fn is_free(&self, range: ByteRange) -> bool {
        self.gate.is_free(range)
    }

    /// The short cut of [`enter`](Self::enter) where nothing is in the way and all duties are done.
    #[inline]
    fn enter_free(&self, offset: u64, length: u64) -> Option<Ticket<'_, D::File>> {
        if self.access == Access::Read || mutants::planted(Mutant::RecordingBeforeTicket) {
            return None;
        }
        let ticket = self.gate.enter();
        match self.check_range(offset, length) {
            Ok(range) if ticket.duties().are_done(range) => Some(ticket),
            _ => {
                ticket.leave();
                None
            }
        }
    }

    /// Steps W1 to W3 of a write: a ticket first, then its duties.
    pub(super) async fn enter(&self, offset: u64, length: u64) -> Result<Ticket<'_, D::File>> {
        if self.access == Access::Read {
            return Err(Error::ReadOnly);
        }
        let ticket = self.ticket().await;
        // The size changes only between epochs, so it holds for as long as the ticket does.
        let ready = match self.check_range(offset, length) {
            Ok(range) if ticket.duties().are_done(range) => return Ok(ticket),
            // Boxed, so that the future of a write to marked granules stays small.
            Ok(range) => Box::pin(self.make_ready(ticket.duties(), range)).await,
            Err(error) => Err(error),
        };
        match ready {
            Ok(()) => Ok(ticket),
            Err(error) => {
                ticket.leave();
                Err(error)
            }
        }
    }

    #[cfg(not(qbm_mutants))]
    async fn ticket(&self) -> Ticket<'_, D::File> {
        self.gate.enter()
    }

    #[cfg(qbm_mutants)]
    async fn ticket(&self) -> Ticket<'_, D::File> {
        if mutants::planted(Mutant::RecordingBeforeTicket) {
            return self.gate.enter_late().await;
        }
        self.gate.enter()
    }

    async fn make_ready(&self, duties: &Duties<D::File>, range: ByteRange) -> Result<()> {
        for hold in &duties.holds {
            if hold.released().await == Released::Elsewhere {
                return Err(Error::Moved { buffer: None });
            }
        }
        for shield in &duties.shields {
            shield.keep(range, &self.chain).await;
        }
        if mutants::without(Mutant::ToldLate) {
            duties.tell(range);
        }
        // All at once: several bitmaps cost the slowest, not the sum.
        let missing = duties.recording.iter().filter(|segment| !segment.has_marks(range));
        try_join_all(missing.map(|segment| self.mark_durably(segment, range))).await?;
        Ok(())
    }

    /// Marks the granules of `range` in `segment`, and returns when they are durable there.
    async fn mark_durably(&self, segment: &Arc<Segment<D::File>>, range: ByteRange) -> Result<()> {
        let granules = segment.granules(range);
        if segment.mark(&granules) || mutants::planted(Mutant::DataFirst) {
            return Ok(());
        }
        let failures = segment.failures();
        loop {
            match segment.turn(&granules, failures).await {
                Turn::Durable => return Ok(()),
                Turn::Failed(what) => {
                    return Err(Error::BitmapWrite { bitmap: segment.bitmap.clone(), what });
                }
                // A failure is noted in the segment, and the next turn tells it.
                Turn::Lead(mut lead) => drop(self.commit_or_rotate(&mut lead).await),
            }
        }
    }

    pub(super) fn check_range(&self, offset: u64, length: u64) -> Result<ByteRange> {
        let size = self.size();
        match ByteRange::checked_new(offset, length) {
            Some(range) if range.end() <= size => Ok(range),
            range => Err(Error::OutOfRange {
                range: range.unwrap_or(ByteRange::new(offset.min(crate::units::MAX_SIZE), 0)),
                size,
            }),
        }
    }
}

/// Waits until jobs that no write may get ahead of have copied one that is over.
pub(super) async fn follow(followers: Vec<Arc<Watch>>) {
    for watch in followers {
        // Boxed, so that the future of a write that nobody follows stays small.
        Box::pin(watch.copied()).await;
    }
}
