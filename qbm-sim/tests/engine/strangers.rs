//! Files that are cut or replaced while an image has them open, and chains that lead nowhere.
#![expect(clippy::single_range_in_vec_init, reason = "one range of marks")]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use qbm_core::descriptor::{Doubt, Durability};
use qbm_core::image::{self, BitmapAction, CreateOptions, OpenOptions};
use qbm_core::{Access, Buffer, Directory, Granularity, Image, Persist, Result, Storage};
use qbm_sim::{Disk, Medium, SimDirectory, SimHost, run};

const GRANULES: u64 = 40_003;
const GRANULE: u64 = 512;

/// A closed image with the bitmap `b`.
fn image() -> Medium {
    let disk = Disk::new(Medium::new(), 0);
    run(&disk, 0, async {
        let size = GRANULES * GRANULE;
        let durability = Durability::Exact;
        let options = CreateOptions { file: "d.raw".to_owned(), data: None, size, durability };
        image::create(&SimDirectory::new(&disk), "i.qbm", options, &host()).await.unwrap();
        let image = open(&disk, "i.qbm", Access::Write).await.unwrap();
        let (name, granularity) = ("b".to_owned(), Granularity::MIN);
        let add = BitmapAction::Add { name, granularity, disabled: false };
        image.transaction(&[add]).await.unwrap();
        image.close().await.unwrap();
    });
    disk.snapshot()
}

/// A process of its own: no two make the same ids.
fn host() -> SimHost {
    static PROCESSES: AtomicU64 = AtomicU64::new(0);
    SimHost::new(PROCESSES.fetch_add(1, Ordering::Relaxed))
}

async fn open(disk: &Disk, name: &str, access: Access) -> Result<Image<SimDirectory>> {
    Image::open(SimDirectory::new(disk), name, OpenOptions::new(access), Arc::new(host())).await
}

async fn write(image: &Image<SimDirectory>, granule: u64) {
    let buffer = Buffer::from_slice(&[1; 512]);
    image.write(granule * GRANULE, buffer, Persist::Later).await.unwrap();
}

/// The doubt of the bitmap, and its marks.
async fn bitmap(disk: &Disk) -> (Option<Doubt>, u64) {
    let image = open(disk, "i.qbm", Access::Read).await.unwrap();
    let info = image.bitmaps().await.remove(0);
    (info.doubt, info.marked)
}

#[test]
fn data_cut_while_it_is_open_is_not_closed_and_makes_the_bitmap_doubtful() {
    let disk = Disk::new(image(), 1);
    run(&disk, 1, async {
        let image = open(&disk, "i.qbm", Access::Write).await.unwrap();
        let stranger = SimDirectory::new(&disk).open("d.raw", Access::Write).await.unwrap();
        stranger.set_len(10 * GRANULE).await.unwrap();
        let read = image.read(50 * GRANULE, Buffer::zeroed(512)).await.unwrap();
        assert!(read.iter().all(|byte| *byte == 0));
        let error = image.close().await.unwrap_err();
        assert_eq!(error.to_string(), "d.raw: somebody has cut it while it was open");
        drop(stranger);
        assert_eq!(bitmap(&disk).await, (Some(Doubt::DataChanged), 10));
    });
}

/// What the bitmap holds after a stranger cut its file to nothing and `then` was done.
fn marked_after_a_cut(
    then: impl AsyncFnOnce(Image<SimDirectory>),
) -> (Option<Doubt>, Vec<Range<u64>>) {
    let medium = image();
    let file = medium.names().find(|name| name.ends_with(".bits")).unwrap().to_owned();
    let disk = Disk::new(medium, 2);
    run(&disk, 2, async {
        let image = open(&disk, "i.qbm", Access::Write).await.unwrap();
        write(&image, 3).await;
        let stranger = SimDirectory::new(&disk).open(&file, Access::Write).await.unwrap();
        stranger.set_len(0).await.unwrap();
        then(image).await;
        drop(stranger);
        let image = open(&disk, "i.qbm", Access::Read).await.unwrap();
        let doubt = image.bitmaps().await[0].doubt;
        (doubt, image.bitmap_bits("b").await.unwrap().areas().collect())
    })
}

#[test]
fn a_bitmap_cut_while_it_is_open_goes_on_in_a_new_file_with_all_its_marks() {
    let two = vec![3..4, 35_000..35_001];
    let (doubt, dirty) = marked_after_a_cut(async |image| {
        write(&image, 35_000).await;
        image.close().await.unwrap();
    });
    assert_eq!((doubt, dirty), (None, two.clone()));
    // A crash after the write that found it.
    let (doubt, dirty) = marked_after_a_cut(async |image| write(&image, 35_000).await);
    assert_eq!((doubt, dirty), (None, two));
}

