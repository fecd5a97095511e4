//! Overlays: no cluster is allocated before its data, and none after a flush that covers it.

use std::sync::Arc;

use super::disk::{BEHIND, Disk, GRANULE, data};
use super::explore::{Model, block_on, join, poll_and_drop, spawn, with_room};
use super::file::File;
use crate::mutants::Mutant;
use crate::{Buffer, Image, Persist};

/// What a writer writes, one byte at a time.
const WRITTEN: u8 = 2;

async fn write(image: &Image<Disk>, offset: u64) -> crate::Result<()> {
    image.write(offset, Buffer::from_slice(&[WRITTEN]), Persist::Later).await.map(drop)
}

/// What a power cut would leave of the cluster `cluster`: its bytes, if it would be allocated.
fn durable(disk: &Disk, data: &File, cluster: u64) -> Option<Vec<u8>> {
    // The bit before the bytes: another thread may make both durable in between.
    let allocated = disk.bits().durable()[0] & 1 << cluster != 0;
    let start = usize::try_from(cluster * GRANULE).expect("a small disk");
    allocated.then(|| data.durable()[start..][..512].to_vec())
}

/// Asserts that no cluster would be allocated without its data: its first byte, which was written,
/// and the others, which were copied.
fn assert_whole(disk: &Disk, data: &File) {
    for cluster in 0..2 {
        let Some(bytes) = durable(disk, data, cluster) else { continue };
        let whole = bytes[0] == WRITTEN && bytes[1..].iter().all(|byte| *byte == BEHIND);
        assert!(whole, "cluster {cluster} is allocated on the medium before its data");
    }
}

#[test]
fn a_flush_covers_the_clusters_of_writes_before_it_and_of_no_others() {
    let planted = &[
        Mutant::SnapshotLate,
        Mutant::AllocationAlone,
        Mutant::AllocationFirst,
        Mutant::AllocationUnsynced,
        Mutant::MarkBeforeCopy,
        Mutant::CopySkipped,
    ];
    Model { preemptions: Some(2), floor: 2_500, planted }
        .explore(|| with_room(flush_beside_a_first_write));
}

fn flush_beside_a_first_write() {
    let data = data(File::new);
    let disk = Disk::overlay(&data);
    let image = disk.open();
    let writer = {
        let (image, disk, data) = (Arc::clone(&image), disk.clone(), data.clone());
        spawn(move || {
            block_on(write(&image, GRANULE)).expect("the medium is sound");
            assert_whole(&disk, &data);
        })
    };
    block_on(write(&image, 0)).expect("the medium is sound");
    block_on(image.flush()).expect("the medium is sound");
    assert!(durable(&disk, &data, 0).is_some(), "a flushed cluster is not on the medium");
    assert_whole(&disk, &data);
    join([writer]);
}

#[test]
fn what_anybody_wrote_to_a_cluster_that_he_saw_allocated_is_flushed() {
    let planted = &[Mutant::FreshLate];
    Model { preemptions: Some(3), floor: 7_000, planted }.explore(|| {
        let data = data(File::new);
        let disk = Disk::overlay(&data);
        let image = disk.open();
        let first = {
            let image = Arc::clone(&image);
            spawn(move || block_on(write(&image, 1)).expect("the medium is sound"))
        };
        block_on(async {
            write(&image, 0).await.expect("the medium is sound");
            image.flush().await.expect("the medium is sound");
        });
        let flushed = durable(&disk, &data, 0).expect("it was flushed");
        assert_eq!(flushed[0], WRITTEN, "a flushed write is not on the medium");
        join([first]);
    });
}

#[test]
fn first_writers_of_one_cluster_keep_what_both_wrote() {
    let planted = &[Mutant::NoClaim];
    Model { preemptions: Some(3), floor: 10_000, planted }.explore(|| {
        let data = data(File::new);
        let image = Disk::overlay(&data).open();
        let writers = [0, 1].map(|offset| {
            let image = Arc::clone(&image);
            spawn(move || block_on(write(&image, offset)).expect("the medium is sound"))
        });
        join(writers);
        let bytes = data.now();
        assert_eq!(bytes[..3], [WRITTEN, WRITTEN, BEHIND], "one has undone what the other wrote");
    });
}

#[test]
fn a_dropped_first_write_never_lands_on_a_later_one() {
    let planted = &[Mutant::ClaimOnDrop];
    Model { preemptions: Some(1), floor: 1_500, planted }.explore_each(1..3, |polls| {
        let data = data(File::by_device);
        let image = Disk::overlay(&data).open();
        let (dropped, device) = (Arc::clone(&image), data.clone());
        let dropped = spawn(move || poll_and_drop(write(&dropped, 0), polls));
        let device = spawn(move || block_on(device.serve()));
        block_on(write(&image, 1)).expect("the medium is sound");
        join([dropped]);
        data.retire();
        join([device]);
        assert_eq!(data.now()[1], WRITTEN, "a write that was dropped has undone a later one");
    });
}
