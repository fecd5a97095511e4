//! What an image says a bitmap marks of a range, while one segment records and while two do.

use std::cell::Cell;
use std::sync::Arc;

use qbm_core::descriptor::Durability;
use qbm_core::image::{self, BitmapAction, CreateOptions, Fleece, FrozenPoint, OpenOptions};
use qbm_core::{Access, Buffer, ByteRange, Directory, Error, Granularity, Id, Image, Persist};
use qbm_sim::{Disk, Executor, Medium, SimDirectory, SimFile, SimHost, run};

const SIZE: u64 = 10_000;

/// An open image of 10,000 bytes with the bitmap `b`, a granule of 512 bytes each.
async fn image(disk: &Disk) -> Image<SimDirectory> {
    let directory = SimDirectory::new(disk);
    let options = CreateOptions {
        file: "d.raw".to_owned(),
        data: None,
        size: SIZE,
        durability: Durability::Exact,
    };
    image::create(&directory, "i.qbm", options, &SimHost::new(7)).await.unwrap();
    let host = Arc::new(SimHost::new(8));
    let options = OpenOptions::new(Access::Write);
    let image = Image::open(directory, "i.qbm", options, host).await.unwrap();
    image.transaction(&[add("b")]).await.unwrap();
    image
}

fn add(name: &str) -> BitmapAction {
    BitmapAction::Add { name: name.to_owned(), granularity: Granularity::MIN, disabled: false }
}

async fn write(image: &Image<SimDirectory>, offset: u64, length: usize) {
    image.write(offset, Buffer::zeroed(length), Persist::Later).await.unwrap();
}

async fn extents(image: &Image<SimDirectory>, start: u64, length: u64) -> Vec<(u64, bool)> {
    let range = ByteRange::new(start, length);
    let extents = image.marked_extents("b", range, usize::MAX).await.unwrap();
    extents.iter().map(|extent| (extent.length, extent.marked)).collect()
}

#[test]
fn extents_are_the_granules_written_cut_at_the_range() {
    let disk = Disk::new(Medium::new(), 0);
    run(&disk, 0, async {
        let image = image(&disk).await;
        assert_eq!(extents(&image, 0, SIZE).await, [(SIZE, false)]);
        write(&image, 600, 1).await;
        write(&image, 1024, 512).await;
        write(&image, 9_999, 1).await;
        let all = [(512, false), (1024, true), (8_192, false), (272, true)];
        assert_eq!(extents(&image, 0, SIZE).await, all);
        assert_eq!(extents(&image, 700, 1).await, [(1, true)]);
        assert_eq!(extents(&image, 500, 100).await, [(12, false), (88, true)]);
        let one = image.marked_extents("b", ByteRange::new(0, SIZE), 1).await.unwrap();
        assert_eq!(one.len(), 1);
        assert!(image.is_free(ByteRange::new(600, 900)));
        assert!(!image.is_free(ByteRange::new(600, 937)));
    });
}

/// While a point is taken a bitmap has two segments, and marks what either has.
#[test]
fn extents_are_those_of_all_segments_together() {
    let disk = Disk::new(Medium::new(), 0);
    run(&disk, 0, async {
        let image = image(&disk).await;
        write(&image, 0, 1).await;
        let point = image.begin_point("b", Id(1)).await.unwrap();
        write(&image, 512, 1).await;
        write(&image, 2048, 1).await;
        let expected = [(1024, true), (1024, false), (512, true), (SIZE - 2560, false)];
        assert_eq!(extents(&image, 0, SIZE).await, expected);
        drop(point);
    });
}

/// Found by the kill rig: a write under way marked what a backup had begun to copy by, and so the backup
/// stored a mark for a granule that it had not copied.
#[test]
fn marks_of_a_point_that_has_been_taken_change_no_more() {
    let busy = (0..100).filter(|seed| a_point_is_taken_beside_writes(*seed)).count();
    assert!(busy > 50, "only {busy} points were taken while a write was under way");
}

/// Returns whether a write was under way when the point had been taken.
fn a_point_is_taken_beside_writes(seed: u64) -> bool {
    let disk = Disk::new(Medium::new(), seed);
    let (image, _live) = run(&disk, seed, async {
        let image = image(&disk).await;
        // What a live point of another bitmap needs is copied before a write marks anything.
        image.transaction(&[add("other")]).await.unwrap();
        let file = SimDirectory::new(&disk).create("fleece").await.unwrap();
        let fleece = Arc::new(Fleece::new(file, u64::MAX));
        let live = image.begin_live_point("other", Id(2), fleece).await.unwrap();
        (image, live)
    });
    let marks = |point: &FrozenPoint<SimFile>| {
        point.view().marked_extents(ByteRange::new(0, SIZE), usize::MAX)
    };
    let (mut point, under_way, busy) = (None, Cell::new(0), Cell::new(false));
    let mut executor = Executor::new(&[&disk], seed);
    for writer in 0..3 {
        let (image, under_way) = (&image, &under_way);
        executor.spawn("writer", async move {
            for turn in 0..6 {
                under_way.update(|count| count + 1);
                write(image, (3 * turn + writer) * 512, 1).await;
                under_way.update(|count| count - 1);
            }
        });
    }
    executor.spawn("point", async {
        let taken = image.begin_point("b", Id(1)).await.unwrap();
        let then = marks(&taken);
        busy.set(under_way.get() > 0);
        point = Some((taken, then));
    });
    executor.finish();
    drop(executor);
    let (point, then) = point.unwrap();
    assert_eq!(marks(&point), then, "seed {seed}");
    busy.get()
}

#[test]
fn what_cannot_be_answered_is_an_error() {
    let disk = Disk::new(Medium::new(), 0);
    run(&disk, 0, async {
        let image = image(&disk).await;
        let ask = |name, start, length| {
            image.marked_extents(name, ByteRange::new(start, length), usize::MAX)
        };
        assert!(matches!(ask("c", 0, 1).await, Err(Error::BitmapNotFound(_))));
        assert!(matches!(ask("b", SIZE, 1).await, Err(Error::OutOfRange { .. })));
        assert!(matches!(ask("b", 5, 0).await, Err(Error::OutOfRange { .. })));
    });
}
