//! What the reader of a point sees, and what is kept for him.

use std::io::ErrorKind;
use std::sync::Arc;

use qbm_core::descriptor::{Doubt, Durability, Format, ImageRef};
use qbm_core::image::{
    self, BitmapAction, CreateOptions, Extent, Fleece, FrozenPoint, MarkedExtent, OpenOptions,
    Outcome, OverlayOptions,
};
use qbm_core::{Access, Buffer, ByteRange, Directory as _, Granularity, Id, Image, Persist};
use qbm_core::{Error, Storage as _};
use qbm_sim::{Disk, Executor, Fault, Kind, Medium, SimDirectory, SimFile, SimHost, Step, run};

const SIZE: u64 = 8 * 512;

/// The disk of the image, and that of the fleece.
fn disks() -> (Disk, Disk) {
    (Disk::new(Medium::new(), 1), Disk::immediate(Medium::new(), 2))
}

/// An image with the bitmap `bitmap`, of granules of 512 bytes.
async fn image(disk: &Disk) -> Image<SimDirectory> {
    let options = CreateOptions {
        file: "d.raw".to_owned(),
        data: None,
        size: SIZE,
        durability: Durability::Exact,
    };
    image::create(&SimDirectory::new(disk), "i.qbm", options, &SimHost::new(1)).await.unwrap();
    open_with_bitmap(disk).await
}

/// An overlay of `size` bytes with the same, of clusters of 1024 bytes over a disk of sevens.
async fn overlay(disk: &Disk, size: u64) -> Image<SimDirectory> {
    let directory = SimDirectory::new(disk);
    let base = directory.create("base.raw").await.unwrap();
    base.write_at(0, bytes(7, SIZE), Persist::Now).await.unwrap();
    drop(base);
    let options = OverlayOptions {
        file: "d.raw".to_owned(),
        backing: ImageRef { file: "base.raw".to_owned(), format: Format::Raw },
        cluster: Granularity::from_bytes(1024).unwrap(),
        size: Some(size),
        durability: Durability::Exact,
    };
    image::create_overlay(&directory, "i.qbm", options, &SimHost::new(1)).await.unwrap();
    open_with_bitmap(disk).await
}

async fn open_with_bitmap(disk: &Disk) -> Image<SimDirectory> {
    let image = open(disk).await;
    let (name, granularity) = ("bitmap".to_owned(), Granularity::MIN);
    let add = BitmapAction::Add { name, granularity, disabled: false };
    image.transaction(&[add]).await.unwrap();
    image
}

async fn open(disk: &Disk) -> Image<SimDirectory> {
    let (options, host) = (OpenOptions::new(Access::Write), SimHost::new(disk.calls() + 2));
    Image::open(SimDirectory::new(disk), "i.qbm", options, Arc::new(host)).await.unwrap()
}

fn bytes(byte: u8, length: u64) -> Buffer {
    Buffer::from_slice(&vec![byte; usize::try_from(length).unwrap()])
}

async fn write(image: &Image<SimDirectory>, granule: u64, byte: u8) {
    image.write(granule * 512, bytes(byte, 512), Persist::Later).await.unwrap();
}

/// A live point of the bitmap, and its fleece.
async fn live_point(
    image: &Image<SimDirectory>,
    space: &Disk,
) -> (FrozenPoint<SimFile>, Arc<Fleece<SimFile>>) {
    let storage = SimDirectory::new(space).create("fleece").await.unwrap();
    let fleece = Arc::new(Fleece::new(storage, SIZE));
    let point = image.begin_live_point("bitmap", Id(1), Arc::clone(&fleece)).await.unwrap();
    (point, fleece)
}

#[test]
fn a_view_shows_the_marks_of_its_point_and_none_of_later_writes() {
    let (disk, space) = disks();
    run(&disk, 1, async {
        let image = image(&disk).await;
        write(&image, 1, 1).await;
        write(&image, 2, 1).await;
        let (point, _) = live_point(&image, &space).await;
        write(&image, 5, 2).await;
        assert_eq!((point.bitmap(), point.doubt()), ("bitmap", None));
        let view = point.view().clone();
        let marks = view.marked_extents(ByteRange::new(0, SIZE), 10);
        let extent = |length, marked| MarkedExtent { length, marked };
        assert_eq!(marks, [extent(512, false), extent(1024, true), extent(5 * 512, false)]);
        image.settle_point(point, Outcome::Stored).await.unwrap();
        image.close().await.unwrap();
    });
}

