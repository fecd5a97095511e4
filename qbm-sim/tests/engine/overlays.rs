//! Overlays: what they show, what a resize leaves, and what is refused.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use qbm_core::backup::{self, BackupOptions};
use qbm_core::descriptor::{Durability, Format, ImageRef};
use qbm_core::image::{self, BitmapAction, CreateOptions, OpenOptions, OverlayOptions};
use qbm_core::{
    Access, Buffer, ByteRange, Directory, Error, Granularity, Host, Image, Persist, Result,
    Storage, Unmap,
};
use qbm_sim::{Disk, Fault, Kind, Medium, SimDirectory, SimHost, run};

/// The size of a cluster in bytes.
const CLUSTER: u64 = 1024;

/// A disk with the raw image `base` of `length` bytes, each 9.
fn with_base(length: usize) -> Disk {
    let disk = Disk::new(Medium::new(), 0);
    run(&disk, 0, async {
        let base = SimDirectory::new(&disk).create("base").await.unwrap();
        base.write_at(0, Buffer::from_slice(&vec![9; length]), Persist::Now).await.unwrap();
    });
    disk
}

/// Creates the overlay `name` of `size` bytes over `behind`.
async fn over(disk: &Disk, name: &str, behind: (&str, Format), size: Option<u64>) -> Result<u64> {
    let (file, format) = (behind.0.to_owned(), behind.1);
    let options = OverlayOptions {
        file: format!("{name}.raw"),
        backing: ImageRef { file, format },
        cluster: Granularity::from_bytes(CLUSTER).unwrap(),
        size,
        durability: Durability::Exact,
    };
    image::create_overlay(&SimDirectory::new(disk), name, options, &host()).await
}

/// A process of its own: no two make the same ids.
fn host() -> SimHost {
    static PROCESSES: AtomicU64 = AtomicU64::new(0);
    SimHost::new(PROCESSES.fetch_add(1, Ordering::Relaxed))
}

async fn open(disk: &Disk, name: &str, access: Access) -> Result<Image<SimDirectory>> {
    let options = OpenOptions::new(access);
    Image::open(SimDirectory::new(disk), name, options, Arc::new(host())).await
}

async fn write(image: &Image<SimDirectory>, offset: u64, bytes: &[u8]) {
    image.write(offset, Buffer::from_slice(bytes), Persist::Later).await.unwrap();
}

/// The runs of equal bytes: the first offset of each, and the byte.
async fn runs(image: &Image<SimDirectory>) -> Vec<(usize, u8)> {
    let size = usize::try_from(image.size()).unwrap();
    let bytes = image.read(0, Buffer::zeroed(size)).await.unwrap();
    let mut runs: Vec<(usize, u8)> = Vec::new();
    for (offset, byte) in bytes.iter().enumerate() {
        if runs.last().is_none_or(|(_, last)| last != byte) {
            runs.push((offset, *byte));
        }
    }
    runs
}

/// Cuts the power, and returns a disk with what is left if nothing is that was not synced.
fn after_power_loss(disk: &Disk) -> Disk {
    let mut rng = fastrand::Rng::with_seed(0);
    let mut harms = qbm_sim::Harms::default();
    Disk::new(disk.snapshot().power_loss(qbm_sim::Loss::Everything, &mut rng, &mut harms), 1)
}

#[test]
fn what_was_flushed_is_there_and_what_was_not_shows_what_is_behind() {
    let disk = with_base(5000);
    run(&disk, 1, async {
        assert_eq!(over(&disk, "i", ("base", Format::Raw), None).await.unwrap(), 5000);
        let image = open(&disk, "i", Access::Write).await.unwrap();
        write(&image, 10, &[1; 10]).await;
        image.flush().await.unwrap();
        write(&image, 3000, &[2; 10]).await;
        let shown = [(0, 9), (10, 1), (20, 9), (3000, 2), (3010, 9)];
        assert_eq!(runs(&image).await, shown);
    });
    let left = after_power_loss(&disk);
    run(&left, 2, async {
        let image = open(&left, "i", Access::Write).await.unwrap();
        assert_eq!(runs(&image).await, [(0, 9), (10, 1), (20, 9)]);
    });
}

#[test]
fn a_discard_leaves_zeroes_and_never_shows_what_is_behind_again() {
    let disk = with_base(5000);
    run(&disk, 1, async {
        over(&disk, "i", ("base", Format::Raw), None).await.unwrap();
        let image = open(&disk, "i", Access::Write).await.unwrap();
        write(&image, 0, &[1; 1024]).await;
        // Whole clusters, allocated and not, and a part of one, which may stay.
        image.discard(ByteRange::new(0, 2500)).await.unwrap();
        assert_eq!(runs(&image).await, [(0, 0), (2048, 9)]);
        image.write_zeroes(ByteRange::new(3000, 100), Unmap::Forbidden).await.unwrap();
        // The last cluster is whole where the disk ends.
        image.discard(ByteRange::new(4096, 904)).await.unwrap();
        image.close().await.unwrap();
        let image = open(&disk, "i", Access::Read).await.unwrap();
        assert_eq!(runs(&image).await, [(0, 0), (2048, 9), (3000, 0), (3100, 9), (4096, 0)]);
    });
}