#[test]
fn a_bitmap_cut_while_it_is_open_keeps_its_marks_where_only_the_close_finds_it() {
    let (doubt, dirty) = marked_after_a_cut(async |image| image.close().await.unwrap());
    assert_eq!((doubt, dirty), (None, vec![3..4]));
}

#[test]
fn a_bitmap_cut_while_it_is_open_counts_as_marked_where_nothing_found_it() {
    let (doubt, dirty) = marked_after_a_cut(async |image| drop(image));
    assert_eq!((doubt, dirty), (Some(Doubt::SegmentTooShort), vec![0..GRANULES]));
}

/// Wherever the name of a bitmap's file leads by then, a close puts all marks into a new one.
#[test]
fn a_bitmap_replaced_while_it_is_open_goes_on_in_a_new_file() {
    let medium = image();
    let file = medium.names().find(|name| name.ends_with(".bits")).unwrap().to_owned();
    let length = GRANULES.div_ceil(8);
    for damage in ["replace", "remove"] {
        let disk = Disk::new(medium.clone(), 6);
        run(&disk, 6, async {
            let image = open(&disk, "i.qbm", Access::Write).await.unwrap();
            write(&image, 3).await;
            write(&image, 30_000).await;
            let directory = SimDirectory::new(&disk);
            if damage == "replace" {
                let other = directory.create("other").await.unwrap();
                other.set_len(length).await.unwrap();
                directory.rename("other", &file).await.unwrap();
            } else {
                directory.remove(&file).await.unwrap();
            }
            image.close().await.unwrap();
            assert_eq!(bitmap(&disk).await, (None, 2), "{damage}");
            assert!(!disk.snapshot().names().any(|name| name == file), "{damage}");
        });
    }
}

#[test]
fn data_replaced_while_it_is_open_makes_the_bitmap_doubtful() {
    let disk = Disk::new(image(), 3);
    run(&disk, 3, async {
        let directory = SimDirectory::new(&disk);
        let image = open(&disk, "i.qbm", Access::Write).await.unwrap();
        let other = directory.create("other").await.unwrap();
        other.set_len(GRANULES * GRANULE).await.unwrap();
        directory.rename("other", "d.raw").await.unwrap();
        write(&image, 3).await;
        image.close().await.unwrap();
        assert_eq!(bitmap(&disk).await, (Some(Doubt::DataChanged), GRANULES));
    });
}

#[test]
fn an_image_that_is_behind_itself_is_refused() {
    let disk = Disk::new(image(), 4);
    run(&disk, 4, async {
        let directory = SimDirectory::new(&disk);
        let durability = Durability::Exact;
        let size = GRANULES * GRANULE;
        let options = CreateOptions { file: "e.raw".to_owned(), data: None, size, durability };
        image::create(&directory, "j.qbm", options, &host()).await.unwrap();
        for name in ["i.bits", "j.bits"] {
            let file = directory.create(name).await.unwrap();
            file.set_len(GRANULES.div_ceil(8)).await.unwrap();
        }
    });
    let behind = |data: &str, bits: &str, backing: &str| {
        format!(
            r#"{{"QBM": {{"version": 1, "image": {{"file": "{data}", "format": "raw"}}, "bitmaps": {{
            "a": {{"file": "{bits}", "granularity-bytes": 512, "type": "allocation",
                  "backing": {{"file": "{backing}", "format": "qbm"}}}}}}}}}}"#
        )
    };
    for (of_i, of_j, last) in
        [("i.qbm", "i.qbm", "i"), ("j.qbm", "i.qbm", "i"), ("j.qbm", "j.qbm", "j")]
    {
        let mut medium = disk.snapshot();
        medium.corrupt("i.qbm", |text| *text = behind("d.raw", "i.bits", of_i).into_bytes());
        medium.corrupt("j.qbm", |text| *text = behind("e.raw", "j.bits", of_j).into_bytes());
        let disk = Disk::new(medium, 5);
        run(&disk, 5, async {
            let error = open(&disk, "i.qbm", Access::Read).await.unwrap_err();
            let text = format!("{last}.qbm: it stands for two things in this image, or behind it");
            assert_eq!(error.to_string(), text);
        });
    }
}
