//! Planted bugs, to test the tests: each must be found by the crash rig or by a model.
//!
//! They exist only in a build with `--cfg qbm_mutants`, where one at a time can be planted; in
//! any other build asking for one is `false` at compile time. `cargo xtask mutants` looks for
//! those of the crash rig, `cargo xtask loom --mutants` for those that need threads.

macro_rules! mutants {
    (
        crashes { $($(#[$doc:meta])* $name:ident,)* }
        allocation { $($(#[$allocation_doc:meta])* $allocation:ident,)* }
        wide { $($(#[$wide_doc:meta])* $wide:ident,)* }
        races { $($(#[$race_doc:meta])* $race:ident,)* }
    ) => {
        /// A planted bug. docs/testing.md says which rig finds which.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Mutant {
            $($(#[$doc])* $name,)*
            $($(#[$allocation_doc])* $allocation,)*
            $($(#[$wide_doc])* $wide,)*
            $($(#[$race_doc])* $race,)*
        }

        impl Mutant {
            /// Those that the crash rig must find.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
            /// Those that the crash rig must find in overlays.
            pub const ALLOCATION: &[Self] = &[$(Self::$allocation,)*];
            /// Those that it must find beside jobs and bitmaps in memory.
            pub const WIDE: &[Self] = &[$(Self::$wide,)*];
            /// Those that take several threads, and that a model must find.
            pub const RACES: &[Self] = &[$(Self::$race,)*];
        }
    };
}

mutants! {
    crashes {
        /// A writer whose granule is marked in memory by another takes it as durable.
        Follower,
        /// Marks are published as durable without a sync.
        NoSync,
        /// The data is written before the marks are durable: the order of the 2016 series.
        DataFirst,
        /// The new recording set takes effect without waiting for the writes under way.
        NoDrain,
        /// The successor records alone before the point in time.
        SuccessorOnly,
        /// A new descriptor is relied upon before its directory is synced.
        NoDirSync,
        /// The data is not synced before the point in time.
        NoDataFlush,
        /// A new segment is named before its bytes are durable.
        NoFileSync,
        /// The old segment is removed before the descriptor without it is durable.
        UnlinkEarly,
        /// A merged segment is dropped before the merge is durable.
        MergeLate,
        /// What is in memory is published as durable instead of what was written.
        DurableFromMemory,
        /// A committed backup clears the old segment in place.
        ClearInPlace,
        /// A failed sync is repeated and believed.
        RetrySync,
        /// A writer reads the recording set before it has a ticket.
        RecordingBeforeTicket,
        /// The pending pages are forgotten after the snapshot instead of before it.
        FlagAfterSnapshot,
        /// After `kill -9` the bits in the page cache are trusted.
        KillTrust,
        /// After `kill -9` the bits are synced but not written again.
        KillSyncOnly,
        /// After `kill -9` the data in the page cache is taken for durable.
        KillTrustData,
        /// After `kill -9` the directory is not synced.
        KillNoDirSync,
        /// Writes are not recorded for the new marks while a rebuild looks for them.
        RebuildUnrecorded,
        /// The marks of a rebuild are named before they are durable.
        RebuildEarly,
        /// A dropped write gives its ticket back while the kernel may still write (N5).
        TicketOnDrop,
        /// Two committers write the same page out of order (N6).
        TwoCommitters,
        /// A write under a live backup does not copy first what the point still needs.
        NoCopyFirst,
        /// A discard is not tracked (F6).
        UntrackedDiscard,
        /// An open ignores the marks of a segment that a backup had frozen (F2).
        FrozenForgotten,
    }
    allocation {
        /// A flush of an overlay does not sync the data.
        AllocationAlone,
        /// The allocation bitmap is written before the data is synced (F7).
        AllocationFirst,
        /// Clusters that became complete while the data was synced count as synced (F8).
        SnapshotLate,
        /// The allocation bitmap is written and not synced.
        AllocationUnsynced,
        /// A cluster is complete before it is copied.
        MarkBeforeCopy,
        /// The rest of a cluster is not copied.
        CopySkipped,
        /// Zeroes of a cluster that is not allocated are not written.
        ZeroesSkipped,
        /// The first writers of a cluster do not take turns.
        NoClaim,
    }
    wide {
        /// A bitmap that is made persistent, or so no longer, leaves its marks behind.
        MarksLeft,
        /// A mirror that is told to end does not copy what was written since.
        LastRoundsSkipped,
    }
    races {
        /// A mark is loaded and stored, so that one of another thread in between is lost.
        LoadThenStore,
        /// A mark brings nothing along of what came before it.
        MarkRelaxed,
        /// The page of a mark is noted only if a load does not find it there.
        InsertIfAbsent,
        /// Whoever waits does not ask once more after he has said where to wake him.
        LostWakeUp,
        /// The end of an epoch brings nothing along of what its writes did.
        EndRelaxed,
        /// What a point needs counts as copied while the copy is being written.
        CopiedEarly,
        /// A committer does not wait for the writes of one that was dropped (N6).
        CommitUnsettled,
        /// A cluster can be seen as complete before the next flush knows of it.
        FreshLate,
        /// A dropped first write of a cluster lets others at it while the medium is still at work.
        ClaimOnDrop,
        /// A flush relies on a sync that had begun before it came.
        FlushJoins,
        /// Two syncs of the data are under way at once.
        FlushTogether,
        /// A close does not wait for requests that were dropped.
        CloseUnsettled,
        /// A rotation publishes what is in memory by then.
        RotatedFromMemory,
        /// A rotation lets go of the descriptor before the segment has the new file.
        RotatedLate,
        /// A transaction plans on what was there before its turn.
        PlanBeforeTurn,
        /// Whoever reads a point asks what has been copied before he looks at the disk.
        CopiedBeforeLook,
        /// A point does not wait for the writes that do not know of it.
        PointUndrained,
        /// A disk that is to shrink has its old size for writes until those under way are over.
        SizeAfterDrain,
        /// A job does not wait for the writes that have told only the watch before.
        RoundUndrained,
        /// A watch is over before the next one is in force.
        OverEarly,
        /// A watch is told of a write once its data is on the disk.
        ToldLate,
        /// A job is woken before its watch is told.
        WokenEarly,
        /// A write keeps its ticket while it waits for a job to copy it.
        FollowHeld,
        /// A hold has ended before it says that the disk has moved.
        MovedLate,
    }
}

#[cfg(qbm_mutants)]
mod switch {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Plants `mutant` for this thread, or none.
    pub fn plant(mutant: Option<Mutant>) {
        PLANTED.set(mutant);
    }

    pub(crate) fn planted(mutant: Mutant) -> bool {
        PLANTED.get() == Some(mutant)
    }
}

#[cfg(qbm_mutants)]
pub use switch::plant;
#[cfg(qbm_mutants)]
pub(crate) use switch::planted;

/// Whether `mutant` is planted: never, in this build.
#[cfg(not(qbm_mutants))]
#[inline(always)]
pub(crate) const fn planted(_mutant: Mutant) -> bool {
    false
}

/// Whether `mutant` is not planted.
#[inline(always)]
pub(crate) fn without(mutant: Mutant) -> bool {
    !planted(mutant)
}

/// A point where a planted race lets the other tasks run; nothing unless `mutant` is planted.
pub(crate) async fn race(mutant: Mutant) {
    if planted(mutant) {
        let mut yielded = false;
        std::future::poll_fn(|context| {
            if yielded {
                return std::task::Poll::Ready(());
            }
            yielded = true;
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
    }
}
