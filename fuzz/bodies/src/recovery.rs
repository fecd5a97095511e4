//! Any directory is recovered to an image that can be worked with, or refused and left as it is.

use std::sync::OnceLock;

use futures_executor::block_on;
use qbm_core::descriptor::Durability;
use qbm_core::image::{self, BitmapAction, CreateOptions};
use qbm_core::{Access, Buffer, Error, Granularity, Id, Image, Persist};
use qbm_sim::{Disk, Medium, SimDirectory};

use crate::directory::{contents, damage, host, open, same};
use crate::input::Input;

const SIZE: u64 = 8800;
/// Images of any other size are only read: the damage may have made a disk large.
const LARGEST: u64 = 1 << 20;
const NAMES: &[&str] = &["x", "d.raw", "i.qbm", "i.qbm~"];

/// Damages what a crash left, opens it, works with it, and opens it again.
///
/// # Panics
///
/// If an image that was opened does not work, does not close, or does not keep what was done to it; or
/// if one that is refused is changed.
pub fn recovery(bytes: &[u8]) {
    static BEGUN: OnceLock<[Medium; 2]> = OnceLock::new();
    let begun = BEGUN.get_or_init(|| [crashed(false), crashed(true)]);
    let mut input = Input(bytes);
    let mut medium = begun[usize::from(input.byte().unwrap_or(0) % 2)].clone();
    for _ in 0..input.byte().unwrap_or(0) % 5 {
        damage(&mut medium, &mut input, NAMES);
    }
    let disk = Disk::immediate(medium.clone(), 0);
    let read = open(&disk, "i.qbm", Access::Read).map(drop);
    assert!(same(&medium, &disk.snapshot()), "an open for reading has changed something: {read:?}");
    let image = match open(&disk, "i.qbm", Access::Write) {
        Ok(image) => image,
        Err(error) => {
            assert!(same(&medium, &disk.snapshot()), "refused, and changed: {error}");
            return;
        }
    };
    if image.size() <= LARGEST {
        work(&disk, image, &mut input);
    }
}

/// What a process leaves that is killed: with two bitmaps, of which one is at a backup point; with
/// `closed`, what a clean close leaves.
fn crashed(closed: bool) -> Medium {
    let disk = Disk::immediate(Medium::new(), 1);
    let directory = SimDirectory::new(&disk);
    let options = CreateOptions {
        file: "d.raw".to_owned(),
        data: None,
        size: SIZE,
        durability: Durability::Exact,
    };
    block_on(image::create(&directory, "i.qbm", options, &*host())).expect("an empty directory");
    let image = open(&disk, "i.qbm", Access::Write).expect("it was just made");
    let add = |name: &str, granularity: u64| BitmapAction::Add {
        name: name.to_owned(),
        granularity: Granularity::from_bytes(granularity).expect("a power of two"),
        disabled: false,
    };
    block_on(image.transaction(&[add("a", 512), add("b", 2048)])).expect("new names");
    write(&image, 700, 5).expect("within the disk");
    let point = block_on(image.begin_point("a", Id(1))).expect("nobody else holds it");
    write(&image, 6000, 6).expect("within the disk");
    drop(point);
    if closed {
        block_on(image.close()).expect("no error is injected");
    }
    disk.snapshot()
}

fn write(image: &Image<SimDirectory>, offset: u64, byte: u8) -> Result<(), Error> {
    let buffer = Buffer::from_slice(&[byte; 100]);
    block_on(image.write(offset, buffer, Persist::Later)).map(drop)
}

/// Everything that a user may do works, and is there at the next open.
fn work(disk: &Disk, image: Image<SimDirectory>, input: &mut Input<'_>) {
    let before = marks(&image);
    let mut expected = contents(&image).expect("no error is injected").to_vec();
    let room = image.size().checked_sub(100);
    let offset = room.map(|room| input.at_most(room));
    if let Some(offset) = offset {
        write(&image, offset, 9).expect("within the disk");
        let at = usize::try_from(offset).expect("a small disk");
        expected[at..at + 100].fill(9);
    }
    block_on(image.close()).expect("no error is injected");

    let image = open(disk, "i.qbm", Access::Read).expect("it was closed");
    assert!(*contents(&image).expect("no error is injected") == expected, "other contents");
    assert!(block_on(image.descriptor()).in_use.is_none(), "it was closed");
    let after = marks(&image);
    assert_eq!(before.len(), after.len(), "a bitmap came or went");
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.name, after.name);
        assert_eq!(before.doubt, after.doubt, "'{}'", after.name);
        assert!(before.covered_by(after), "'{}' lost a mark", after.name);
        if let Some(offset) = offset.filter(|_| !after.disabled) {
            let granules = offset / after.granularity..(offset + 100).div_ceil(after.granularity);
            assert!(after.bits.contains(granules), "'{}' has not the write", after.name);
        }
    }
    drop(image);
    let opened = open(disk, "i.qbm", Access::Write).expect("it was closed");
    block_on(opened.close()).expect("no error is injected");
}

/// A bitmap as it was seen.
struct Marks {
    name: String,
    granularity: u64,
    disabled: bool,
    doubt: Option<&'static str>,
    bits: qbm_core::bits::Bits,
}

impl Marks {
    fn covered_by(&self, other: &Self) -> bool {
        self.bits.areas().all(|area| other.bits.contains(area))
    }
}

fn marks(image: &Image<SimDirectory>) -> Vec<Marks> {
    let marks = |info: image::BitmapInfo| Marks {
        bits: block_on(image.bitmap_bits(&info.name)).expect("it is listed"),
        granularity: info.granularity.bytes(),
        disabled: info.disabled,
        doubt: info.doubt.map(|doubt| doubt.code()),
        name: info.name,
    };
    block_on(image.bitmaps()).into_iter().map(marks).collect()
}
