//! A close: whatever is still under way ends before the image counts as closed.

use std::sync::Arc;

use super::disk::{Disk, data};
use super::explore::{Model, block_on, join, poll_and_drop, spawn, with_room};
use super::file::File;
use super::requests::write;
use crate::mutants::Mutant;

#[test]
fn a_close_waits_for_requests_that_were_dropped() {
    let planted = &[Mutant::CloseUnsettled];
    Model { preemptions: Some(3), floor: 5_000, planted }
        .explore_each(1..3, |polls| with_room(move || close_after_a_drop(polls)));
}

/// Drops a write that was polled `polls` times, and closes the image beside the medium.
fn close_after_a_drop(polls: usize) {
    let data = data(File::by_device);
    let disk = Disk::new(&data);
    let image = disk.open();
    let device = {
        let data = data.clone();
        spawn(move || block_on(data.serve()))
    };
    poll_and_drop(write(&image, 0), polls);
    let image = Arc::into_inner(image).expect("nobody else has it");
    block_on(image.close()).expect("the medium is sound");
    assert!(disk.durable_descriptor().in_use.is_none(), "a closed image is not in use");
    assert_eq!(data.under_way(), Vec::<Vec<u8>>::new(), "the medium writes to a closed image");
    assert_eq!(data.now(), data.durable(), "a closed image has data that is not durable");
    data.retire();
    join([device]);
}
