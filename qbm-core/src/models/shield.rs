//! Live points: whoever reads one sees the disk of an instant, whatever is written meanwhile.

use std::sync::Arc;

use super::disk::{BITMAP, Disk, GRANULE, data};
use super::explore::{Model, block_on, join, spawn};
use super::file::{File, Watch};
use super::requests::write;
use crate::chain::{Chain, Layer};
use crate::descriptor::{Format, ImageRef};
use crate::image::Outcome;
use crate::mutants::Mutant;
use crate::track::shield::{Fleece, Shield};
use crate::{Buffer, ByteRange, Granularity, Id, Persist, Storage};

/// Each byte of the disk at the point, and what writers write.
const OLD: u8 = 1;
const NEW: u8 = 2;

/// The size of the disk: two granules.
const SIZE: u64 = 2 * GRANULE;

#[test]
fn no_write_goes_where_a_point_still_needs_the_disk() {
    let planted = &[Mutant::NoCopyFirst, Mutant::CopiedEarly, Mutant::CopiedBeforeLook];
    Model { preemptions: Some(2), floor: 60_000, planted }.explore_each(0..2, |other| {
        let kept = File::new(&[]);
        let fleece = Arc::new(Fleece::new(kept.clone(), SIZE));
        let watch: Watch = Arc::new(move |range| {
            let start = usize::try_from(range.start()).expect("a small disk");
            assert_eq!(kept.now().get(start), Some(&OLD), "{range:?} is written over too early");
        });
        let layer = Layer {
            name: "disk".to_owned(),
            image: ImageRef { file: "disk".to_owned(), format: Format::Raw },
            data: File::new(&vec![OLD; usize::try_from(SIZE).expect("a small disk")])
                .watched(watch),
            size: SIZE,
            allocation: None,
            point: None,
        };
        let disk = Arc::new(Chain::new(vec![layer]));
        let shield = Arc::new(Shield::new(fleece, Granularity::MIN, SIZE));
        let writers = [0, other as u64].map(|granule| {
            let (disk, shield) = (Arc::clone(&disk), Arc::clone(&shield));
            spawn(move || block_on(write_shielded(&disk, &shield, granule)))
        });
        // The first byte of each granule is the one that is written over.
        let read = |granule: u64| {
            let disk = ("disk", &*disk);
            let read = block_on(shield.read_at(disk, granule * GRANULE, Buffer::zeroed(1)));
            assert_eq!(read.expect("the medium is sound")[0], OLD, "a reader sees a later write");
        };
        read(0);
        join(writers);
        read(0);
        read(other as u64);
    });
}

/// What a write to `granule` does beside a point: it keeps what is there, and then submits its data.
async fn write_shielded(disk: &Chain<File>, shield: &Shield<File>, granule: u64) {
    let start = granule * GRANULE;
    shield.keep(ByteRange::new(start, 1), disk).await;
    let written = disk.data().write_at(start, Buffer::from_slice(&[NEW]), Persist::Later).await;
    written.expect("the medium is sound");
}

#[test]
fn a_live_point_is_the_disk_of_an_instant_and_later_writes_are_marked() {
    let planted = &[Mutant::NoCopyFirst, Mutant::PointUndrained];
    Model { preemptions: Some(4), floor: 20_000, planted }.explore(|| {
        let disk = Disk::new(&data(File::new));
        let image = disk.open();
        let writer = {
            let image = Arc::clone(&image);
            spawn(move || block_on(write(&image, 0)).expect("the medium is sound"))
        };
        let fleece = Arc::new(Fleece::new(File::new(&[]), SIZE));
        let point = block_on(image.begin_live_point(BITMAP, Id(1 << 64), fleece));
        let point = point.expect("a sound medium");
        let read = || {
            let read = block_on(image.read_at_point(point.view(), 0, Buffer::zeroed(1)));
            read.expect("the medium is sound")[0] == 1
        };
        let (marked, written) = (point.bits().get(0), read());
        assert!(marked || !written, "the backup would leave a write out");
        join([writer]);
        assert_eq!(read(), written, "the point has changed under its reader");
        block_on(image.settle_point(point, Outcome::Stored)).expect("a sound medium");
        let marked_since = disk.marks_after_power_cut()[0].1 == 1;
        assert!(written || marked_since, "the next backup would leave a write out");
    });
}
