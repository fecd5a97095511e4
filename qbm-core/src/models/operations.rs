//! Operations on the bitmaps beside guest requests, and beside each other.

use std::sync::Arc;

use super::disk::{BITMAP, Disk, GRANULE, data};
use super::explore::{Model, block_on, join, spawn};
use super::file::File;
use super::requests::write;
use crate::image::{BitmapAction, Outcome};
use crate::mutants::Mutant;
use crate::{Error, Granularity, Id};

#[test]
fn a_write_is_in_the_point_in_time_or_marked_after_it() {
    let planted = &[
        Mutant::SuccessorOnly,
        Mutant::NoDataFlush,
        Mutant::NoDrain,
        Mutant::RecordingBeforeTicket,
        Mutant::PointUndrained,
    ];
    Model { preemptions: Some(4), floor: 11_000, planted }.explore(|| {
        let data = data(File::new);
        let disk = Disk::new(&data);
        let image = disk.open();
        let writer = {
            let image = Arc::clone(&image);
            spawn(move || block_on(write(&image, 0)).expect("the medium is sound"))
        };
        let point = block_on(image.begin_point(BITMAP, Id(1 << 64))).expect("a sound medium");
        // What a backup of the point would have, also after a power cut.
        let (marked, written) = (point.bits().get(0), data.durable()[0] == 1);
        assert!(marked || !written, "the backup would leave a write out");
        join([writer]);
        assert_eq!(data.now()[0], 1, "the write has happened");
        assert_eq!(marked, point.bits().get(0), "a mark came to a point that had been taken");
        block_on(image.settle_point(point, Outcome::Stored)).expect("a sound medium");
        let marked_since = disk.marks_after_power_cut()[0].1 == 1;
        assert!(written || marked_since, "the next backup would leave a write out");
    });
}

#[test]
fn transactions_at_the_same_time_both_happen() {
    let planted = &[Mutant::PlanBeforeTurn];
    Model { preemptions: Some(2), floor: 600, planted }.explore(|| {
        let disk = Disk::new(&data(File::new));
        let image = disk.open();
        let transactions = ["first", "second"].map(|name| {
            let image = Arc::clone(&image);
            let (name, granularity) = (name.to_owned(), Granularity::MIN);
            let add = BitmapAction::Add { name, granularity, disabled: false };
            spawn(move || block_on(image.transaction(&[add])).expect("the medium is sound"))
        });
        block_on(write(&image, 0)).expect("the medium is sound");
        join(transactions);
        block_on(write(&image, 1)).expect("the medium is sound");
        let mut marks = disk.marks_after_power_cut();
        marks.sort_unstable();
        let names: Vec<_> = marks.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [BITMAP, "first", "second"], "the bitmaps of both transactions");
        assert!(marks.iter().all(|(_, marks)| marks & 2 != 0), "each marks what came after it");
        assert_eq!(marks[0].1, 3, "the first one marks all");
    });
}

#[test]
fn a_write_past_a_new_end_is_refused_or_over_before_the_disk_shrinks() {
    let planted = &[Mutant::SizeAfterDrain, Mutant::NoDrain];
    Model { preemptions: Some(4), floor: 2_000, planted }.explore(|| {
        let data = data(File::new);
        let image = Disk::new(&data).open();
        let writer = {
            let image = Arc::clone(&image);
            spawn(move || block_on(write(&image, 1)))
        };
        block_on(image.resize(GRANULE)).expect("the medium is sound");
        let [written] = join([writer]);
        assert!(matches!(written, Ok(()) | Err(Error::OutOfRange { .. })), "{written:?}");
        assert_eq!(data.now().len() as u64, GRANULE, "a write has made the disk longer again");
    });
}
