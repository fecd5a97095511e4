//! What an image refuses, and the ways of the ordering core that no crash is needed for.

use std::io::ErrorKind;
use std::sync::Arc;

use qbm_core::descriptor::{Durability, MAX_BITMAPS};
use qbm_core::image::{self, BitmapAction, CreateOptions, Marks, OpenOptions, Outcome};
use qbm_core::{Access, Buffer, ByteRange, Error, Granularity, Id, Image, Persist, Result, Unmap};
use qbm_sim::{Disk, Executor, Fault, Kind, Medium, SimDirectory, SimHost, run};

const SIZE: u64 = 8 * 4096;

/// A closed image of `size` bytes with the bitmap `fine`, and with `coarse`, which has larger granules.
fn image(size: u64) -> Disk {
    let disk = Disk::new(Medium::new(), 1);
    run(&disk, 1, async {
        let options = CreateOptions {
            file: "d.raw".to_owned(),
            data: None,
            size,
            durability: Durability::Exact,
        };
        image::create(&SimDirectory::new(&disk), "i.qbm", options, &SimHost::new(1)).await.unwrap();
        let image = open(&disk, Access::Write).await.unwrap();
        image.transaction(&[add("fine", 512), add("coarse", 4096)]).await.unwrap();
        image.close().await.unwrap();
    });
    disk
}

async fn open(disk: &Disk, access: Access) -> Result<Image<SimDirectory>> {
    let host = Arc::new(SimHost::new(disk.calls() + 2));
    Image::open(SimDirectory::new(disk), "i.qbm", OpenOptions::new(access), host).await
}

fn add(name: &str, granularity: u64) -> BitmapAction {
    let granularity = Granularity::from_bytes(granularity).unwrap();
    BitmapAction::Add { name: name.to_owned(), granularity, disabled: false }
}

async fn write(image: &Image<SimDirectory>, offset: u64) -> Result<()> {
    image.write(offset, Buffer::from_slice(&[7; 512]), Persist::Later).await.map(drop)
}

#[test]
fn an_image_open_for_reading_refuses_every_change_and_can_be_flushed_and_closed() {
    let disk = image(SIZE);
    run(&disk, 2, async {
        let image = open(&disk, Access::Read).await.unwrap();
        let range = ByteRange::new(0, 512);
        let refused = [
            write(&image, 0).await,
            image.write_zeroes(range, Unmap::Allowed).await,
            image.discard(range).await,
            image.transaction(&[add("new", 512)]).await,
            image.begin_point("fine", Id(1)).await.map(drop),
            image.resize(SIZE * 2).await,
        ];
        for error in refused {
            assert!(matches!(error, Err(Error::ReadOnly)), "{error:?}");
        }
        image.flush().await.unwrap();
        image.close().await.unwrap();
    });
}

#[test]
fn a_size_that_no_disk_has_and_one_while_a_backup_runs_are_refused() {
    let disk = image(SIZE);
    run(&disk, 3, async {
        let image = open(&disk, Access::Write).await.unwrap();
        let error = image.resize(u64::MAX).await;
        assert!(matches!(error, Err(Error::OutOfRange { .. })), "{error:?}");
        let frozen = image.begin_point("fine", Id(1)).await.unwrap();
        let error = image.resize(SIZE * 2).await;
        assert!(matches!(error, Err(Error::BitmapBusy(_))), "{error:?}");
        image.settle_point(frozen, Outcome::Abandoned).await.unwrap();
        image.resize(SIZE * 2).await.unwrap();
        image.close().await.unwrap();
    });
}

#[test]
fn a_bitmap_that_is_disabled_gives_no_point() {
    let disk = image(SIZE);
    run(&disk, 4, async {
        let image = open(&disk, Access::Write).await.unwrap();
        image.transaction(&[BitmapAction::Disable("fine".to_owned())]).await.unwrap();
        let error = image.begin_point("fine", Id(1)).await.unwrap_err();
        assert_eq!(error.to_string(), "i.qbm: bitmap 'fine' is disabled");
        let error = image.settle_found("fine", Id(5), Outcome::Abandoned).await.unwrap_err();
        assert!(error.to_string().contains("has no segment that began at point"), "{error}");
        image.close().await.unwrap();
    });
}

