//! The worked example of docs/format.md, against the code.

use qbm_core::bits::{Bits, PAGE_BYTES, TailBits};
use qbm_core::descriptor::{Descriptor, Doubt};
use qbm_core::{Id, Timestamp};

use crate::samples::{FULL, parse, text};

const SPECIFICATION: &str = include_str!("../../../docs/format.md");

/// The code blocks of the worked example that are in `language`.
fn blocks(language: &str) -> Vec<String> {
    let (_, example) = SPECIFICATION.split_once("## Worked example\n").expect("there is one");
    let parts = example.split("```").skip(1).step_by(2);
    parts
        .filter_map(|part| part.strip_prefix(&format!("{language}\n")))
        .map(str::to_owned)
        .collect()
}

/// The bytes that `dump` shows, in the form of xxd.
fn bytes_of(dump: &str) -> Vec<u8> {
    let lines = dump.lines().map(|line| {
        let (_offset, rest) = line.split_once(": ").expect("an offset");
        rest.split("  ").next().expect("hexadecimal digits").replace(' ', "")
    });
    let digits: String = lines.collect();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("two digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

#[test]
fn the_examples_are_written_as_they_stand() {
    let examples = blocks("json");
    assert_eq!(examples.len(), 2);
    for example in examples {
        assert_eq!(text(&parse(&example)), example);
    }
}

#[test]
fn the_bitmap_of_the_example_marks_what_the_text_says() {
    let descriptor = parse(&blocks("json")[0]);
    let bitmap = descriptor.bitmap("nightly").expect("it is there");
    let size = descriptor.size.expect("it is there");
    assert_eq!(size, 1 << 20);
    let file = bytes_of(&blocks("hexdump")[0]);

    let bits = Bits::new(bitmap.granularity.granules_of(size));
    assert_eq!(bits.file_len(), file.len() as u64);
    assert_ne!(bits.or_page_bytes(0, &file), TailBits::Dropped);
    let marked: Vec<u64> = (0..bits.len()).filter(|granule| bits.get(*granule)).collect();
    assert_eq!(marked, [0, 3, 15]);
    let range = bitmap.granularity.bytes_of(3..4, size);
    assert_eq!((range.start(), range.end() - 1), (196_608, 262_143));

    let written = Bits::new(bits.len());
    marked.iter().for_each(|granule| written.set(*granule..granule + 1));
    let mut page = [0; PAGE_BYTES];
    written.page_bytes(0, &mut page);
    assert_eq!(page[..file.len()], file);
}

#[test]
fn the_second_example_is_in_use_with_two_segments() {
    let descriptor = parse(&blocks("json")[1]);
    let in_use = descriptor.in_use.as_ref().expect("in use");
    assert_eq!((in_use.pid, in_use.since), (4711, Timestamp(1_767_312_000_000)));
    let segments = &descriptor.bitmap("nightly").expect("it is there").segments;
    assert_eq!(segments.len(), 2);
    assert_eq!(segments[1].point, Some(Id(0xd8b2_a1f3_e4c5_5d6e_a7f8_09ba_c1d2_e3f4)));
}

#[test]
fn the_specification_has_every_member_and_every_doubt() {
    let mut members = Vec::new();
    names(&serde_json::from_str(FULL).expect("JSON for all"), &mut members);
    for member in members {
        let is_there = [format!("`{member}`"), format!("\"{member}\"")]
            .iter()
            .any(|quoted| SPECIFICATION.contains(quoted));
        assert!(is_there, "{member} is not in docs/format.md");
    }
    for doubt in Doubt::ALL {
        let row = format!("| `{}` | {}", doubt.code(), doubt.sentence());
        assert!(SPECIFICATION.contains(&row), "{row} is not in docs/format.md");
    }
}

/// The names of all members that the format has in `value`.
fn names(value: &serde_json::Value, found: &mut Vec<String>) {
    let Some(members) = value.as_object() else {
        value.as_array().into_iter().flatten().for_each(|element| names(element, found));
        return;
    };
    let full = parse(FULL);
    for (name, member) in members {
        let unknown =
            ["ext-soft-label", "ext-soft-elsewhere", "ext-soft-made-by", "ext-soft-among-bitmaps"];
        if unknown.contains(&name.as_str()) {
            continue;
        }
        if full.bitmap(name).is_none() {
            found.push(name.clone());
        }
        names(member, found);
    }
}

#[test]
fn an_example_with_a_wrong_byte_would_be_found() {
    assert_eq!(
        bytes_of("00000000: 0980 ff                                  ...\n"),
        [9, 0x80, 0xff]
    );
    let broken = blocks("json")[0].replace("65536", "65537");
    assert!(Descriptor::parse(broken.as_bytes()).is_err());
}
