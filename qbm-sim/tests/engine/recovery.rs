//! What an open makes durable of what it finds, before the first request.

use std::io::ErrorKind;
use std::sync::Arc;

use qbm_core::descriptor::{Doubt, Durability, Format, ImageRef};
use qbm_core::image::{self, BitmapAction, CreateOptions, OpenOptions, Outcome, OverlayOptions};
use qbm_core::{Access, Buffer, Directory as _, Granularity, Id, Image, Persist, Storage as _};
use qbm_sim::{Disk, Executor, Fault, Harms, Kind, Loss, Medium, SimDirectory, SimHost, Step, run};

const SIZE: u64 = 8 * 512;

/// A closed image with the bitmap `bitmap`, of granules of 512 bytes.
fn image() -> Disk {
    let disk = Disk::new(Medium::new(), 1);
    run(&disk, 1, create(&disk, Durability::Exact));
    disk
}

async fn create(disk: &Disk, durability: Durability) {
    let (file, data) = ("d.raw".to_owned(), None);
    let options = CreateOptions { file, data, size: SIZE, durability };
    image::create(&SimDirectory::new(disk), "i.qbm", options, &SimHost::new(1)).await.unwrap();
    let image = open(disk).await;
    let (name, granularity) = ("bitmap".to_owned(), Granularity::MIN);
    let add = BitmapAction::Add { name, granularity, disabled: false };
    image.transaction(&[add]).await.unwrap();
    image.close().await.unwrap();
}

async fn open(disk: &Disk) -> Image<SimDirectory> {
    let (options, host) = (OpenOptions::new(Access::Write), SimHost::new(disk.calls() + 2));
    Image::open(SimDirectory::new(disk), "i.qbm", options, Arc::new(host)).await.unwrap()
}

async fn write(image: &Image<SimDirectory>, granule: u64) {
    let buffer = Buffer::from_slice(&[7; 512]);
    image.write(granule * 512, buffer, Persist::Later).await.unwrap();
}

/// What a power cut leaves of `medium` at worst.
fn after_power_loss(medium: &Medium) -> Medium {
    let mut rng = fastrand::Rng::with_seed(1);
    medium.power_loss(Loss::Everything, &mut rng, &mut Harms::default())
}

/// The first byte of the one bitmap file.
fn bits(medium: &Medium) -> u8 {
    let name = medium.names().find(|name| name.ends_with(".bits")).unwrap();
    medium.read(name).unwrap()[0]
}

/// What a kill in the midst of `work` leaves, with the `wanted` bits in the cache and none on the medium.
fn kill_with_bits(disk: &Disk, wanted: u8, work: impl Future<Output = ()>) -> Medium {
    let mut executor = Executor::new(&[disk], 1);
    executor.spawn("work", work);
    let in_cache = |medium: &Medium| bits(medium) == wanted && bits(&after_power_loss(medium)) == 0;
    while executor.step() == Step::Moved {
        let mut kills = (0..20).map(|seed| disk.kill(&mut fastrand::Rng::with_seed(seed)));
        if let Some(killed) = kills.find(in_cache) {
            return killed;
        }
    }
    panic!("no kill leaves the bits in the cache");
}

#[test]
fn an_open_after_a_clean_close_writes_no_bitmap() {
    let disk = image();
    run(&disk, 2, async {
        let image = open(&disk).await;
        write(&image, 3).await;
        image.close().await.unwrap();
        let (kind, error) = (Some(Kind::DurableWrite), ErrorKind::Other);
        disk.inject(Fault { kind, after: 0, count: 1, error });
        let image = open(&disk).await;
        // Nor is one written for what is marked already.
        write(&image, 3).await;
        assert_eq!(disk.injected().errors, 0);
        disk.calm();
        image.close().await.unwrap();
    });
}

/// The killed process has written the mark and not synced it. Its bit is in the file for everybody to read,
/// and a write that relied on it would be lost at a power cut.
#[test]
fn a_mark_that_a_kill_left_in_the_cache_is_durable_once_the_image_is_open() {
    let disk = image();
    let opened = run(&disk, 3, open(&disk));
    let killed = kill_with_bits(&disk, 1 << 3, write(&opened, 3));
    let disk = Disk::new(killed, 4);
    let _image = run(&disk, 4, open(&disk));
    assert_eq!(bits(&after_power_loss(&disk.snapshot())), 1 << 3);
}