/// What nobody will read takes no space of the fleece, and no time of the guest.
#[test]
fn what_is_spared_is_not_copied_and_all_else_is() {
    let (disk, space) = disks();
    run(&disk, 2, async {
        let image = image(&disk).await;
        for granule in 0..4 {
            write(&image, granule, 1).await;
        }
        image.transaction(&[BitmapAction::Clear("bitmap".to_owned())]).await.unwrap();
        write(&image, 2, 1).await;
        let (point, fleece) = live_point(&image, &space).await;
        point.view().spare(ByteRange::new(0, 512 + 100));
        write(&image, 0, 2).await;
        assert_eq!(fleece.used(), 0, "it was spared");
        write(&image, 1, 2).await;
        assert_eq!(fleece.used(), 512, "a part of it was not spared");
        point.view().spare_unmarked();
        write(&image, 3, 2).await;
        assert_eq!(fleece.used(), 512, "it is not marked");
        write(&image, 2, 2).await;
        assert_eq!(fleece.used(), 1024, "it is marked");
        let read = image.read_at_point(point.view(), 2 * 512, Buffer::zeroed(512)).await.unwrap();
        assert!(read.iter().all(|byte| *byte == 1));
        image.settle_point(point, Outcome::Stored).await.unwrap();
        image.close().await.unwrap();
    });
}

/// Else he would take for the point what is written once nobody keeps it any more.
#[test]
fn the_reader_of_a_point_that_is_settled_or_dropped_is_refused() {
    let (disk, space) = disks();
    run(&disk, 3, async {
        let image = image(&disk).await;
        let (point, _) = live_point(&image, &space).await;
        let view = point.view().clone();
        image.read_at_point(&view, 0, Buffer::zeroed(512)).await.unwrap();
        image.settle_point(point, Outcome::Abandoned).await.unwrap();
        let error = image.read_at_point(&view, 0, Buffer::zeroed(512)).await.unwrap_err();
        assert_eq!(error.to_string(), "i.qbm: the point is lost: it is settled");
        let range = ByteRange::new(0, SIZE);
        let error = image.block_status_at_point(&view, range).await.unwrap_err();
        assert!(matches!(error, Error::Unusable { .. }), "{error}");
        image.close().await.unwrap();
    });
}

#[test]
fn one_of_two_live_points_is_settled_and_the_other_goes_on() {
    let (disk, space) = disks();
    run(&disk, 9, async {
        let image = image(&disk).await;
        let (name, granularity) = ("other".to_owned(), Granularity::MIN);
        let add = BitmapAction::Add { name, granularity, disabled: false };
        image.transaction(&[add]).await.unwrap();
        write(&image, 0, 1).await;
        let (point, _) = live_point(&image, &space).await;
        let storage = SimDirectory::new(&space).create("second").await.unwrap();
        let fleece = Arc::new(Fleece::new(storage, SIZE));
        let other = image.begin_live_point("other", Id(2), Arc::clone(&fleece)).await.unwrap();
        image.settle_point(point, Outcome::Stored).await.unwrap();
        write(&image, 0, 2).await;
        assert_eq!(fleece.used(), 512, "what the other needs is copied");
        let read = image.read_at_point(other.view(), 0, Buffer::zeroed(512)).await.unwrap();
        assert!(read.iter().all(|byte| *byte == 1));
        image.settle_point(other, Outcome::Stored).await.unwrap();
        image.close().await.unwrap();
    });
}

#[test]
fn what_was_copied_of_a_point_counts_as_data_and_ends_where_the_copies_do() {
    let (disk, space) = disks();
    run(&disk, 4, async {
        let image = overlay(&disk, SIZE).await;
        let (point, _) = live_point(&image, &space).await;
        // A hole in the overlay, whose old contents are those behind it.
        write(&image, 2, 9).await;
        let status = async |start| {
            let range = ByteRange::new(start, SIZE - start);
            image.block_status_at_point(point.view(), range).await.unwrap()
        };
        let extent =
            |start, length, depth| Extent { start, length, depth, present: true, data: true };
        assert_eq!(status(0).await, extent(0, 1024, 1));
        assert_eq!(status(1024).await, extent(1024, 512, 0), "the granule that was copied");
        let read = image.read_at_point(point.view(), 1024, Buffer::zeroed(512)).await.unwrap();
        assert!(read.iter().all(|byte| *byte == 7), "what was behind it");
        image.settle_point(point, Outcome::Stored).await.unwrap();
        image.close().await.unwrap();
    });
}