#[test]
fn zeroes_are_fast_where_the_storage_can_and_no_cluster_has_to_be_allocated() {
    let disk = with_base(5000);
    run(&disk, 1, async {
        over(&disk, "i", ("base", Format::Raw), None).await.unwrap();
        let image = open(&disk, "i", Access::Write).await.unwrap();
        write(&image, 0, &[1; 1024]).await;
        let allocated = ByteRange::new(100, 900);
        assert!(image.zeroes_fast(allocated, Unmap::Allowed).await);
        assert!(!image.zeroes_fast(allocated, Unmap::Forbidden).await);
        assert!(!image.zeroes_fast(ByteRange::new(1000, 100), Unmap::Allowed).await);
    });
}

#[test]
fn what_is_added_to_an_overlay_is_zeroes_where_what_is_behind_goes_on() {
    let disk = with_base(9000);
    run(&disk, 1, async {
        over(&disk, "i", ("base", Format::Raw), Some(2500)).await.unwrap();
        let image = open(&disk, "i", Access::Write).await.unwrap();
        image.resize(6000).await.unwrap();
        assert_eq!(runs(&image).await, [(0, 9), (2500, 0)]);
        // Cut within a cluster, and longer again.
        write(&image, 5000, &[1; 100]).await;
        image.resize(5050).await.unwrap();
        image.resize(6000).await.unwrap();
        assert_eq!(runs(&image).await, [(0, 9), (2500, 0), (5000, 1), (5050, 0)]);
        image.close().await.unwrap();
        let image = open(&disk, "i", Access::Read).await.unwrap();
        assert_eq!(runs(&image).await, [(0, 9), (2500, 0), (5000, 1), (5050, 0)]);
        let last = image.block_status(ByteRange::new(5500, 100)).await.unwrap();
        assert!(last.present, "{last:?}");
    });
}

#[test]
fn each_byte_is_of_the_topmost_layer_that_has_it() {
    let disk = with_base(2048);
    run(&disk, 1, async {
        over(&disk, "mid", ("base", Format::Raw), Some(4096)).await.unwrap();
        let image = open(&disk, "mid", Access::Write).await.unwrap();
        write(&image, 1024, &[5; 1024]).await;
        image.close().await.unwrap();
        over(&disk, "top", ("mid", Format::Qbm), Some(6000)).await.unwrap();
        let image = open(&disk, "top", Access::Write).await.unwrap();
        write(&image, 1500, &[6; 4]).await;
        assert_eq!(runs(&image).await, [(0, 9), (1024, 5), (1500, 6), (1504, 5), (2048, 0)]);
        let mut found = Vec::new();
        for offset in [0, 1024, 2048, 4096] {
            let extent = image.block_status(ByteRange::new(offset, 6000 - offset)).await.unwrap();
            found.push((extent.length, extent.depth, extent.present));
        }
        // Past the end of what is behind the one that would have it answers.
        assert_eq!(found, [(1024, 2, true), (1024, 0, true), (2048, 1, false), (1904, 0, false)]);
    });
}

#[test]
fn an_allocation_bitmap_that_is_damaged_or_of_another_size_refuses_the_image() {
    let disk = with_base(50_000);
    run(&disk, 1, async {
        over(&disk, "i", ("base", Format::Raw), None).await.unwrap();
        let directory = SimDirectory::new(&disk);
        let image = open(&disk, "i", Access::Write).await.unwrap();
        let bits = image.descriptor().await.allocation().unwrap().segments[0].file.clone();
        image.close().await.unwrap();
        let file = directory.open(&bits, Access::Write).await.unwrap();
        for (length, what) in [(6, "shorter than the disk needs"), (7, "")] {
            file.set_len(length).await.unwrap();
            let opened = open(&disk, "i", Access::Write).await;
            assert_eq!(opened.is_ok(), what.is_empty(), "{what}");
            match opened {
                Ok(image) => image.close().await.unwrap(),
                Err(error) => assert!(error.to_string().contains(what), "{error}"),
            }
        }
        file.write_at(6, Buffer::from_slice(&[0xff]), Persist::Later).await.unwrap();
        let error = open(&disk, "i", Access::Write).await.unwrap_err().to_string();
        assert!(error.contains("marks past the end of the disk"), "{error}");
        file.write_at(6, Buffer::from_slice(&[0]), Persist::Later).await.unwrap();
        let data = directory.open("i.raw", Access::Write).await.unwrap();
        data.set_len(60_000).await.unwrap();
        let error = open(&disk, "i", Access::Write).await.unwrap_err().to_string();
        assert!(error.contains("not what the descriptor says"), "{error}");
    });
}