/// Else a flush of what is written there next would rely on a bit that a power cut takes.
#[test]
fn an_allocation_that_a_kill_left_in_the_cache_is_durable_once_the_image_is_open() {
    let disk = Disk::new(Medium::new(), 13);
    let opened = run(&disk, 13, async {
        let directory = SimDirectory::new(&disk);
        directory.create("base.raw").await.unwrap().set_len(SIZE).await.unwrap();
        let options = OverlayOptions {
            file: "d.raw".to_owned(),
            backing: ImageRef { file: "base.raw".to_owned(), format: Format::Raw },
            cluster: Granularity::MIN,
            size: None,
            durability: Durability::Exact,
        };
        image::create_overlay(&directory, "i.qbm", options, &SimHost::new(1)).await.unwrap();
        open(&disk).await
    });
    let killed = kill_with_bits(&disk, 1 << 3, async {
        write(&opened, 3).await;
        opened.flush().await.unwrap();
    });
    let disk = Disk::new(killed, 14);
    let _image = run(&disk, 14, open(&disk));
    assert_eq!(bits(&after_power_loss(&disk.snapshot())), 1 << 3);
}

/// A backup might store it else, and the disk lose it without a mark.
#[test]
fn data_that_a_kill_left_in_the_cache_is_durable_once_the_image_is_open() {
    let disk = image();
    run(&disk, 8, async {
        let image = open(&disk).await;
        write(&image, 3).await;
    });
    let disk = Disk::new(disk.snapshot(), 9);
    let data = |medium: &Medium| medium.read("d.raw").unwrap()[3 * 512];
    assert_eq!((data(&disk.snapshot()), data(&after_power_loss(&disk.snapshot()))), (7, 0));
    let _image = run(&disk, 9, open(&disk));
    assert_eq!(data(&after_power_loss(&disk.snapshot())), 7);
}

/// Else a crash while it opens would leave marks that nobody made, and nothing to say so.
#[test]
fn no_mark_of_a_doubt_is_durable_before_its_reason() {
    let mut medium = image().snapshot();
    medium.corrupt("d.raw", |bytes| bytes[0] = 1);
    let disk = Disk::new(medium, 10);
    let mut executor = Executor::new(&[&disk], 1);
    executor.spawn("open", async {
        open(&disk).await;
    });
    let mut marked = 0;
    while executor.step() == Step::Moved {
        let left = after_power_loss(&disk.snapshot());
        let text = String::from_utf8_lossy(left.read("i.qbm").unwrap()).into_owned();
        if bits(&left) != 0 {
            assert!(text.contains("doubt"), "{text}");
            marked += 1;
        }
    }
    assert!(marked > 0, "the marks are made durable");
}

#[test]
fn the_marks_of_a_doubt_are_durable_once_the_image_is_open() {
    let mut medium = image().snapshot();
    medium.corrupt("d.raw", |bytes| bytes[0] = 1);
    let disk = Disk::new(medium, 5);
    let _image = run(&disk, 5, open(&disk));
    assert_eq!(bits(&after_power_loss(&disk.snapshot())), 0xff);
}

/// Nothing is written to a bitmap that is disabled; what a stranger added to the disk is marked in it once
/// and for all.
#[test]
fn what_a_stranger_added_to_the_disk_stays_marked_in_a_disabled_bitmap() {
    let disk = image();
    run(&disk, 6, async {
        let image = open(&disk).await;
        image.resize(SIZE - 512).await.unwrap();
        let actions = ["bitmap".to_owned()].map(BitmapAction::Clear);
        image.transaction(&actions).await.unwrap();
        image.transaction(&[BitmapAction::Disable("bitmap".to_owned())]).await.unwrap();
        image.close().await.unwrap();
    });
    let mut medium = disk.snapshot();
    medium.corrupt("d.raw", |bytes| bytes.resize(usize::try_from(SIZE).unwrap(), 1));
    let disk = Disk::new(medium, 7);
    run(&disk, 7, async {
        for _ in 0..2 {
            let image = open(&disk).await;
            assert!(image.bitmap_bits("bitmap").await.unwrap().get(7));
            image.close().await.unwrap();
        }
    });
}

/// Nothing waits for its marks then, and after a crash none of them is relied upon.
#[test]
fn marks_that_are_stored_at_a_close_only_are_doubtful_after_a_crash() {
    let disk = Disk::new(Medium::new(), 11);
    run(&disk, 11, async {
        create(&disk, Durability::Close).await;
        let image = open(&disk).await;
        let (kind, error) = (Some(Kind::DurableWrite), ErrorKind::Other);
        disk.inject(Fault { kind, after: 0, count: 1, error });
        write(&image, 3).await;
        assert_eq!(disk.injected().errors, 0, "it waits for no mark");
        disk.calm();
    });
    let disk = Disk::new(disk.snapshot(), 12);
    run(&disk, 12, async {
        let image = open(&disk).await;
        let point = image.begin_point("bitmap", Id(1)).await.unwrap();
        assert_eq!(point.doubt(), Some(Doubt::NotStored));
        assert_eq!(point.bits().count(), SIZE / 512, "all is marked");
        image.settle_point(point, Outcome::Stored).await.unwrap();
        write(&image, 3).await;
        image.close().await.unwrap();
    });
    assert_eq!(bits(&after_power_loss(&disk.snapshot())), 1 << 3, "a close stores them");
}
