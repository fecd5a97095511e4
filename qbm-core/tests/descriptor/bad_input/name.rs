//! Names of bitmaps and files, and names that are there twice.

use super::{BASE, Case, case, plus, plus_in_bitmap, with};

pub(super) fn cases() -> Vec<Case> {
    [names_twice(), bitmap_names(), file_names()].into_iter().flatten().collect()
}

/// Names that are there twice.
fn names_twice() -> Vec<Case> {
    let second = "\"b\": {\"file\": \"c.bits\", \"granularity-bytes\": 512, \"type\": \"dirty\"}";
    vec![
        case(
            12,
            with("\"version\": 1,", "\"version\": 1, \"version\": 1,"),
            "1:24: QBM.version: the name \"version\" is there already",
        ),
        case(
            12,
            with("\"format\"", "\"file\": \"other.raw\", \"format\""),
            "2:32: QBM.image.file: the name \"file\" is there already",
        ),
        case(
            12,
            with("\"format\"", "\"f\\u0069le\": 7, \"format\""),
            "2:32: QBM.image.file: the name \"file\" is there already",
        ),
        case(
            12,
            plus("\"ext-soft-x\": [{\"a\": 1, \"b\": 1, \"a\": 1}]"),
            "1:56: QBM.ext-soft-x[0].a: the name \"a\" is there already",
        ),
        case(
            12,
            BASE.replace("}}\n", "}, \"QBM\": {}}\n"),
            "6:4: QBM: the name \"QBM\" is there already",
        ),
        case(
            13,
            with("\"b\":", &format!("{second},\n  \"b\":")),
            "5:3: QBM.bitmaps.b: the name \"b\" is there already",
        ),
    ]
}

fn bitmap_names() -> Vec<Case> {
    let long_name = "x".repeat(1024);
    let shown = &long_name[..64];
    vec![
        case(
            8,
            with("\"b\":", "\"b\\u0000\":"),
            "4:3: QBM.bitmaps.\"b\\0\": a name must not have control characters",
        ),
        case(15, with("\"b\":", "\"\":"), "4:3: QBM.bitmaps.\"\": the name is empty"),
        case(
            15,
            with("\"b\":", &format!("\"{long_name}\":")),
            &format!("4:3: QBM.bitmaps.\"{shown}\"...: the name is longer than 1023 bytes"),
        ),
        case(
            15,
            with("\"b\":", "\"a\\nb\":"),
            "4:3: QBM.bitmaps.\"a\\nb\": a name must not have control characters",
        ),
        case(
            15,
            with("\"b\":", "\"a.b\u{9b}31m\":"),
            "4:3: QBM.bitmaps.\"a.b\\u{9b}31m\": a name must not have control characters",
        ),
        case(
            15,
            with("\"b\":", "\"ext-hard-b\":"),
            "4:3: QBM.bitmaps.ext-hard-b: is not known to this program, and without it \
             the image cannot be used: a newer program is needed",
        ),
    ]
}

fn file_names() -> Vec<Case> {
    let bitmap_c = "{\"file\": \"c.bits\", \"granularity-bytes\": 512, \"type\": \"dirty\"}";
    vec![
        case(
            8,
            with("disk.raw", "d\\u0000"),
            "2:20: QBM.image.file: the name has control characters",
        ),
        case(
            8,
            with("disk.raw", "d\0"),
            "2:22: QBM.image.file: '\\0' must not stand in a string unescaped",
        ),
        case(15, with("disk.raw", ""), "2:20: QBM.image.file: the name is empty"),
        case(
            15,
            with("disk.raw", &"x".repeat(4096)),
            "2:20: QBM.image.file: the name is longer than 4095 bytes",
        ),
        case(
            15,
            with("disk.raw", "b.bits"),
            "4:17: QBM.bitmaps.b.file: \"b.bits\" is named before, and a file has one use only",
        ),
        case(
            15,
            with("\"b\":", &format!("\"c d\": {bitmap_c},\n  \"b\":")).replace("b.bits", "c.bits"),
            "5:17: QBM.bitmaps.b.file: \"c.bits\" is named before, and a file has one use only",
        ),
        case(
            28,
            plus_in_bitmap("\"ext-hard-segments\": [{\"file\": \"b.bits\"}]"),
            "5:35: QBM.bitmaps.b.ext-hard-segments[0].file: \"b.bits\" is named before, and a file has one use only",
        ),
    ]
}
