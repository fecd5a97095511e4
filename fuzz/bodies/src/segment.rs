//! A bitmap file with any bytes is read as what it says, and doubted where it cannot be right.

use futures_executor::block_on;
use qbm_core::descriptor::Doubt;
use qbm_core::{Access, Buffer, Persist};
use qbm_sim::{Disk, Medium};

use crate::directory::{file, open};
use crate::input::Input;

const GRANULE: u64 = 512;
/// The most granules of a disk that is written to.
const FEW: u64 = 100;
/// The most of one that is only read: more than a page of a bitmap.
const MANY: u64 = 40_000;

const DESCRIPTOR: &str = r#"{"QBM": {"version": 1, "image": {"file": "d", "format": "raw"}, "bitmaps":
    {"b": {"file": "b", "granularity-bytes": 512, "type": "dirty"}}}}"#;

/// Opens an image whose bitmap has the bytes as its file.
///
/// # Panics
///
/// If it is not read as it should be, or loses a mark when it is written to, closed and opened.
pub fn segment(bytes: &[u8]) {
    let mut input = Input(bytes);
    // Most are small and only read, which is many times as fast.
    let (few, written) = match input.byte().unwrap_or(0) % 64 {
        0 => (false, false),
        choice => (true, choice < 16),
    };
    let granules = 1 + input.at_most(if few { FEW } else { MANY } - 1);
    let unreadable = match input.byte() {
        Some(0) => Some(input.at_most(MANY / 8)),
        _ => None,
    };
    let bits = file(&mut input);
    let mut medium = Medium::new();
    medium.put("i", DESCRIPTOR.into());
    let size = usize::try_from(granules * GRANULE - input.at_most(GRANULE - 1));
    medium.put("d", vec![0; size.expect("a small disk")]);
    medium.put("b", bits.clone());
    if let Some(offset) = unreadable {
        medium.make_unreadable("b", offset, 1);
    }
    let expected = Expected::of(&bits, granules);
    let disk = Disk::immediate(medium, 0);
    match unreadable.filter(|offset| *offset < bits.len() as u64) {
        None => assert_eq!(read(&disk), Ok((expected.doubt, expected.marked.clone()))),
        // It may lie in a hole, or past the end of what the disk needs, where the open may fail.
        Some(_) => {
            if let Ok((doubt, marked)) = read(&disk) {
                assert!(covers(&marked, &expected.marked), "{doubt:?}");
                assert!(doubt.is_some() || marked == expected.marked);
            }
            return;
        }
    }
    if written {
        survives(&disk, expected, input.at_most(granules - 1));
    }
}

/// What a file says of a disk.
struct Expected {
    doubt: Option<Doubt>,
    marked: Vec<bool>,
}

impl Expected {
    fn of(bits: &[u8], granules: u64) -> Self {
        let bit = |bit: u64| {
            let byte = bits.get(usize::try_from(bit / 8).expect("a small file"));
            byte.map(|byte| byte >> (bit % 8) & 1 == 1)
        };
        let excess = (granules..8 * bits.len() as u64).any(|past| bit(past) == Some(true));
        let doubt = match (excess, (bits.len() as u64) < granules.div_ceil(8)) {
            (true, _) => Some(Doubt::SegmentExcess),
            (false, true) => Some(Doubt::SegmentTooShort),
            (false, false) => None,
        };
        let marked = (0..granules).map(|granule| excess || bit(granule).unwrap_or(true));
        Self { doubt, marked: marked.collect() }
    }
}

/// The doubt of the bitmap, and its marks.
fn read(disk: &Disk) -> Result<(Option<Doubt>, Vec<bool>), String> {
    let image = open(disk, "i", Access::Read).map_err(|error| error.to_string())?;
    let doubt = block_on(image.bitmaps())[0].doubt;
    let bits = block_on(image.bitmap_bits("b")).expect("it has this bitmap");
    Ok((doubt, (0..bits.len()).map(|granule| bits.get(granule)).collect()))
}

fn covers(marked: &[bool], expected: &[bool]) -> bool {
    marked.iter().zip(expected).all(|(marked, expected)| marked >= expected)
}

/// A write to `granule` adds its mark, and no mark or doubt goes.
fn survives(disk: &Disk, mut expected: Expected, granule: u64) {
    let image = open(disk, "i", Access::Write).expect("it was opened for reading");
    let write = image.write(granule * GRANULE, Buffer::from_slice(&[1]), Persist::Later);
    block_on(write).expect("no error is injected");
    block_on(image.close()).expect("no error is injected");
    expected.marked[usize::try_from(granule).expect("a small disk")] = true;
    assert_eq!(read(disk), Ok((expected.doubt, expected.marked)), "after a write to {granule}");
}
