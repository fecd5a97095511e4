//! Watches: what a job does not have yet of a disk in use, it is told of.

use std::sync::Arc;

use super::disk::{Disk, data};
use super::explore::{Model, block_on, join, poll_and_drop, spawn};
use super::file::File;
use crate::image::Watching;
use crate::job::Group;
use crate::mutants::Mutant;
use crate::sync::{AtomicBool, Ordering};
use crate::{Buffer, Granularity, Image, Persist};

/// What a writer writes: one byte, the first of the disk.
pub(super) const WRITTEN: u8 = 2;

pub(super) async fn write(image: &Image<Disk>) -> crate::Result<Buffer> {
    image.write(0, Buffer::from_slice(&[WRITTEN]), Persist::Later).await
}

/// The first byte of the disk.
pub(super) async fn read(image: &Image<Disk>) -> u8 {
    image.read(0, Buffer::zeroed(1)).await.expect("the medium is sound")[0]
}

/// Watches `image`.
pub(super) async fn watch<'a>(
    image: &'a Image<Disk>,
    group: &Arc<Group>,
    blocking: bool,
) -> Watching<'a, Disk> {
    image.watch(Granularity::MIN, group, blocking).await
}

/// Copies the disk, and then what was written meanwhile; what it has, and who is told of the rest.
async fn copy_twice(image: &Image<Disk>) -> (u8, Watching<'_, Disk>) {
    let mut watching = watch(image, &Arc::default(), false).await;
    let mut copy = read(image).await;
    let round = watching.turn().await;
    if round.written().get(0) {
        copy = read(image).await;
    }
    drop(round);
    (copy, watching)
}

#[test]
fn a_write_is_copied_or_told_to_the_next_watch() {
    let planted = &[Mutant::RoundUndrained, Mutant::OverEarly, Mutant::NoDrain];
    Model { preemptions: Some(5), floor: 6_000, planted }.explore(|| {
        let image = Disk::new(&data(File::new)).open();
        let writer = {
            let image = Arc::clone(&image);
            spawn(move || block_on(write(&image)).expect("the medium is sound"))
        };
        let (copy, watching) = block_on(copy_twice(&image));
        join([writer]);
        assert!(copy == WRITTEN || watching.current().was_told(), "a write is left out");
    });
}

#[test]
fn a_write_dropped_under_way_is_copied_or_told_to_the_next_watch() {
    let planted = &[Mutant::ToldLate, Mutant::TicketOnDrop];
    Model { preemptions: Some(2), floor: 14_000, planted }.explore_each(1..3, |polls| {
        let data = data(File::by_device);
        let image = Disk::new(&data).open();
        let (dropped, device) = (Arc::clone(&image), data.clone());
        let dropped = spawn(move || poll_and_drop(async { drop(write(&dropped).await) }, polls));
        let device = spawn(move || block_on(device.serve()));
        let (copy, watching) = block_on(copy_twice(&image));
        join([dropped]);
        data.retire();
        join([device]);
        let complete = copy == data.now()[0];
        assert!(complete || watching.current().was_told(), "a write is left out");
    });
}

#[test]
fn a_write_that_may_not_get_ahead_returns_once_it_is_copied() {
    let planted = &[
        Mutant::WokenEarly,
        Mutant::FollowHeld,
        Mutant::RoundUndrained,
        Mutant::OverEarly,
        Mutant::LostWakeUp,
    ];
    Model { preemptions: Some(4), floor: 18_000, planted }.explore(|| {
        let image = Disk::new(&data(File::new)).open();
        let (group, copied) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let mut watching = block_on(watch(&image, &group, true));
        let writer = {
            let (image, copied) = (Arc::clone(&image), Arc::clone(&copied));
            spawn(move || {
                block_on(write(&image)).expect("the medium is sound");
                assert!(copied.load(Ordering::Relaxed), "a write has got ahead");
            })
        };
        block_on(async {
            let told = || watching.current().was_told().then_some(());
            group.changed().until(told).await;
            let _round = watching.turn().await;
            assert_eq!(read(&image).await, WRITTEN, "what was told of is not over");
            copied.store(true, Ordering::Relaxed);
        });
        join([writer]);
    });
}
