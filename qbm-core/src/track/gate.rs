//! The gate: what a write must do first, such as mark segments, and when all writes of an epoch are over.
//!
//! # Invariants
//!
//! * A ticket *is* a reference to its epoch, so no writer can act on a recording set that it
//!   holds no ticket for.
//! * An epoch ends with the last reference to it, and once [`Gate::switch`] has replaced it nobody
//!   gets a new one.
//! * A ticket whose write was dropped under way leaves its reference with the gate, until the
//!   storage has settled.

use std::sync::{Arc, PoisonError};

use super::duties::Duties;
use super::wait::WaitList;
use crate::mutants::{self, Mutant};
use crate::sync::{ArcSwap, AtomicBool, CountedArc, Guard, Mutex, MutexGuard, Ordering};
use crate::{ByteRange, Storage};

/// A stretch of time in which writes have the same duties.
#[derive(Debug)]
struct Epoch<F> {
    duties: Duties<F>,
    end: Arc<End>,
}

/// The end of an epoch, for those who wait for it.
#[derive(Debug, Default)]
struct End {
    reached: AtomicBool,
    /// Woken at the end, and when a write of the epoch has been dropped.
    changed: WaitList,
}

impl<F> Epoch<F> {
    fn new(duties: Duties<F>) -> CountedArc<Self> {
        CountedArc::new(Self { duties, end: Arc::default() })
    }
}

impl<F> Drop for Epoch<F> {
    /// The last reference is gone. Whatever was done under the others happened before.
    fn drop(&mut self) {
        let relaxed = mutants::planted(Mutant::EndRelaxed);
        let order = if relaxed { Ordering::Relaxed } else { Ordering::Release };
        self.end.reached.store(true, order);
        self.end.changed.wake_all();
    }
}

impl End {
    fn is_reached(&self) -> bool {
        self.reached.load(Ordering::Acquire)
    }
}

/// Where every write enters. See the [module](self) for what always holds.
#[derive(Debug)]
pub(crate) struct Gate<F> {
    current: ArcSwap<Epoch<F>>,
    /// The epochs that were replaced and have not been seen to end, also when a switch was given up
    /// half-way.
    replaced: Mutex<Vec<Arc<End>>>,
    /// The epochs of writes that were dropped under way, each of them once. Nothing in an epoch
    /// leads back here, so they end at the latest with the gate.
    orphaned: Mutex<Vec<CountedArc<Epoch<F>>>>,
}

impl<F: Storage> Gate<F> {
    /// A gate with these duties at first.
    pub(crate) fn new(duties: impl Into<Duties<F>>) -> Self {
        Self {
            current: ArcSwap::new(Epoch::new(duties.into())),
            replaced: Mutex::default(),
            orphaned: Mutex::default(),
        }
    }

