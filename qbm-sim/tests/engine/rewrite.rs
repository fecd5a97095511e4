//! What a rewrite of the descriptor keeps, and that it never grows too long to be written.

use std::sync::Arc;

use qbm_core::descriptor::{Durability, MAX_DESCRIPTOR_BYTES};
use qbm_core::image::{self, BitmapAction, CreateOptions, OpenOptions, Persistence};
use qbm_core::{Access, Error, Granularity, Image, Result};
use qbm_sim::{Disk, Medium, SimDirectory, SimHost, run};

/// The longest descriptor that may be opened for writing.
const MOST: usize = MAX_DESCRIPTOR_BYTES - MAX_DESCRIPTOR_BYTES / 8;

/// A closed image with the bitmap `b`, whose descriptor has `extra` in place of `marker`.
fn image(marker: &str, extra: &str) -> Medium {
    let disk = Disk::new(Medium::new(), 0);
    run(&disk, 0, async {
        let directory = SimDirectory::new(&disk);
        let options = CreateOptions {
            file: "d.raw".to_owned(),
            data: None,
            size: 1 << 20,
            durability: Durability::Exact,
        };
        image::create(&directory, "i.qbm", options, &SimHost::new(7)).await.unwrap();
        let (access, host) = (OpenOptions::new(Access::Write), Arc::new(SimHost::new(7)));
        let image = Image::open(directory, "i.qbm", access, host).await.unwrap();
        image.transaction(&[add("b")]).await.unwrap();
        image.close().await.unwrap();
    });
    let mut medium = disk.snapshot();
    medium.corrupt("i.qbm", |bytes| {
        let text = std::str::from_utf8(bytes).unwrap();
        assert!(text.contains(marker), "{text}");
        *bytes = text.replacen(marker, extra, 1).into_bytes();
    });
    medium
}

/// An image whose descriptor has `length` bytes, most of them in a member that is not known.
fn image_with_descriptor_of(length: usize) -> Medium {
    let with = |padding: usize| {
        let member = format!("\"ext-soft-x\": \"{}\",\n        \"version\"", "x".repeat(padding));
        image("\"version\"", &member)
    };
    let padding = length - descriptor(&with(0)).len();
    let medium = with(padding);
    assert_eq!(descriptor(&medium).len(), length);
    medium
}

fn descriptor(medium: &Medium) -> &str {
    std::str::from_utf8(medium.read("i.qbm").unwrap()).unwrap()
}

fn add(name: &str) -> BitmapAction {
    BitmapAction::Add { name: name.to_owned(), granularity: Granularity::MIN, disabled: false }
}

async fn open(disk: &Disk, access: Access) -> Result<Image<SimDirectory>> {
    // Another host than that of `image`, whose ids are taken.
    let (directory, host) = (SimDirectory::new(disk), Arc::new(SimHost::new(8)));
    Image::open(directory, "i.qbm", OpenOptions::new(access), host).await
}

fn assert_too_long(error: &Error, length: usize) {
    let text = format!(
        "i.qbm: its descriptor would have {length} bytes, and to be written to, at most {MOST} are possible"
    );
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_bitmap_added_again_has_nothing_of_the_one_removed() {
    let medium = image("\"b\": {", "\"b\": { \"ext-soft-owner\": 7, ");
    let disk = Disk::new(medium, 1);
    run(&disk, 1, async {
        let image = open(&disk, Access::Write).await.unwrap();
        assert!(descriptor(&disk.snapshot()).contains("ext-soft-owner"), "kept by a rewrite");
        let remove = BitmapAction::Remove("b".to_owned());
        image.transaction(&[remove]).await.unwrap();
        image.transaction(&[add("b")]).await.unwrap();
        image.close().await.unwrap();
    });
    assert_has_nothing_of_the_owner(&disk);
}

#[test]
fn nor_if_both_is_one_transaction() {
    let medium = image("\"b\": {", "\"b\": { \"ext-soft-owner\": 7, ");
    let disk = Disk::new(medium, 5);
    run(&disk, 5, async {
        let image = open(&disk, Access::Write).await.unwrap();
        let remove = || BitmapAction::Remove("b".to_owned());
        let refused = [remove(), BitmapAction::Remove("missing".to_owned())];
        image.transaction(&refused).await.unwrap_err();
        assert!(descriptor(&disk.snapshot()).contains("ext-soft-owner"), "nothing was removed");
        image.transaction(&[remove(), add("b")]).await.unwrap();
        assert_has_nothing_of_the_owner(&disk);
        image.close().await.unwrap();
    });
    assert_has_nothing_of_the_owner(&disk);
}

#[test]
fn nor_has_one_that_was_in_memory_in_between() {
    let medium = image("\"b\": {", "\"b\": { \"ext-soft-owner\": 7, ");
    let disk = Disk::new(medium, 6);
    run(&disk, 6, async {
        let image = open(&disk, Access::Write).await.unwrap();
        let made = |persistence| BitmapAction::SetPersistence { name: "b".to_owned(), persistence };
        let there_and_back = [made(Persistence::InMemory), made(Persistence::Persistent)];
        image.transaction(&there_and_back).await.unwrap();
        image.close().await.unwrap();
    });
    assert_has_nothing_of_the_owner(&disk);
}

fn assert_has_nothing_of_the_owner(disk: &Disk) {
    let medium = disk.snapshot();
    let text = descriptor(&medium);
    assert!(text.contains("\"b\"") && !text.contains("ext-soft-owner"), "{text}");
}

#[test]
fn a_descriptor_that_leaves_no_room_is_read_but_not_written() {
    let medium = image_with_descriptor_of(MOST + 1);
    let disk = Disk::new(medium.clone(), 2);
    run(&disk, 2, async {
        open(&disk, Access::Read).await.unwrap();
        assert_too_long(&open(&disk, Access::Write).await.unwrap_err(), MOST + 1);
    });
    let after = disk.snapshot();
    assert!(after.names().eq(medium.names()), "no file came or went");
    assert!(medium.names().all(|name| after.read(name) == medium.read(name)), "none changed");
}

#[test]
fn a_compact_descriptor_is_measured_as_it_would_be_written() {
    let nulls = "null,".repeat(1000);
    let members = (0..1000).map(|index| format!("\"ext-soft-{index}\":[{nulls}0],"));
    let members: String = members.take(185).collect();
    let medium = image("\"version\"", &format!("{members}\"version\""));
    assert!((MOST..MAX_DESCRIPTOR_BYTES).contains(&descriptor(&medium).len()));
    let disk = Disk::new(medium, 3);
    run(&disk, 3, async {
        open(&disk, Access::Read).await.unwrap();
        let error = open(&disk, Access::Write).await.unwrap_err();
        assert!(error.to_string().contains("its descriptor would have"), "{error}");
    });
}

#[test]
fn no_bitmap_is_added_that_would_leave_an_image_that_cannot_be_closed() {
    let disk = Disk::new(image_with_descriptor_of(MOST), 4);
    run(&disk, 4, async {
        let image = open(&disk, Access::Write).await.unwrap();
        let files = disk.snapshot().names().count();
        let error = image.transaction(&[add("c")]).await.unwrap_err();
        assert!(error.to_string().contains("its descriptor would have"), "{error}");
        assert_eq!(disk.snapshot().names().count(), files, "its file is gone again");
        let remove = BitmapAction::Remove("b".to_owned());
        image.transaction(&[remove]).await.unwrap();
        image.close().await.unwrap();
    });
}
