//! P5: what is wrong with an image's files is found when it is opened, named, and never trusted.

use std::sync::Arc;

use qbm_core::descriptor::{Doubt, Durability};
use qbm_core::image::{self, BitmapAction, CreateOptions, OpenOptions};
use qbm_core::{Access, Buffer, Error, Granularity, Host, Image, Persist, Result};
use qbm_sim::{Disk, Medium, SimDirectory, SimHost, run};

/// Granules of the disk; the last byte of a bitmap file has tail bits.
const GRANULES: u64 = 40_003;
const GRANULE: u64 = 512;

fn host() -> Arc<dyn Host> {
    Arc::new(SimHost::new(7))
}

/// A cleanly closed image with the bitmap `b`, in which granules 1 and 40,000 are marked.
fn image() -> Medium {
    image_with(Durability::Exact, true)
}

fn image_with(durability: Durability, clean: bool) -> Medium {
    let disk = Disk::new(Medium::new(), 0);
    run(&disk, 0, async {
        let directory = SimDirectory::new(&disk);
        let size = GRANULES * GRANULE;
        let options = CreateOptions { file: "d.raw".to_owned(), data: None, size, durability };
        image::create(&directory, "i.qbm", options, &*host()).await.unwrap();
        let image = open(&disk, Access::Write).await.unwrap();
        let (name, granularity) = ("b".to_owned(), Granularity::MIN);
        let add = BitmapAction::Add { name, granularity, disabled: false };
        image.transaction(&[add]).await.unwrap();
        for granule in [1, 40_000] {
            let buffer = Buffer::from_slice(&[7; 512]);
            image.write(granule * GRANULE, buffer, Persist::Later).await.unwrap();
        }
        image.flush().await.unwrap();
        if clean {
            image.close().await.unwrap();
        }
    });
    disk.snapshot()
}

async fn open(disk: &Disk, access: Access) -> Result<Image<SimDirectory>> {
    let options = OpenOptions::new(access);
    Image::open(SimDirectory::new(disk), "i.qbm", options, host()).await
}

fn bitmap_file(medium: &Medium) -> String {
    medium.names().find(|name| name.ends_with(".bits")).unwrap().to_owned()
}

/// What an open says of the bitmap: its doubt, and its marks.
fn opened(medium: &Medium, access: Access) -> (Option<Doubt>, u64) {
    let disk = Disk::new(medium.clone(), 1);
    run(&disk, 1, async {
        let image = open(&disk, access).await.unwrap();
        let info = image.bitmaps().await.remove(0);
        (info.doubt, info.marked)
    })
}

/// Damages the bitmap's file; it must then be doubted for `doubt`, with `marked` granules, and the
/// disk must be of use all the same: written, closed, and doubted no less when opened again.
fn damaged_bitmap(damage: impl Fn(&mut Vec<u8>), doubt: Doubt, marked: u64) {
    let mut medium = image();
    medium.corrupt(&bitmap_file(&medium), damage);
    assert_eq!(opened(&medium, Access::Read), (Some(doubt), marked));
    let disk = Disk::new(medium, 2);
    run(&disk, 2, async {
        let image = open(&disk, Access::Write).await.unwrap();
        let buffer = Buffer::from_slice(&[1; 512]);
        image.write(5 * GRANULE, buffer, Persist::Later).await.unwrap();
        image.close().await.unwrap();
    });
    let (again, now_marked) = opened(&disk.snapshot(), Access::Read);
    assert_eq!(again, Some(doubt), "the reason stays until a backup has stored it");
    assert!(now_marked >= marked);
}

#[test]
fn an_undamaged_bitmap_is_not_doubted() {
    assert_eq!(opened(&image(), Access::Read), (None, 2));
    assert_eq!(opened(&image(), Access::Write), (None, 2));
}

#[test]
fn a_bitmap_that_is_too_short_counts_as_marked_where_it_ends() {
    // One byte stands for granules 40,000 to 40,002; granule 1 is still there.
    let mut medium = image();
    medium.remove(&seal_file(&medium));
    medium.corrupt(&bitmap_file(&medium), |bytes| bytes.truncate(5000));
    assert_eq!(opened(&medium, Access::Read), (Some(Doubt::SegmentTooShort), 4));
    // By its seal, all of the page that was cut is not what it was.
    damaged_bitmap(|bytes| bytes.truncate(5000), Doubt::SegmentTooShort, 1 + GRANULES - 32_768);
    damaged_bitmap(Vec::clear, Doubt::SegmentTooShort, GRANULES);
}

#[test]
fn a_longer_bitmap_is_accepted_if_the_rest_is_zero() {
    let mut medium = image();
    medium.corrupt(&bitmap_file(&medium), |bytes| bytes.resize(bytes.len() + 100_000, 0));
    assert_eq!(opened(&medium, Access::Read), (None, 2));
}

