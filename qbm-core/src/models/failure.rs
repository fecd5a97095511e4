//! A bitmap file that fails: nobody goes on without his marks, and nobody waits for ever.

use std::sync::Arc;

use super::disk::{BITMAP, Disk, data};
use super::explore::{Model, block_on, join, spawn};
use super::file::File;
use super::requests::write;
use crate::Error;
use crate::image::BitmapAction;
use crate::mutants::Mutant;

#[test]
fn where_marks_cannot_be_durable_no_write_goes_on() {
    let planted = &[Mutant::RetrySync];
    Model { preemptions: Some(2), floor: 12_000, planted }.explore(|| {
        let data = data(File::new);
        let disk = Disk::new(&data);
        let image = disk.open();
        disk.bits().fail_a_sync();
        disk.fill_up();
        let written = join([0, 1].map(|granule| {
            let image = Arc::clone(&image);
            spawn(move || block_on(write(&image, granule)))
        }));
        for outcome in written {
            assert!(matches!(outcome, Err(Error::BitmapWrite { .. })), "{outcome:?}");
        }
        assert!(data.now().iter().all(|byte| *byte == 0), "data without marks");
    });
}

#[test]
fn a_rotation_leaves_no_mark_and_no_writer_behind() {
    let planted = &[Mutant::RotatedFromMemory];
    Model { preemptions: Some(2), floor: 25_000, planted }.explore(|| {
        let disk = Disk::new(&data(File::new));
        let image = disk.open();
        disk.bits().fail_a_sync();
        join([0, 1].map(|granule| {
            let image = Arc::clone(&image);
            spawn(move || block_on(write(&image, granule)).expect("a new file takes its place"))
        }));
        assert_eq!(disk.marks_after_power_cut()[0].1, 3, "the marks of both");
    });
}

#[test]
fn a_rotation_beside_a_transaction_leaves_the_new_file_named() {
    let planted = &[Mutant::RotatedLate];
    Model { preemptions: Some(4), floor: 4_500, planted }.explore(|| {
        let disk = Disk::new(&data(File::new));
        let image = disk.open();
        disk.bits().fail_a_sync();
        let writer = {
            let image = Arc::clone(&image);
            spawn(move || block_on(write(&image, 0)).expect("a new file takes its place"))
        };
        let disable = BitmapAction::Disable(BITMAP.to_owned());
        let enable = BitmapAction::Enable(BITMAP.to_owned());
        block_on(image.transaction(&[disable, enable])).expect("the medium is sound");
        join([writer]);
        assert_eq!(disk.marks_after_power_cut()[0].1, 1, "the mark of the write");
    });
}
