//! Whatever becomes of a bitmap file of a closed image, or of its seal, no mark of the close is lost.

use std::sync::OnceLock;

use futures_executor::block_on;
use qbm_core::descriptor::{Doubt, Durability};
use qbm_core::image::{self, BitmapAction, CreateOptions};
use qbm_core::{Access, Buffer, Granularity, Persist};
use qbm_sim::{Disk, Medium, SimDirectory};

use crate::directory::{file, host, open, overwritten, resized};
use crate::input::Input;

const GRANULE: u64 = 512;
/// The granules of a disk whose bitmap is a part of a page, and of one that has two.
const GRANULES: [u64; 2] = [101, 32_768 + 101];
/// Granules that are marked, of both pages.
const MARKED: &[u64] = &[0, 63, 64, 100, 32_767, 32_768, 32_868];
/// Granules of a page of a bitmap.
const PAGE: usize = 32_768;

/// Damages the bitmap file of a closed image, its seal or both, and opens it.
///
/// # Panics
///
/// If it does not open; if a mark is lost, also after another open and close; or if marks come to a
/// page that has not changed.
pub fn seal(bytes: &[u8]) {
    static CLOSED: OnceLock<[Medium; 2]> = OnceLock::new();
    let closed = CLOSED.get_or_init(|| GRANULES.map(closed));
    let mut input = Input(bytes);
    let choice = input.byte().unwrap_or(0);
    // Most are small, which is many times as fast.
    let sealed = &closed[usize::from(choice % 16 == 0)];
    let mut medium = sealed.clone();
    for ending in [".seal", ".bits"].iter().skip(usize::from(choice >> 6 & 1)) {
        let name = name(sealed, ending);
        let old = sealed.read(&name).expect("it is there").to_vec();
        medium.put(&name, damaged(old, &mut input));
    }
    let before = read(sealed);
    let found = read(&medium);
    assert_eq!(before.0, None, "a closed image has no doubt");
    assert!(covers(&found.1, &before.1), "a mark was lost: {:?}", found.0);
    assert!(found.0.is_some() || found.1 == before.1, "a mark came without a doubt");
    check_precision(sealed, &medium, (&before.1, &found));
    if choice % 16 == 1 {
        let disk = Disk::immediate(medium, 0);
        let image = open(&disk, "i.qbm", Access::Write).expect("it was opened for reading");
        block_on(image.close()).expect("no error is injected");
        assert_eq!(read(&disk.snapshot()), found, "after an open and a close");
    }
}

/// With a sound seal only the pages that have changed are marked.
fn check_precision(
    sealed: &Medium,
    medium: &Medium,
    (before, (doubt, found)): (&[bool], &(Option<Doubt>, Vec<bool>)),
) {
    let (seal, bits) = (name(sealed, ".seal"), name(sealed, ".bits"));
    let [old, new] = [sealed, medium].map(|medium| medium.read(&bits).expect("it is there"));
    if sealed.read(&seal) != medium.read(&seal) || old.len() != new.len() {
        return;
    }
    assert_eq!(doubt.is_some(), old != new);
    if *doubt == Some(Doubt::SegmentExcess) {
        return;
    }
    let pages = old.chunks(PAGE / 8).zip(new.chunks(PAGE / 8));
    let granules = before.chunks(PAGE).zip(found.chunks(PAGE));
    for ((old, new), (before, found)) in pages.zip(granules) {
        let right = if old == new { before == found } else { found.iter().all(|marked| *marked) };
        assert!(right, "{doubt:?}");
    }
}

/// A closed image whose disk has so many granules, of which [`MARKED`] are marked.
fn closed(granules: u64) -> Medium {
    let disk = Disk::immediate(Medium::new(), 1);
    let directory = SimDirectory::new(&disk);
    let (size, durability) = (granules * GRANULE, Durability::Exact);
    let options = CreateOptions { file: "d.raw".to_owned(), data: None, size, durability };
    block_on(image::create(&directory, "i.qbm", options, &*host())).expect("an empty directory");
    let image = open(&disk, "i.qbm", Access::Write).expect("it was just made");
    let (name, granularity) = ("b".to_owned(), Granularity::MIN);
    let add = BitmapAction::Add { name, granularity, disabled: false };
    block_on(image.transaction(&[add])).expect("a new name");
    for granule in MARKED.iter().filter(|granule| **granule < granules) {
        let write = image.write(granule * GRANULE, Buffer::from_slice(&[1]), Persist::Later);
        block_on(write).expect("within the disk");
    }
    block_on(image.close()).expect("no error is injected");
    disk.snapshot()
}

fn name(medium: &Medium, ending: &str) -> String {
    medium.names().find(|name| name.ends_with(ending)).expect("it is there").to_owned()
}

/// Other bytes, or the same ones.
fn damaged(old: Vec<u8>, input: &mut Input<'_>) -> Vec<u8> {
    match input.byte().unwrap_or(0) % 4 {
        0 => old,
        1 => file(input),
        2 => resized(old, input),
        _ => overwritten(old, input),
    }
}

/// The doubt of the bitmap, and its marks.
fn read(medium: &Medium) -> (Option<Doubt>, Vec<bool>) {
    let disk = Disk::immediate(medium.clone(), 0);
    let image = open(&disk, "i.qbm", Access::Read).expect("a bitmap keeps no disk from being read");
    let doubt = block_on(image.bitmaps())[0].doubt;
    let bits = block_on(image.bitmap_bits("b")).expect("it has this bitmap");
    (doubt, (0..bits.len()).map(|granule| bits.get(granule)).collect())
}

fn covers(marked: &[bool], expected: &[bool]) -> bool {
    marked.iter().zip(expected).all(|(marked, expected)| marked >= expected)
}