#[test]
fn marks_past_the_end_of_the_disk_make_the_bitmap_doubtful() {
    damaged_bitmap(|bytes| bytes.push(1), Doubt::SegmentExcess, GRANULES);
    damaged_bitmap(|bytes| *bytes.last_mut().unwrap() |= 0x80, Doubt::SegmentExcess, GRANULES);
}

#[test]
fn an_unreadable_page_counts_as_marked_and_the_others_do_not() {
    let mut medium = image();
    medium.make_unreadable(&bitmap_file(&medium), 4096, 512);
    let second_page = GRANULES - 32_768;
    assert_eq!(opened(&medium, Access::Read), (Some(Doubt::SegmentUnreadable), 1 + second_page));
}

#[test]
fn a_bitmap_whose_file_is_gone_counts_as_marked() {
    let mut medium = image();
    medium.remove(&bitmap_file(&medium));
    assert_eq!(opened(&medium, Access::Write), (Some(Doubt::SegmentMissing), GRANULES));
}

#[test]
fn a_data_image_changed_behind_our_back_makes_every_bitmap_doubtful() {
    let mut medium = image();
    medium.corrupt("d.raw", |bytes| bytes[100] = 9);
    assert_eq!(opened(&medium, Access::Read), (Some(Doubt::DataChanged), GRANULES));
    assert_eq!(opened(&medium, Access::Write), (Some(Doubt::DataChanged), GRANULES));
}

#[test]
fn a_data_image_cut_short_behind_our_back_makes_every_bitmap_doubtful() {
    let mut medium = image();
    medium.corrupt("d.raw", |bytes| bytes.truncate(512 * 100));
    let (doubt, marked) = opened(&medium, Access::Write);
    assert!(matches!(doubt, Some(Doubt::DataChanged | Doubt::SegmentExcess)), "{doubt:?}");
    assert_eq!(marked, 100);
}

#[test]
fn contents_of_the_data_image_are_never_looked_at() {
    let descriptor = image().read("i.qbm").unwrap().to_vec();
    for start in [descriptor.as_slice(), b"QFI\xfb\0\0\0\x03"] {
        let disk = Disk::new(image(), 3);
        run(&disk, 3, async {
            let image = open(&disk, Access::Write).await.unwrap();
            image.write(0, Buffer::from_slice(start), Persist::Later).await.unwrap();
            image.close().await.unwrap();
            let image = open(&disk, Access::Read).await.unwrap();
            let back = image.read(0, Buffer::zeroed(start.len())).await.unwrap();
            assert_eq!(&*back, start);
        });
    }
}

#[test]
fn under_durability_close_a_crash_marks_everything_and_a_close_nothing() {
    assert_eq!(opened(&image_with(Durability::Close, true), Access::Read), (None, 2));
    let crashed = image_with(Durability::Close, false);
    assert_eq!(opened(&crashed, Access::Write), (Some(Doubt::NotStored), GRANULES));
}