#[test]
fn the_most_bitmaps_can_be_added_and_no_more() {
    let disk = image(SIZE);
    run(&disk, 5, async {
        let image = open(&disk, Access::Write).await.unwrap();
        let all: Vec<_> = (2..MAX_BITMAPS).map(|index| add(&index.to_string(), 4096)).collect();
        image.transaction(&all).await.unwrap();
        let error = image.transaction(&[add("more", 4096)]).await.unwrap_err();
        let text = format!("i.qbm: it has {MAX_BITMAPS} bitmaps, and cannot have more");
        assert_eq!(error.to_string(), text);
        image.close().await.unwrap();
    });
}

#[test]
fn marks_are_merged_across_granularities_and_from_elsewhere() {
    let disk = image(SIZE);
    run(&disk, 6, async {
        let image = open(&disk, Access::Write).await.unwrap();
        image.transaction(&[BitmapAction::Disable("coarse".to_owned())]).await.unwrap();
        write(&image, 4096 + 512).await.unwrap();
        let merge = |target: &str, source: &str| BitmapAction::Merge {
            target: target.to_owned(),
            source: source.to_owned(),
        };
        image.transaction(&[merge("coarse", "fine")]).await.unwrap();
        let coarse = image.bitmap_bits("coarse").await.unwrap();
        assert!(coarse.areas().eq(std::iter::once(1..2)), "the granule around it");
        image.transaction(&[merge("fine", "coarse")]).await.unwrap();
        assert!(image.bitmap_bits("fine").await.unwrap().areas().eq(std::iter::once(8..16)));

        let elsewhere = qbm_core::bits::Bits::new(8);
        elsewhere.set(3..4);
        let granularity = Granularity::from_bytes(4096).unwrap();
        let marks = Marks { bits: Arc::new(elsewhere), granularity, doubt: None };
        let action = BitmapAction::MergeMarks { target: "fine".to_owned(), marks };
        image.transaction(&[action]).await.unwrap();
        assert!(image.bitmap_bits("fine").await.unwrap().areas().eq([8..16, 24..32]));
        image.close().await.unwrap();
    });
}

#[test]
fn a_write_fails_where_neither_the_file_of_its_marks_nor_a_new_one_can_be_written() {
    let disk = image(SIZE);
    run(&disk, 7, async {
        let image = open(&disk, Access::Write).await.unwrap();
        image.transaction(&[BitmapAction::Remove("coarse".to_owned())]).await.unwrap();
        let files = disk.snapshot().names().count();
        for kind in [Kind::DurableWrite, Kind::Write] {
            let error = ErrorKind::StorageFull;
            disk.inject(Fault { kind: Some(kind), after: 0, count: 1, error });
        }
        let error = write(&image, 0).await.unwrap_err();
        assert!(matches!(error, Error::BitmapWrite { .. }), "{error}");
        assert_eq!(disk.injected().errors, 2);
        let medium = disk.snapshot();
        assert!(medium.read("d.raw").unwrap().iter().all(|byte| *byte == 0), "it was not done");
        assert_eq!(medium.names().count(), files, "the new file is gone again");
        // Then there is space again, and the marks go to a new file.
        write(&image, 0).await.unwrap();
        assert!(image.bitmap_bits("fine").await.unwrap().get(0));
        image.close().await.unwrap();
    });
}

/// Marks in pages that are not neighbours are written apart and synced once.
#[test]
fn marks_of_pages_apart_are_durable_together() {
    const PAGE: u64 = 4096 * 8 * 512;
    let disk = image(3 * PAGE);
    run(&disk, 8, async {
        let image = open(&disk, Access::Write).await.unwrap();
        image.transaction(&[BitmapAction::Remove("coarse".to_owned())]).await.unwrap();
        image.close().await.unwrap();
    });
    let opened = run(&disk, 9, open(&disk, Access::Write)).unwrap();
    let image = &opened;
    let mut executor = Executor::new(&[&disk], 1);
    let calls = disk.calls();
    executor.spawn("first", async move { write(image, PAGE).await.unwrap() });
    while disk.calls() == calls {
        executor.step();
    }
    // While the first one's page is being written, the marks of the others come together.
    for offset in [0, 2 * PAGE] {
        executor.spawn("other", async move { write(image, offset).await.unwrap() });
    }
    executor.finish();
    drop(executor);
    let killed = disk.snapshot().names().map(str::to_owned).collect::<Vec<_>>();
    let loss = qbm_sim::Loss::Everything;
    let mut rng = fastrand::Rng::with_seed(1);
    let left = disk.snapshot().power_loss(loss, &mut rng, &mut qbm_sim::Harms::default());
    let bits = killed.iter().find(|name| name.contains("fine")).unwrap();
    let bytes = left.read(bits).unwrap();
    assert_eq!([0, 4096, 8192].map(|at| bytes[at]), [1; 3]);
}