/// No layer has that part of the disk, until the write does what it was copied for.
#[test]
fn what_was_copied_for_a_write_that_failed_counts_as_data_too() {
    let (disk, space) = disks();
    run(&disk, 11, async {
        let image = overlay(&disk, SIZE + 2048).await;
        let (point, _) = live_point(&image, &space).await;
        let (kind, error) = (Some(Kind::Write), ErrorKind::Other);
        disk.inject(Fault { kind, after: 0, count: 1, error });
        let written = image.write(SIZE + 1024, bytes(9, 1024), Persist::Later).await;
        assert_eq!(written.unwrap_err().to_string(), "d.raw: write: other error");
        let past = ByteRange::new(SIZE, 2048);
        let now = image.block_status(past).await.unwrap();
        let depth = now.depth;
        let nothing = |length| Extent { start: SIZE, length, depth, present: false, data: false };
        assert_eq!(now, nothing(2048));
        let then = image.block_status_at_point(point.view(), past).await.unwrap();
        assert_eq!(then, nothing(1024));
        let copied = ByteRange::new(SIZE + 1024, 1024);
        let then = image.block_status_at_point(point.view(), copied).await.unwrap();
        let (start, length) = (copied.start(), copied.length());
        assert_eq!(then, Extent { start, length, depth, present: true, data: true });
        image.settle_point(point, Outcome::Stored).await.unwrap();
        image.close().await.unwrap();
    });
}

/// The medium is still at it, and would change the point later; so it would if an operation that was
/// waiting for it is dropped too.
#[test]
fn a_point_waits_for_a_write_that_was_dropped() {
    let mut waited = 0;
    for (seed, steps) in (0..100).flat_map(|seed| (0..12).map(move |steps| (seed, steps))) {
        let disk = Disk::new(Medium::new(), seed);
        let image = &run(&disk, seed, async {
            let image = image(&disk).await;
            write(&image, 3, 1).await;
            image
        });
        let mut executor = Executor::new(&[&disk], seed);
        executor.spawn("write", write(image, 3, 2));
        assert_eq!(executor.step(), Step::Moved);
        assert!(executor.cancel_one());
        executor.spawn("clear", async {
            image.transaction(&[BitmapAction::Clear("bitmap".to_owned())]).await.unwrap();
        });
        let is_under_way = (0..steps).all(|_| executor.step() == Step::Moved);
        drop(executor);
        let data = || disk.snapshot().read("d.raw").unwrap()[3 * 512];
        waited += usize::from(is_under_way && data() == 1);
        let point = run(&disk, seed, image.begin_point("bitmap", Id(1)));
        // Where the other was at its flush, that counts as failed.
        assert!(matches!(point, Ok(_) | Err(Error::DataSyncFailed)), "seed {seed}, {steps} steps");
        assert_eq!(data(), 2, "seed {seed}, {steps} steps");
    }
    assert!(waited > 100, "{waited}");
}

#[test]
fn a_point_of_a_doubtful_bitmap_says_why() {
    let (disk, space) = disks();
    run(&disk, 5, async { image(&disk).await.close().await.unwrap() });
    let mut medium = disk.snapshot();
    medium.corrupt("d.raw", |bytes| bytes[0] = 1);
    let disk = Disk::new(medium, 6);
    run(&disk, 6, async {
        let image = open(&disk).await;
        let (point, _) = live_point(&image, &space).await;
        assert_eq!(point.doubt(), Some(Doubt::DataChanged));
        assert_eq!(point.bits().count(), SIZE / 512, "all is marked");
        image.settle_point(point, Outcome::Stored).await.unwrap();
        image.close().await.unwrap();
    });
}

/// Told by the descriptor, since the process that heard of it may be gone.
#[test]
fn a_failed_sync_of_the_data_makes_the_next_point_doubtful() {
    let (disk, space) = disks();
    run(&disk, 7, async {
        let image = image(&disk).await;
        write(&image, 1, 1).await;
        let (kind, error) = (Some(Kind::Sync), ErrorKind::Other);
        disk.inject(Fault { kind, after: 0, count: 1, error });
        let error = image.flush().await.unwrap_err();
        assert!(matches!(error, Error::DataSyncFailed), "{error}");
    });
    let disk = Disk::new(disk.snapshot(), 8);
    run(&disk, 8, async {
        let image = open(&disk).await;
        let (point, _) = live_point(&image, &space).await;
        assert_eq!(point.doubt(), Some(Doubt::DataSyncFailed));
        assert_eq!(point.bits().count(), SIZE / 512, "all is marked");
        image.settle_point(point, Outcome::Stored).await.unwrap();
        image.close().await.unwrap();
    });
}

/// Points that nobody settled are given up at a close, which leaves one file a bitmap.
#[test]
fn a_close_gives_up_a_point_with_all_its_marks_in_one_file() {
    let (disk, _) = disks();
    run(&disk, 7, async {
        let image = image(&disk).await;
        write(&image, 1, 1).await;
        let _given_up = image.begin_point("bitmap", Id(1)).await.unwrap();
        write(&image, 4, 1).await;
        image.close().await.unwrap();
    });
    let medium = disk.snapshot();
    let files: Vec<&str> = medium.names().filter(|name| name.ends_with(".bits")).collect();
    let [file] = files[..] else { panic!("{files:?}") };
    assert_eq!(medium.read(file).unwrap(), [1 << 1 | 1 << 4]);
}