#[test]
fn one_file_for_two_things_is_refused() {
    let mut medium = image();
    let bitmap = bitmap_file(&medium);
    medium.corrupt("i.qbm", |text| {
        *text = String::from_utf8(text.clone()).unwrap().replace(&bitmap, "d.raw").into_bytes();
    });
    let disk = Disk::new(medium, 4);
    let error = run(&disk, 4, open(&disk, Access::Read)).unwrap_err();
    let text =
        "i.qbm:10:25: QBM.bitmaps.b.file: \"d.raw\" is named before, and a file has one use only";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_bitmap_of_more_granules_than_we_handle_is_refused_before_memory_is_taken() {
    let disk = Disk::new(image(), 5);
    run(&disk, 5, async {
        let image = open(&disk, Access::Write).await.unwrap();
        let error = image.resize(1 << 43).await.unwrap_err();
        assert!(matches!(error, Error::TooManyGranules { .. }), "{error}");
        assert_eq!(image.size(), GRANULES * GRANULE, "nothing was changed");
        image.close().await.unwrap();
    });
}

#[test]
fn a_second_opener_is_refused_and_changes_nothing() {
    let disk = Disk::new(image(), 6);
    run(&disk, 6, async {
        let first = open(&disk, Access::Write).await.unwrap();
        let before = disk.snapshot().read("i.qbm").unwrap().to_vec();
        for access in [Access::Read, Access::Write] {
            let error = open(&disk, access).await.unwrap_err();
            let Error::Io { action, error, .. } = error else { panic!("{error}") };
            assert_eq!((action, error.kind()), ("lock", std::io::ErrorKind::ResourceBusy));
        }
        assert_eq!(disk.snapshot().read("i.qbm").unwrap(), before);
        first.close().await.unwrap();
    });
}

#[test]
fn requests_past_the_end_are_refused_and_mark_nothing() {
    let disk = Disk::new(image(), 7);
    run(&disk, 7, async {
        let image = open(&disk, Access::Write).await.unwrap();
        let end = GRANULES * GRANULE;
        for (offset, length) in [(end, 1), (end - 1, 2), (u64::MAX, 1), (u64::MAX - 1, 4)] {
            let buffer = Buffer::zeroed(length);
            let error = image.write(offset, buffer, Persist::Later).await.unwrap_err();
            assert!(matches!(error, Error::OutOfRange { .. }), "{error}");
            image.read(offset, Buffer::zeroed(length)).await.unwrap_err();
        }
        image.write(end, Buffer::zeroed(0), Persist::Later).await.unwrap();
        assert_eq!(image.bitmaps().await[0].marked, 2);
        image.close().await.unwrap();
    });
}

#[test]
fn a_closed_image_is_plain_version_1() {
    let medium = image();
    let text = String::from_utf8(medium.read("i.qbm").unwrap().to_vec()).unwrap();
    assert!(!text.contains("ext-hard-"), "{text}");
    // The data is what any program would have written, and the bitmap is its bits alone.
    let mut data = vec![0; usize::try_from(GRANULES * GRANULE).unwrap()];
    data[512..1024].fill(7);
    data[40_000 * 512..40_001 * 512].fill(7);
    assert!(medium.read("d.raw").unwrap() == data);
    let mut bits = vec![0; 5001];
    (bits[0], bits[5000]) = (1 << 1, 1);
    assert!(medium.read(&bitmap_file(&medium)).unwrap() == bits);
}

fn seal_file(medium: &Medium) -> String {
    medium.names().find(|name| name.ends_with(".seal")).unwrap().to_owned()
}

#[test]
fn a_bit_that_rotted_in_a_bitmap_marks_its_page() {
    // The mark of granule 1 is gone, and one of granule 32,800 came.
    damaged_bitmap(|bytes| bytes[0] = 0, Doubt::SegmentDamaged, 32_769);
    damaged_bitmap(|bytes| bytes[4100] |= 1, Doubt::SegmentDamaged, 1 + GRANULES - 32_768);
}

#[test]
fn a_damaged_seal_makes_the_bitmap_doubtful_and_one_that_is_gone_is_none() {
    let sealed = image();
    let name = seal_file(&sealed);
    let length = sealed.read(&name).unwrap().len();
    let damaged = |what: &str, damage: &dyn Fn(&mut Medium)| {
        let mut medium = sealed.clone();
        damage(&mut medium);
        assert_eq!(opened(&medium, Access::Read), (Some(Doubt::SealDamaged), GRANULES), "{what}");
        assert_eq!(opened(&medium, Access::Write), (Some(Doubt::SealDamaged), GRANULES), "{what}");
    };
    for place in 0..length {
        damaged("a bit", &|medium| medium.corrupt(&name, |seal| seal[place] ^= 1 << (place % 8)));
        damaged("cut", &|medium| medium.corrupt(&name, |seal| seal.truncate(place)));
        damaged("torn", &|medium| medium.corrupt(&name, |seal| seal[place..].fill(0)));
    }
    damaged("unreadable", &|medium| medium.make_unreadable(&name, 0, 1));
    damaged("longer", &|medium| medium.corrupt(&name, |seal| seal.extend([0; 4])));
    let mut medium = sealed.clone();
    medium.remove(&name);
    assert_eq!(opened(&medium, Access::Read), (None, 2), "without it the bitmap is plain");
}

#[test]
fn the_seal_of_another_file_or_state_does_not_fit() {
    let sealed = image();
    let bits = bitmap_file(&sealed);
    let edit = |medium: &mut Medium, from: &str, to: &str| {
        medium.corrupt("i.qbm", |text| {
            let changed = String::from_utf8(text.clone()).unwrap().replace(from, to);
            assert_ne!(changed.as_bytes(), text, "{from}");
            *text = changed.into();
        });
    };
    let mut medium = sealed.clone();
    edit(&mut medium, &bits, "another.bits");
    medium.put("another.bits", medium.read(&bits).unwrap().to_vec());
    assert_eq!(opened(&medium, Access::Read), (Some(Doubt::SealDamaged), GRANULES));
    let mut medium = sealed.clone();
    edit(&mut medium, "generation\": 1", "generation\": 2");
    assert_eq!(opened(&medium, Access::Read), (Some(Doubt::SealDamaged), GRANULES));
    // The descriptor itself says that it is one of before, as after an open by a program that knows
    // no seals.
    let mut medium = sealed;
    edit(&mut medium, "ext-soft-generation\": 1", "ext-soft-generation\": 2");
    medium.corrupt(&bits, |bytes| bytes[0] = 0);
    assert_eq!(opened(&medium, Access::Read), (None, 1));
}

#[test]
fn a_seal_goes_with_the_next_open_and_comes_with_the_next_close() {
    let sealed = image();
    let disk = Disk::new(sealed.clone(), 3);
    run(&disk, 3, async {
        let image = open(&disk, Access::Write).await.unwrap();
        assert!(!disk.snapshot().names().any(|name| name.ends_with(".seal")));
        image.close().await.unwrap();
    });
    assert_ne!(seal_file(&disk.snapshot()), seal_file(&sealed));
}
