//! Claims: who writes to the same granules for the first time takes turns.
//!
//! A write that needs more than its own bytes, such as the rest of a cluster that is not allocated
//! yet, claims the granules first. Claims that overlap are granted in the order in which they were
//! made, so nobody starves, and a claim on everything waits for all that came before it. Whoever
//! needs no claim never comes here.
//!
//! # Invariants
//!
//! * Of granted claims no two overlap.
//! * A claim whose holder was dropped half-way is over once the storage has settled: what the
//!   medium still does for it comes before anything that a later claim does.

use std::ops::Range;
use std::sync::PoisonError;

use super::wait::WaitList;
use crate::Storage;
use crate::mutants::{self, Mutant};
use crate::sync::{Mutex, MutexGuard};

/// The claims on one storage. See the [module](self) for what always holds.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    queue: Mutex<Queue>,
    waiting: WaitList,
}

#[derive(Debug, Default)]
struct Queue {
    /// The number of the next claim.
    next: u64,
    /// Claims granted or waiting, in the order of their numbers.
    entries: Vec<Entry>,
    /// How many holders have been dropped half-way so far.
    dropped: u64,
    /// How many of them the storage is known to have settled.
    settled: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    granules: Range<u64>,
}

/// The right to change `granules` beyond what a request covers.
///
/// Having one proves that no other claim overlaps it.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    claims: &'a Claims,
    number: u64,
    /// Whether dropping it now leaves the storage at work.
    under_way: bool,
}

impl Claims {
    /// Claims `granules`, as soon as no earlier claim overlaps them. `data` is where their holders
    /// write.
    pub(crate) async fn claim<F: Storage>(&self, granules: Range<u64>, data: &F) -> Claim<'_> {
        let mut claim = self.enqueue(granules);
        if mutants::without(Mutant::NoClaim) {
            self.waiting.until(|| self.queue().is_granted(claim.number).then_some(())).await;
        }
        // Read once the claim is granted: a holder is counted before its claim is gone.
        let dropped = self.queue().dropped;
        if self.queue().settled < dropped {
            data.settle().await;
            let mut queue = self.queue();
            queue.settled = queue.settled.max(dropped);
        }
        claim.under_way = true;
        claim
    }

    fn enqueue(&self, granules: Range<u64>) -> Claim<'_> {
        let mut queue = self.queue();
        let number = queue.next;
        queue.next += 1;
        queue.entries.push(Entry { number, granules });
        Claim { claims: self, number, under_way: false }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Each change of it is one step, so it is valid whatever its holder did when it panicked.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn is_granted(&self, number: u64) -> bool {
        let own = self.entries.iter().position(|entry| entry.number == number);
        let own = own.expect("a claim is there until it is given back");
        let granules = &self.entries[own].granules;
        self.entries[..own].iter().all(|earlier| !overlap(&earlier.granules, granules))
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

impl Claim<'_> {
    /// Gives it back: the storage has finished with all that its holder asked for.
    pub(crate) fn release(mut self) {
        self.under_way = false;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut queue = self.claims.queue();
        if self.under_way && mutants::without(Mutant::ClaimOnDrop) {
            queue.dropped += 1;
        }
        queue.entries.retain(|entry| entry.number != self.number);
        drop(queue);
        self.claims.waiting.wake_all();
    }
}
