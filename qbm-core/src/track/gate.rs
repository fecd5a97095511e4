//! The gate: what a write must do first, such as mark segments, and when all writes of an epoch are over.
//!
//! # Invariants
//!
//! * A ticket *is* a reference to its epoch, so no writer can act on a recording set that it
//!   holds no ticket for.
//! * Once [`Gate::switch`] has closed an epoch its count only falls.
//! * A ticket whose write was dropped under way still counts, until the storage has settled.

use std::sync::{Arc, PoisonError};

use super::duties::Duties;
use super::wait::WaitList;
use crate::mutants::{self, Mutant};
use crate::sync::{ArcSwap, AtomicU64, Guard, Mutex, MutexGuard, Ordering};
use crate::{ByteRange, Storage};

/// Set in [`Epoch::tickets`] once the epoch takes no more.
const CLOSED: u64 = 1 << 63;

/// A stretch of time in which the same segments record.
#[derive(Debug)]
pub(crate) struct Epoch<F> {
    duties: Duties<F>,
    /// Tickets out, and [`CLOSED`].
    tickets: AtomicU64,
    /// Those of them whose write was dropped before it was complete.
    orphans: AtomicU64,
    drained: WaitList,
}

impl<F> Epoch<F> {
    fn new(duties: Duties<F>) -> Arc<Self> {
        Arc::new(Self {
            duties,
            tickets: AtomicU64::new(0),
            orphans: AtomicU64::new(0),
            drained: WaitList::default(),
        })
    }

    fn outstanding(&self) -> u64 {
        self.tickets.load(Ordering::Acquire) & !CLOSED
    }

    fn give_back(&self, count: u64) {
        let before = self.tickets.fetch_sub(count, Ordering::AcqRel);
        if before & CLOSED != 0 {
            self.drained.wake_all();
        }
    }
}

impl<F: Storage> Epoch<F> {
    /// Waits until every write of this closed epoch is over, dropped ones included.
    async fn drain(&self, data: &F) {
        loop {
            let orphans = self
                .drained
                .until(|| {
                    let orphans = self.orphans.load(Ordering::Acquire);
                    (self.outstanding() == orphans).then_some(orphans)
                })
                .await;
            if orphans == 0 {
                return;
            }
            // Their futures are gone, but the medium may still be writing for them.
            data.settle().await;
            self.orphans.fetch_sub(orphans, Ordering::AcqRel);
            self.give_back(orphans);
        }
    }
}

/// Where every write enters. See the [module](self) for what always holds.
#[derive(Debug)]
pub(crate) struct Gate<F> {
    current: ArcSwap<Epoch<F>>,
    /// Closed epochs that nobody has yet seen drained, also when a switch was given up half-way.
    closed: Mutex<Vec<Arc<Epoch<F>>>>,
}

impl<F: Storage> Gate<F> {
    /// A gate with these duties at first.
    pub(crate) fn new(duties: impl Into<Duties<F>>) -> Self {
        Self { current: ArcSwap::new(Epoch::new(duties.into())), closed: Mutex::default() }
    }

    /// Takes a ticket of the current epoch. No lock, no allocation.
    pub(crate) fn enter(&self) -> Ticket<F> {
        loop {
            let epoch = self.current.load();
            let before = epoch.tickets.fetch_add(1, Ordering::AcqRel);
            if before & CLOSED == 0 {
                return Ticket {
                    epoch: Some(epoch),
                    complete: false,
                    #[cfg(qbm_mutants)]
                    stale: None,
                };
            }
            // The epoch was closed under our hands; its successor is in place already.
            epoch.give_back(1);
        }
    }

    /// Lets `duties` be those of writes from now on, and waits until every write that has older
    /// ones is over. `data` is where those writes go. One switch at a time.
    pub(crate) async fn switch(&self, duties: impl Into<Duties<F>>, data: &F) {
        self.replace(duties);
        if !mutants::planted(Mutant::NoDrain) {
            self.drain(data).await;
        }
    }

    /// Waits until every write is over that has other duties than those of now.
    pub(crate) async fn drain(&self, data: &F) {
        loop {
            let Some(epoch) = self.closed().last().cloned() else { return };
            epoch.drain(data).await;
            self.closed().retain(|other| !Arc::ptr_eq(other, &epoch));
        }
    }

    /// Lets `duties` be those of writes from now on, without waiting. Writes under way still have
    /// those of before.
    pub(crate) fn replace(&self, duties: impl Into<Duties<F>>) {
        let old = self.current.swap(Epoch::new(duties.into()));
        // Closed after the swap: a writer that finds it closed finds the new epoch in its place.
        old.tickets.fetch_or(CLOSED, Ordering::AcqRel);
        let mut closed = self.closed();
        closed.retain(|epoch| epoch.outstanding() > 0);
        closed.push(old);
    }

    /// Whether a write to `range` would find its duties done at present. Without a ticket that says
    /// nothing of the next moment.
    pub(crate) fn is_free(&self, range: ByteRange) -> bool {
        self.current.load().duties.are_done(range)
    }

    fn closed(&self) -> MutexGuard<'_, Vec<Arc<Epoch<F>>>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bug of reading the recording set first and taking the ticket later.
    #[cfg(qbm_mutants)]
    pub(crate) async fn enter_late(&self) -> Ticket<F> {
        let seen = self.current.load_full();
        mutants::race(Mutant::RecordingBeforeTicket).await;
        let mut ticket = self.enter();
        ticket.stale = Some(seen);
        ticket
    }
}

/// The right to write to the data, and the duty to mark first.
///
/// Having one proves that no switch of the recording set completes before it is given back.
#[derive(Debug)]
pub(crate) struct Ticket<F> {
    /// `None` once given back.
    epoch: Option<Guard<Arc<Epoch<F>>>>,
    complete: bool,
    /// The epoch whose recording set was read before the ticket was taken.
    #[cfg(qbm_mutants)]
    stale: Option<Arc<Epoch<F>>>,
}

impl<F> Ticket<F> {
    /// What is to be done before the write's data is submitted.
    pub(crate) fn duties(&self) -> &Duties<F> {
        #[cfg(qbm_mutants)]
        if let Some(stale) = &self.stale {
            return &stale.duties;
        }
        &self.epoch.as_ref().expect("a ticket is given back by value").duties
    }

    /// Gives the ticket back: the medium has finished with the write, or never saw it.
    pub(crate) fn leave(mut self) {
        self.leave_now();
    }

    fn leave_now(&mut self) {
        self.complete = true;
        if let Some(epoch) = self.epoch.take() {
            epoch.give_back(1);
        }
    }
}

impl<F> Drop for Ticket<F> {
    /// A write dropped under way: the medium may still be at it, so the ticket stays counted.
    fn drop(&mut self) {
        if self.complete {
            return;
        }
        if mutants::planted(Mutant::TicketOnDrop) {
            self.leave_now();
        } else if let Some(epoch) = self.epoch.take() {
            epoch.orphans.fetch_add(1, Ordering::AcqRel);
            epoch.drained.wake_all();
        }
    }
}