#[test]
fn what_is_behind_is_locked_and_must_have_been_closed_cleanly() {
    let disk = with_base(5000);
    run(&disk, 1, async {
        over(&disk, "mid", ("base", Format::Raw), None).await.unwrap();
        over(&disk, "top", ("mid", Format::Qbm), None).await.unwrap();
        let image = open(&disk, "top", Access::Write).await.unwrap();
        assert!(open(&disk, "mid", Access::Write).await.is_err(), "an overlay shows it");
        open(&disk, "mid", Access::Read).await.unwrap();
        image.close().await.unwrap();
        // Never closed.
        drop(open(&disk, "mid", Access::Write).await.unwrap());
        let error = open(&disk, "top", Access::Write).await.unwrap_err().to_string();
        assert!(error.contains("was not closed cleanly"), "{error}");
        assert!(over(&disk, "other", ("mid", Format::Qbm), None).await.is_err());
        open(&disk, "top", Access::Read).await.unwrap();
    });
}

#[test]
fn a_backup_point_is_only_read_and_an_overlay_over_it_written() {
    let disk = with_base(1);
    run(&disk, 1, async {
        let directory = SimDirectory::new(&disk);
        let host: Arc<dyn Host> = Arc::new(host());
        let (file, durability) = ("d.raw".to_owned(), Durability::Exact);
        let options = CreateOptions { file, data: None, size: 5000, durability };
        image::create(&directory, "d", options, &*host).await.unwrap();
        let image = open(&disk, "d", Access::Write).await.unwrap();
        write(&image, 0, &[4; 5000]).await;
        let options = BackupOptions {
            bitmap: "b".to_owned(),
            granularity: Granularity::MIN,
            name: "point".to_owned(),
            full: false,
            require_incremental: false,
        };
        backup::run(&image, &directory, &options, &host, &mut |_| {}).await.unwrap();
        image.close().await.unwrap();
        let error = open(&disk, "point.qbm", Access::Write).await.unwrap_err().to_string();
        assert!(error.contains("it is a backup point"), "{error}");
        over(&disk, "o", ("point.qbm", Format::Qbm), None).await.unwrap();
        let image = open(&disk, "o", Access::Write).await.unwrap();
        write(&image, 100, &[5; 1]).await;
        assert_eq!(runs(&image).await, [(0, 4), (100, 5), (101, 4)]);
        image.close().await.unwrap();
    });
}

#[test]
fn an_image_that_could_not_be_made_leaves_nothing_behind() {
    let disk = with_base(5000);
    run(&disk, 1, async {
        let directory = SimDirectory::new(&disk);
        assert!(over(&disk, "i", ("nobody", Format::Raw), None).await.is_err());
        assert!(over(&disk, "i", ("base", Format::Qbm), None).await.is_err());
        drop(directory.create("i.raw").await.unwrap());
        assert!(over(&disk, "i", ("base", Format::Raw), None).await.is_err());
        let mut names = directory.list().await.unwrap();
        names.sort();
        assert_eq!(names, ["base", "i.raw"]);
    });
}

/// The new allocation bitmap is durable before anything names it, or gone again.
#[test]
fn a_resize_that_cannot_write_its_allocation_bitmap_leaves_no_file_and_can_be_repeated() {
    let disk = with_base(5000);
    run(&disk, 20, async {
        over(&disk, "i", ("base", Format::Raw), None).await.unwrap();
        let image = open(&disk, "i", Access::Write).await.unwrap();
        image.flush().await.unwrap();
        let files = disk.snapshot().names().count();
        // The old one is written first. Then the new file, and the one that a rotation would put in its place.
        for (kind, after) in [(Kind::DurableWrite, 1), (Kind::Create, 1)] {
            let error = ErrorKind::StorageFull;
            disk.inject(Fault { kind: Some(kind), after, count: 1, error });
        }
        let error = image.resize(9000).await.unwrap_err();
        assert!(matches!(error, Error::BitmapWrite { .. }), "{error}");
        assert_eq!(disk.injected().errors, 2);
        assert_eq!(disk.snapshot().names().count(), files, "the new file is gone again");
        assert_eq!(image.size(), 5000);
        image.resize(9000).await.unwrap();
        assert_eq!(runs(&image).await, [(0, 9), (5000, 0)]);
        image.close().await.unwrap();
    });
}

/// What shows through from behind is copied only where the disk grows past it.
#[test]
fn a_resize_to_the_same_size_copies_nothing() {
    let disk = with_base(5000);
    run(&disk, 21, async {
        over(&disk, "i", ("base", Format::Raw), None).await.unwrap();
        let image = open(&disk, "i", Access::Write).await.unwrap();
        image.resize(5000).await.unwrap();
        let extent = image.block_status(ByteRange::new(0, 5000)).await.unwrap();
        assert_eq!((extent.length, extent.depth), (5000, 1));
        let (name, granularity) = ("allocation".to_owned(), Granularity::MIN);
        let add = BitmapAction::Add { name, granularity, disabled: false };
        let error = image.transaction(&[add]).await.unwrap_err();
        assert!(matches!(error, Error::BitmapExists(_)), "its own bitmap has the name: {error}");
        image.close().await.unwrap();
    });
}
