//! What copying and comparing disks asks of the storage: each block once, and not the map again for each.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use benches::counted::CountedDirectory;
use futures_executor::block_on;
use qbm_core::backup::{self, BackupOptions};
use qbm_core::bits::Bits;
use qbm_core::copy::Writing;
use qbm_core::descriptor::{Durability, Format, ImageRef};
use qbm_core::graph::{self, Onto};
use qbm_core::image::{self, CreateOptions, OpenOptions, OverlayOptions};
use qbm_core::{
    Access, Buffer, ByteRange, Directory, Disk, Granularity, Host, Image, Persist, Storage,
};
use qbm_io_std::{GatePolicy, StdDirectory, StdHost};

const WINDOW: u64 = 1 << 20;
const WINDOWS: u64 = 32;
/// In how many parts an audit reads a window.
const PARTS: u64 = 4;

/// To find the end of an extent costs some file systems a look at each page of it, so a question
/// for each window makes a copy take time by the square of the extent.
#[test]
fn a_long_extent_is_asked_for_once_in_backup_restore_verify_and_audit() {
    let (folder, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let plain = |folder: &tempfile::TempDir| {
        StdDirectory::open(folder.path(), GatePolicy::closed()).unwrap()
    };
    let (directory, counts) = CountedDirectory::new(plain(&folder), "d.raw");
    let (target, stored) = CountedDirectory::new(plain(&target), "p.raw");
    let host: Arc<dyn Host> = Arc::new(StdHost);
    block_on(async {
        let (file, durability) = ("d.raw".to_owned(), Durability::Exact);
        let options = CreateOptions { file, data: None, size: WINDOWS * WINDOW, durability };
        image::create(&directory, "i.qbm", options, &*host).await.unwrap();
        let options = OpenOptions::new(Access::Write);
        let image = Image::open(directory, "i.qbm", options, Arc::clone(&host)).await.unwrap();
        let mut buffer = Buffer::zeroed(usize::try_from(WINDOW).unwrap());
        buffer.fill(1);
        for window in 0..WINDOWS {
            buffer = image.write(window * WINDOW, buffer, Persist::Later).await.unwrap();
        }

        let calls =
            || (counts.data.swap(0, Ordering::Relaxed), stored.data.swap(0, Ordering::Relaxed));
        // A few more, for its length, its times and its syncs.
        let once_a_window = WINDOWS..WINDOWS + 8;
        calls();
        let options = BackupOptions {
            bitmap: "b".to_owned(),
            granularity: Granularity::DEFAULT,
            name: "p".to_owned(),
            full: false,
            require_incremental: false,
        };
        backup::run(&image, &target, &options, &host, &mut |_| ()).await.unwrap();
        let (read, written) = calls();
        assert!(once_a_window.contains(&read), "{read} calls to the disk");
        assert!(once_a_window.contains(&written), "{written} calls to the point");

        let points = backup::points(&target).await.unwrap();
        let entry = &points.entries[0];
        calls();
        let finding = backup::verify(&target, (&points, entry), &host, &mut |_| ()).await.unwrap();
        assert!(finding.is_none(), "{finding:?}");
        let (_, read) = calls();
        assert!(once_a_window.contains(&read), "{read} calls to verify");

        let reference = backup::reference(&image, &target, "b", &host).await.unwrap();
        let differing = Bits::new(Granularity::DEFAULT.granules_of(image.size()));
        calls();
        for window in 0..WINDOWS {
            let range = ByteRange::new(window * WINDOW, WINDOW);
            reference.compare(&image, range, None, &differing).await.unwrap();
        }
        assert_eq!(differing.count(), 0, "it is the point");
        let (read, _) = calls();
        let once_a_part = WINDOWS * PARTS..WINDOWS * PARTS + 8;
        assert!(once_a_part.contains(&read), "{read} calls to audit");

        let options = OpenOptions::new(Access::Read);
        let point = Image::open(target, "p.qbm", options, host).await.unwrap();
        backup::restore(&point, Disk::Image(&image), Writing::All, &mut |_| ()).await.unwrap();
        let (written, read) = calls();
        assert!(once_a_window.contains(&read), "{read} calls to the point");
        assert!(once_a_window.contains(&written), "{written} calls to the disk");
    });
}

/// What is behind both, before and after, is not looked at; and what has data is asked for once.
#[test]
fn a_rebase_reads_nothing_that_is_behind_both_images() {
    let folder = tempfile::tempdir().unwrap();
    let plain = StdDirectory::open(folder.path(), GatePolicy::closed()).unwrap();
    let (directory, counts) = CountedDirectory::new(plain, "base.raw");
    let host: Arc<dyn Host> = Arc::new(StdHost);
    block_on(async {
        let size = WINDOWS * WINDOW;
        let base = directory.create("base.raw").await.unwrap();
        base.set_len(size).await.unwrap();
        let mut buffer = Buffer::zeroed(usize::try_from(WINDOW).unwrap());
        buffer.fill(1);
        for window in 0..WINDOWS {
            buffer = base.write_at(window * WINDOW, buffer, Persist::Later).await.unwrap();
        }
        let open = async |name: &str| {
            let options = OpenOptions::new(Access::Write);
            Image::open(directory.clone(), name, options, Arc::clone(&host)).await.unwrap()
        };
        let links = [("mid", "base.raw", Format::Raw), ("top", "mid.qbm", Format::Qbm)];
        for (name, behind, format) in links {
            let options = OverlayOptions {
                file: format!("{name}.raw"),
                backing: ImageRef { file: behind.to_owned(), format },
                cluster: Granularity::DEFAULT,
                size: None,
                durability: Durability::Exact,
            };
            let name = format!("{name}.qbm");
            image::create_overlay(&directory, &name, options, &*host).await.unwrap();
        }
        let mid = open("mid.qbm").await;
        buffer.fill(2);
        for window in [3, 4, 20] {
            buffer = mid.write(window * WINDOW, buffer, Persist::Later).await.unwrap();
        }
        mid.close().await.unwrap();

        let top = open("top.qbm").await;
        let disk: Disk<'_, CountedDirectory> = Disk::File { name: "base.raw", file: &base, size };
        let backing = ImageRef { file: "base.raw".to_owned(), format: Format::Raw };
        counts.data.store(0, Ordering::Relaxed);
        let pulled = graph::rebase(top, Some(Onto { backing, disk }), &mut |_| ()).await.unwrap();
        assert_eq!(pulled, 3 * WINDOW);
        let calls = counts.data.load(Ordering::Relaxed);
        assert!((3..16).contains(&calls), "{calls} calls to what is behind both");
    });
}
