//! Futures dropped half-way: the medium's part is waited for before anything relies on it.

use std::sync::Arc;

use super::explore::{Model, block_on, join, poll_and_drop, spawn};
use super::file::File;
use super::tracking::{is_on_medium, make_durable, segment_over};
use crate::mutants::Mutant;

#[test]
fn what_a_dropped_committer_was_writing_never_lands_on_newer_marks() {
    let planted = &[Mutant::CommitUnsettled];
    Model { preemptions: Some(1), floor: 6_000, planted }.explore_each(1..3, |polls| {
        let segment = segment_over(64, File::by_device);
        let (first, device) = (Arc::clone(&segment), segment.file().file.clone());
        // Dropped at its first await or at the second, if it does not end before.
        let first = spawn(move || poll_and_drop(make_durable(&first, 0), polls));
        let device = spawn(move || block_on(device.serve()));
        block_on(make_durable(&segment, 1));
        join([first]);
        segment.file().file.retire();
        join([device]);
        assert!(is_on_medium(&segment, 1), "an older page has landed on a newer one");
    });
}
