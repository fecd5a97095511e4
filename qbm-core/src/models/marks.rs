//! Marks: whoever relies on one finds it on the medium, also if somebody else made it.

use std::sync::Arc;

use super::explore::{Model, block_on, join, spawn};
use super::tracking::{make_durable, segment};
use crate::mutants::Mutant;

#[test]
fn two_writers_of_one_granule_wait_for_its_sync() {
    let planted = &[Mutant::Follower, Mutant::NoSync, Mutant::LostWakeUp];
    Model { preemptions: Some(3), floor: 25_000, planted }.explore(|| {
        let segment = segment(1);
        join([0, 0].map(|granule| {
            let segment = Arc::clone(&segment);
            spawn(move || block_on(make_durable(&segment, granule)))
        }));
    });
}

#[test]
fn a_mark_beside_a_snapshot_is_written_by_this_round_or_the_next() {
    let planted = &[Mutant::DurableFromMemory, Mutant::FlagAfterSnapshot, Mutant::TwoCommitters];
    Model { preemptions: Some(3), floor: 20_000, planted }.explore(|| {
        // In two words of one page.
        let segment = segment(128);
        join([0, 70].map(|granule| {
            let segment = Arc::clone(&segment);
            spawn(move || block_on(make_durable(&segment, granule)))
        }));
        let durable = segment.file().file.durable();
        assert_eq!((durable[0] & 1, durable[8] & 1 << 6), (1, 1 << 6), "a mark was taken back");
    });
}

#[test]
fn writers_beside_a_committer_wait_for_its_sync() {
    let planted = &[Mutant::Follower, Mutant::NoSync];
    Model { preemptions: Some(2), floor: 18_000, planted }.explore(|| {
        let segment = segment(64);
        let writers = [0, 0].map(|granule| {
            let segment = Arc::clone(&segment);
            spawn(move || block_on(make_durable(&segment, granule)))
        });
        let committed = block_on(async { segment.lead().await.commit().await });
        committed.expect("the medium is sound");
        join(writers);
    });
}
