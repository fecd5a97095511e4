//! Clusters: a bit of an allocation bitmap is durable only after the data of its whole cluster.
//!
//! A dirty bitmap is the mirror image of this: there a missing mark is the loss, here a false one. A
//! cluster is first written whole, then *complete* (reads find it in the data image), with the next
//! sync of the data *settled*, and then *durable*:
//!
//! * complete: the bits that the chain reads by;
//! * settled: the marks wanted of the segment, which nothing else is ever written from;
//! * durable: the durable marks of the segment.
//!
//! # Invariants
//!
//! * Each of the three is a subset of the one before it.
//! * A bit is complete or on its way to it under a claim alone, so whoever claims all finds them at
//!   rest.
//! * A bit that anybody can see as complete is settled, or is found by the next [`Clusters::take`].

use std::ops::Range;
use std::sync::{Arc, PoisonError};

use super::claims::{Claim, Claims};
use super::segment::Segment;
use crate::bits::Bits;
use crate::chain::Allocation;
use crate::mutants::{self, Mutant};
use crate::sync::{Mutex, MutexGuard};
use crate::{ByteRange, Storage};

/// The allocation bitmap of an image that is open for writing. See the [module](self).
#[derive(Debug)]
pub(crate) struct Clusters<F> {
    allocation: Arc<Allocation>,
    claims: Claims,
    /// What has become complete since the last [`take`](Self::take); `None`: nothing.
    fresh: Mutex<Option<Bits>>,
    segment: Mutex<Arc<Segment<F>>>,
}

impl<F> Clusters<F> {
    /// The clusters of `allocation`, all of which `segment` wants.
    pub(crate) fn new(allocation: Arc<Allocation>, segment: Segment<F>) -> Self {
        let (fresh, segment) = (Mutex::default(), Mutex::new(Arc::new(segment)));
        Self { allocation, claims: Claims::default(), fresh, segment }
    }

    /// The bits by which the chain reads.
    pub(crate) fn allocation(&self) -> &Allocation {
        &self.allocation
    }

    /// The file of the bitmap.
    pub(crate) fn segment(&self) -> Arc<Segment<F>> {
        Arc::clone(&self.segment.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a write to `range` needs no claim: one load a word.
    pub(crate) fn are_complete(&self, range: ByteRange) -> bool {
        self.allocation.bits().contains(self.allocation.cluster.granules_touched(range))
    }

    /// Makes `clusters` complete: the storage has all of their data. Under a claim on them.
    pub(crate) fn complete(&self, clusters: Range<u64>) {
        let bits = self.allocation.bits();
        if mutants::planted(Mutant::FreshLate) {
            bits.set(clusters.clone());
        }
        // Held for both: whoever sees a bit may write to its cluster and flush at once, and that
        // flush must find the bit here.
        let mut fresh = self.fresh();
        fresh.get_or_insert_with(|| Bits::new(bits.len())).set(clusters.clone());
        bits.set(clusters);
    }

    /// What has become complete since the last call. Once the data is synced that was written
    /// before it, these may be [settled](Self::settle).
    pub(crate) fn take(&self) -> Option<Bits> {
        self.fresh().take()
    }

    /// Lets the next commit of the segment write `complete`, whose data is durable.
    pub(crate) fn settle(&self, complete: &Bits) {
        let segment = self.segment();
        for area in complete.areas() {
            segment.mark(&area);
        }
    }

    /// Puts `segment` in place of the one that was there, and its bits of those that are complete.
    /// Under a claim on all, with nothing left to [`take`](Self::take).
    pub(crate) fn replace(&self, segment: Arc<Segment<F>>) {
        let bits = Bits::new(segment.wanted.len());
        bits.union(&segment.wanted);
        *self.segment.lock().unwrap_or_else(PoisonError::into_inner) = segment;
        self.allocation.replace(bits);
    }

    fn fresh(&self) -> MutexGuard<'_, Option<Bits>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Storage> Clusters<F> {
    /// Claims the clusters of `range`; `data` is where their holders write.
    pub(crate) async fn claim(&self, range: ByteRange, data: &F) -> Claim<'_> {
        self.claims.claim(self.allocation.cluster.granules_touched(range), data).await
    }

    /// Claims all: the allocation does not change until it is given back.
    pub(crate) async fn claim_all(&self, data: &F) -> Claim<'_> {
        self.claims.claim(0..u64::MAX, data).await
    }
}