    /// Takes a ticket of the current epoch. No lock, no allocation.
    #[inline]
    pub(crate) fn enter(&self) -> Ticket<'_, F> {
        self.ticket(self.current.load())
    }

    fn ticket(&self, epoch: Guard<CountedArc<Epoch<F>>>) -> Ticket<'_, F> {
        Ticket {
            gate: self,
            epoch: Some(epoch),
            #[cfg(qbm_mutants)]
            stale: None,
        }
    }

    /// Lets `duties` be those of writes from now on, and waits until every write that has older
    /// ones is over, dropped ones included. `data` is where those writes go. One switch at a time.
    pub(crate) async fn switch(&self, duties: impl Into<Duties<F>>, data: &F) {
        self.replace(duties);
        if mutants::without(Mutant::NoDrain) {
            self.drain(data).await;
        }
    }

    /// Waits until every write is over that has other duties than those of now.
    pub(crate) async fn drain(&self, data: &F) {
        loop {
            let Some(end) = self.replaced().last().cloned() else { return };
            self.drain_epoch(&end, data).await;
            self.replaced().retain(|other| !Arc::ptr_eq(other, &end));
        }
    }

    /// Waits until the replaced epoch of `end` is over.
    async fn drain_epoch(&self, end: &Arc<End>, data: &F) {
        let next = || match self.adopt(end) {
            None => end.is_reached().then_some(None),
            orphan => Some(orphan),
        };
        while let Some(orphan) = end.changed.until(next).await {
            // Its future is gone, but the medium may still be writing for it.
            data.settle().await;
            orphan.leave();
        }
    }

    /// Lets `duties` be those of writes from now on, without waiting. Writes under way still have
    /// those of before.
    pub(crate) fn replace(&self, duties: impl Into<Duties<F>>) {
        let old = self.current.swap(Epoch::new(duties.into()));
        let mut replaced = self.replaced();
        replaced.retain(|end| !end.is_reached());
        replaced.push(Arc::clone(&old.end));
    }

    /// Whether a write to `range` would find its duties done at present. Without a ticket that says
    /// nothing of the next moment.
    pub(crate) fn is_free(&self, range: ByteRange) -> bool {
        self.current.load().duties.are_done(range)
    }

    /// The ticket of the writes dropped in the epoch of `end`, if there are any.
    fn adopt(&self, end: &Arc<End>) -> Option<Ticket<'_, F>> {
        let mut orphaned = self.orphaned();
        let index = orphaned.iter().position(|epoch| Arc::ptr_eq(&epoch.end, end))?;
        Some(self.ticket(Guard::from_inner(orphaned.swap_remove(index))))
    }

    fn replaced(&self) -> MutexGuard<'_, Vec<Arc<End>>> {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bug of reading the recording set first and taking the ticket later.
    #[cfg(qbm_mutants)]
    pub(crate) async fn enter_late(&self) -> Ticket<'_, F> {
        let seen = {
            let epoch = self.current.load();
            // Not the epoch: a reference to it would be a ticket.
            epoch.duties.clone()
        };
        mutants::race(Mutant::RecordingBeforeTicket).await;
        let mut ticket = self.enter();
        ticket.stale = Some(seen);
        ticket
    }
}

impl<F> Gate<F> {
    /// Keeps `epoch` from ending before the storage has settled.
    fn orphan(&self, epoch: CountedArc<Epoch<F>>) {
        let end = Arc::clone(&epoch.end);
        let mut orphaned = self.orphaned();
        // One reference stands for all writes dropped in its epoch, however many.
        if !orphaned.iter().any(|other| Arc::ptr_eq(&other.end, &end)) {
            orphaned.push(epoch);
        }
        drop(orphaned);
        end.changed.wake_all();
    }

    fn orphaned(&self) -> MutexGuard<'_, Vec<CountedArc<Epoch<F>>>> {
        self.orphaned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to write to the data, and the duty to mark first.
///
/// Having one proves that no switch of the recording set completes before it is given back.
#[derive(Debug)]
pub(crate) struct Ticket<'a, F> {
    gate: &'a Gate<F>,
    /// `None` once given back.
    epoch: Option<Guard<CountedArc<Epoch<F>>>>,
    /// The duties that were read before the ticket was taken.
    #[cfg(qbm_mutants)]
    stale: Option<Duties<F>>,
}

impl<F> Ticket<'_, F> {
    /// What is to be done before the write's data is submitted.
    #[inline]
    pub(crate) fn duties(&self) -> &Duties<F> {
        #[cfg(qbm_mutants)]
        if let Some(stale) = &self.stale {
            return stale;
        }
        &self.epoch.as_ref().expect("a ticket is given back by value").duties
    }

    /// Gives the ticket back: the medium has finished with the write, or never saw it.
    #[inline]
    pub(crate) fn leave(mut self) {
        self.epoch = None;
    }
}

impl<F> Drop for Ticket<'_, F> {
    /// A write dropped under way: the medium may still be at it, so its epoch goes on.
    #[inline]
    fn drop(&mut self) {
        if let Some(epoch) = self.epoch.take()
            && mutants::without(Mutant::TicketOnDrop)
        {
            self.gate.orphan(Guard::into_inner(epoch));
        }
    }
}
