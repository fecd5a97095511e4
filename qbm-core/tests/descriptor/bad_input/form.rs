//! Texts that are no JSON as the format wants it, too long, or too deep.

use qbm_core::descriptor::{Descriptor, MAX_DESCRIPTOR_BYTES};

use super::{BASE, Case, case, plus, with};

pub(super) fn cases() -> Vec<Case> {
    [texts(), sizes()].into_iter().flatten().collect()
}

/// The text as such.
fn texts() -> Vec<Case> {
    let utf16: Vec<u8> = BASE.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut utf16_with_mark = vec![0xff, 0xfe];
    utf16_with_mark.extend_from_slice(&utf16);
    let invalid = BASE.replace("disk.raw", "d\u{e9}").into_bytes();
    let invalid: Vec<u8> = invalid.into_iter().filter(|byte| *byte != 0xa9).collect();
    vec![
        case(1, "", "1:1: expected a value, found the end of the text"),
        case(2, " \n\t\r\n  ", "3:3: expected a value, found the end of the text"),
        case(4, format!("\u{feff}{BASE}"), "1:1: begins with a byte order mark"),
        case(5, utf16_with_mark, "1:1: is not UTF-8"),
        case(5, utf16, "1:2: expected a member's name in quotes, found '\\0'"),
        case(6, invalid, "2:22: is not UTF-8"),
        case(
            7,
            with("disk.raw", r"d\ud800.raw"),
            "2:22: QBM.image.file: the escape is half of a surrogate pair",
        ),
        case(
            7,
            with("disk.raw", r"d\udc00\ud800"),
            "2:22: QBM.image.file: the escape is half of a surrogate pair",
        ),
        case(
            7,
            with("disk.raw", r"d\ud800\u0041"),
            "2:22: QBM.image.file: the escape is half of a surrogate pair",
        ),
        case(
            7,
            with("disk.raw", r"d\u12"),
            "2:22: QBM.image.file: \\u needs four hexadecimal digits",
        ),
        case(23, format!("{BASE}{BASE}"), "7:1: expected the end of the text, found '{'"),
        case(23, format!("{BASE},"), "7:1: expected the end of the text, found ','"),
        case(23, format!("{BASE}\0"), "7:1: expected the end of the text, found '\\0'"),
        case(
            24,
            with("\"bitmaps\"", "// the bitmaps\n \"bitmaps\""),
            "3:2: QBM: expected a member's name in quotes, found '/'",
        ),
        case(24, format!("/* QBM */ {BASE}"), "1:1: expected a value, found '/'"),
        case(
            24,
            with("\"raw\"}", "\"raw\",}"),
            "2:48: QBM.image: expected a member's name in quotes, found '}'",
        ),
        case(
            24,
            with("\"disk.raw\"", "'disk.raw'"),
            "2:20: QBM.image.file: expected a value, found '\\''",
        ),
        case(
            24,
            with("\"version\": 1", "version: 1"),
            "1:10: QBM: expected a member's name in quotes, found 'v'",
        ),
        case(
            24,
            with("65536", "NaN"),
            "4:48: QBM.bitmaps.b.granularity-bytes: expected a value, found 'N'",
        ),
        case(
            24,
            with("disk.raw", "d\ti"),
            "2:22: QBM.image.file: '\\t' must not stand in a string unescaped",
        ),
        case(24, with("disk.raw", "d\\x41"), "2:22: QBM.image.file: JSON has no such escape"),
        case(24, "[]", "1:1: must be an object, and is an array"),
        case(24, "\"QBM", "1:1: the string has no end"),
    ]
}

/// Texts that are too long, too deep, or have too much of one thing.
fn sizes() -> Vec<Case> {
    let spaces = " ".repeat(MAX_DESCRIPTOR_BYTES - BASE.len());
    let too_long = "1:1: has 1048577 bytes, and a descriptor at most 1048576";
    assert!(Descriptor::parse(format!("{BASE}{spaces}").as_bytes()).is_ok(), "just short enough");
    let bitmaps = |count: usize| {
        let bitmaps = (0..count).map(|index| {
            format!("\n\"{index}\":{{\"file\":\"{index}\",\"granularity-bytes\":512,\"type\":\"dirty\"}},")
        });
        with("\n  \"b\":", &format!("{}\n  \"b\":", bitmaps.collect::<String>()))
    };
    assert!(Descriptor::parse(bitmaps(1023).as_bytes()).is_ok(), "just few enough");
    let keys: String = (0..80_000).map(|key| format!("\"{key}\":0,\n")).collect();
    let nested = |depth: usize| {
        plus(&format!("\"ext-soft-deep\": {}{}", "[".repeat(depth), "]".repeat(depth)))
    };
    assert!(Descriptor::parse(nested(14).as_bytes()).is_ok(), "just flat enough");
    let path = "[0]".repeat(14);
    vec![
        case(3, format!("{BASE} {spaces}"), too_long),
        case(
            9,
            "[".repeat(100_000),
            &format!("1:17: {}: is nested deeper than 16 levels", "[0]".repeat(16)),
        ),
        case(
            9,
            "{\"\":".repeat(100_000),
            &format!("1:65: {}: is nested deeper than 16 levels", ["\"\""; 16].join(".")),
        ),
        case(
            9,
            nested(15),
            &format!("1:55: QBM.ext-soft-deep{path}: is nested deeper than 16 levels"),
        ),
        case(
            10,
            with("\"version\"", &format!("{keys}\"version\"")),
            "1:10: QBM.0: is not a member that the format has here",
        ),
        case(
            10,
            format!("{{{}", "\"k\":0,".repeat(1_000_000)),
            "1:1: has 6000001 bytes, and a descriptor at most 1048576",
        ),
        case(11, bitmaps(1024), "1028:3: QBM.bitmaps: has more than 1024 bitmaps"),
        case(11, bitmaps(1_000_000), "1:1: has 66777993 bytes, and a descriptor at most 1048576"),
    ]
}