/// A flush that begins while another is under way needs a sync of its own, and shares it.
#[test]
fn flushes_that_wait_for_one_share_the_next_sync() {
    let disk = image(SIZE);
    let opened = run(&disk, 10, open(&disk, Access::Write)).unwrap();
    let image = &opened;
    run(&disk, 11, write(image, 0)).unwrap();
    // The third sync would fail.
    disk.inject(Fault { kind: Some(Kind::Sync), after: 2, count: 1, error: ErrorKind::Other });
    let mut executor = Executor::new(&[&disk], 1);
    let calls = disk.calls();
    executor.spawn("first", async move { image.flush().await.unwrap() });
    while disk.calls() == calls {
        executor.step();
    }
    for _ in 0..2 {
        executor.spawn("later", async move { image.flush().await.unwrap() });
    }
    executor.finish();
    drop(executor);
    assert_eq!(disk.injected().errors, 0);
    disk.calm();
    run(&disk, 12, opened.close()).unwrap();
}

#[test]
fn a_transaction_that_fails_leaves_no_file_of_what_it_began() {
    let disk = image(SIZE);
    run(&disk, 13, async {
        let image = open(&disk, Access::Write).await.unwrap();
        let files = disk.snapshot().names().count();
        let error = image.transaction(&[add("new", 512), add("fine", 512)]).await.unwrap_err();
        assert!(matches!(error, Error::BitmapExists(_)), "{error}");
        assert_eq!(disk.snapshot().names().count(), files);
        image.transaction(&[add("new", 512)]).await.unwrap();
        image.close().await.unwrap();
    });
}

#[test]
fn a_disk_that_could_not_shrink_keeps_its_size_for_writes() {
    let disk = image(SIZE);
    run(&disk, 14, async {
        let image = open(&disk, Access::Write).await.unwrap();
        // At the descriptor, when no write past the new end is let in any more.
        let (kind, error) = (Some(Kind::Rename), ErrorKind::StorageFull);
        disk.inject(Fault { kind, after: 0, count: 1, error });
        image.resize(SIZE / 2).await.unwrap_err();
        assert_eq!(image.size(), SIZE);
        write(&image, SIZE - 512).await.unwrap();
    });
}

/// The largest size that there is; a bitmap cannot follow it.
#[test]
fn the_largest_disk_is_refused_for_its_bitmaps_only() {
    let disk = image(SIZE);
    run(&disk, 15, async {
        let image = open(&disk, Access::Write).await.unwrap();
        let largest = (1 << 63) - 512;
        let error = image.resize(largest).await.unwrap_err();
        assert!(matches!(error, Error::TooManyGranules { .. }), "{error}");
        let error = image.resize(largest + 512).await.unwrap_err();
        assert!(matches!(error, Error::OutOfRange { .. }), "{error}");
        image.close().await.unwrap();
    });
}

/// One write and no sync of the file.
#[test]
fn marks_of_adjacent_pages_are_one_durable_write() {
    const PAGE: u64 = 4096 * 8 * 512;
    let disk = image(2 * PAGE);
    run(&disk, 16, async {
        let image = open(&disk, Access::Write).await.unwrap();
        image.transaction(&[BitmapAction::Remove("coarse".to_owned())]).await.unwrap();
        let error = ErrorKind::Other;
        disk.inject(Fault { kind: Some(Kind::Sync), after: 0, count: 1, error });
        disk.inject(Fault { kind: Some(Kind::DurableWrite), after: 1, count: 1, error });
        write(&image, PAGE - 256).await.unwrap();
        assert_eq!(disk.injected().errors, 0);
        disk.calm();
        image.close().await.unwrap();
    });
}
