//! Extensions: unknown hard ones, and known ones with wrong values.

use qbm_core::descriptor::Descriptor;

use super::{BASE, Case, case, plus, plus_in_bitmap, with};
use crate::samples::FULL;

pub(super) fn cases() -> Vec<Case> {
    [unknown(), segments(), values()].into_iter().flatten().collect()
}

/// Extensions that are not known, and without which the image must not be used.
fn unknown() -> Vec<Case> {
    let newer = "is not known to this program, and without it the image cannot be used: \
                 a newer program is needed";
    vec![
        case(
            20,
            plus("\"ext-hard-intent\": {\"file\": \"i\"}"),
            &format!("1:24: QBM.ext-hard-intent: {newer}"),
        ),
        case(
            20,
            plus_in_bitmap("\"ext-hard-x\": null"),
            &format!("5:4: QBM.bitmaps.b.ext-hard-x: {newer}"),
        ),
        case(
            20,
            with("\"format\"", "\"ext-hard-\": 1, \"format\""),
            &format!("2:32: QBM.image.ext-hard-: {newer}"),
        ),
        case(
            20,
            BASE.replace("}}\n", "}, \"ext-hard-QBM\": {}}\n"),
            &format!("6:4: ext-hard-QBM: {newer}"),
        ),
        case(
            20,
            plus_in_bitmap("\"ext-hard-segments\": [{\"file\": \"s\", \"ext-hard-x\": 1}]"),
            &format!("5:40: QBM.bitmaps.b.ext-hard-segments[0].ext-hard-x: {newer}"),
        ),
        case(
            20,
            plus_in_bitmap("\"ext-hard-segments\": [{\"file\": \"s\", \"size\": 1}]"),
            "5:40: QBM.bitmaps.b.ext-hard-segments[0].size: is not a member that the format has here",
        ),
    ]
}

fn segments() -> Vec<Case> {
    let segments = |count: usize| {
        let segments: Vec<String> =
            (0..count).map(|index| format!("{{\"file\": \"{index}\"}}")).collect();
        plus_in_bitmap(&format!("\"ext-hard-segments\": [{}]", segments.join(", ")))
    };
    assert!(Descriptor::parse(segments(7).as_bytes()).is_ok(), "just few enough");
    vec![
        case(
            28,
            segments(0),
            "5:25: QBM.bitmaps.b.ext-hard-segments: must have 1 to 7 segments, and has 0",
        ),
        case(
            28,
            segments(8),
            "5:25: QBM.bitmaps.b.ext-hard-segments: must have 1 to 7 segments, and has 8",
        ),
        case(
            28,
            plus_in_bitmap("\"ext-hard-segments\": {}"),
            "5:25: QBM.bitmaps.b.ext-hard-segments: must be an array, and is an object",
        ),
        case(
            28,
            plus_in_bitmap("\"ext-hard-segments\": [\"s\"]"),
            "5:26: QBM.bitmaps.b.ext-hard-segments[0]: must be an object, and is \"s\"",
        ),
        case(
            28,
            plus_in_bitmap("\"ext-hard-segments\": [{}]"),
            "5:26: QBM.bitmaps.b.ext-hard-segments[0].file: is missing",
        ),
    ]
}

/// Known extensions with values that cannot be.
fn values() -> Vec<Case> {
    vec![
        case(
            27,
            FULL.replace("1767225600123", "253402300800000"),
            "75:22: QBM.ext-hard-in-use.since: must be an integer from 0 to 253402300799999, and is 253402300800000",
        ),
        case(
            27,
            FULL.replace("\"pid\": 4711", "\"pid\": 4294967296"),
            "72:20: QBM.ext-hard-in-use.pid: must be an integer from 0 to 4294967295, and is 4294967296",
        ),
        case(
            27,
            FULL.replace("\"program\": \"qbm\"", "\"program\": \"\\u001b[2J\""),
            "73:24: QBM.ext-hard-in-use.program: must be a string without control characters, and is \"\\u{1b}[2J\"",
        ),
        case(
            25,
            FULL.replace("af1349", "AF1349"),
            "66:23: QBM.ext-soft-point.digest: must be 64 lower-case hexadecimal digits in a string, and is \"AF1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262\"",
        ),
        case(
            17,
            FULL.replace("\"block-bytes\": 65536", "\"block-bytes\": 2097152"),
            "68:28: QBM.ext-soft-point.block-bytes: must be a power of two from 512 to 1048576, and is 2097152",
        ),
        case(
            25,
            FULL.replace("\"modified-ns\": -1", "\"modified-ns\": -9223372036854775809"),
            "57:28: QBM.ext-soft-stamp.modified-ns: must be an integer from -9223372036854775808 to 9223372036854775807, and is -9223372036854775809",
        ),
        case(
            15,
            FULL.replace("\"bitmap\": \"nightly\"", "\"bitmap\": \"\""),
            "64:23: QBM.ext-soft-point.bitmap: the name is empty",
        ),
    ]
}
