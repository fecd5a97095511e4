//! Numbers, words and ids that cannot be.

use qbm_core::descriptor::Descriptor;

use super::{Case, case, plus, plus_in_bitmap, with};

pub(super) fn cases() -> Vec<Case> {
    [numbers(), words(), ids()].into_iter().flatten().collect()
}

/// Numbers out of their range, and what is no number at all.
fn numbers() -> Vec<Case> {
    let mut cases = Vec::new();
    let bad_sizes = [
        "-1",
        "9223372036854775297",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "1e19",
        "1.5",
        "1.0",
        "\"10\"",
        "null",
        "-0",
        "[1]",
    ];
    for size in bad_sizes {
        let found = if size == "[1]" { "an array" } else { size };
        let error = format!(
            "1:41: QBM.ext-soft-size: must be an integer from 0 to 9223372036854775296, and is {found}"
        );
        cases.push(case(16, plus(&format!("\"ext-soft-size\": {size}")), &error));
    }
    for good in ["0", "1", "511", "512", "9223372036854775296"] {
        // 18: a disk may end within a sector. 19: whether the bits of a disk that large can be
        // held is for the open to say.
        let text = plus(&format!("\"ext-soft-size\": {good}"));
        assert!(Descriptor::parse(text.as_bytes()).is_ok(), "{good} is a size");
    }
    let bad_granularities = [
        "0",
        "1",
        "3",
        "256",
        "65537",
        "4294967296",
        "9223372036854775808",
        "1e9",
        "-512",
        "\"512\"",
        "true",
    ];
    for bytes in bad_granularities {
        let error = format!(
            "4:48: QBM.bitmaps.b.granularity-bytes: must be a power of two from 512 to 2147483648, and is {bytes}"
        );
        cases.push(case(17, with("65536", bytes), &error));
    }
    cases.push(case(
        18,
        with("65536", "0512"),
        "4:49: QBM.bitmaps.b: expected ',' or '}', found '5'",
    ));
    cases.push(case(
        18,
        with("65536", "5."),
        "4:50: QBM.bitmaps.b.granularity-bytes: expected a digit, found ','",
    ));
    cases.push(case(19, with("65536", "99999999999999999999999999999999999999999"), "4:48: QBM.bitmaps.b.granularity-bytes: must be a power of two from 512 to 2147483648, and is 99999999999999999999999999999999"));
    for generation in ["9223372036854775808", "18446744073709551615", "18446744073709551616", "-1"]
    {
        let error = format!(
            "1:47: QBM.ext-soft-generation: must be an integer from 0 to 9223372036854775807, and is {generation}"
        );
        cases.push(case(26, plus(&format!("\"ext-soft-generation\": {generation}")), &error));
    }
    cases
}

/// Words that are not among those that there are, and ids that are none.
fn words() -> Vec<Case> {
    vec![
        case(
            20,
            with("\"version\": 1", "\"version\": 2"),
            "1:21: QBM.version: is 2, and this program knows version 1 only",
        ),
        // The version comes first: what else is strange follows from it.
        case(
            20,
            with("\"version\": 1", "\"new\": 0, \"version\": 2"),
            "1:31: QBM.version: is 2, and this program knows version 1 only",
        ),
        case(
            20,
            with("\"version\": 1", "\"version\": \"1\""),
            "1:21: QBM.version: must be an integer from 0 to 18446744073709551615, and is \"1\"",
        ),
        case(
            20,
            with("\"dirty\"", "\"clean\""),
            "4:63: QBM.bitmaps.b.type: must be \"dirty\" or \"allocation\", and is \"clean\"",
        ),
        case(
            20,
            with("\"dirty\"", "\"Dirty\""),
            "4:63: QBM.bitmaps.b.type: must be \"dirty\" or \"allocation\", and is \"Dirty\"",
        ),
        case(
            20,
            with("\"raw\"", "\"qcow2\""),
            "2:42: QBM.image.format: must be \"raw\", and is \"qcow2\"",
        ),
        case(
            20,
            with("\"raw\"", "\"qbm\""),
            "2:42: QBM.image.format: must be \"raw\", and is \"qbm\"",
        ),
        case(
            20,
            with(
                "\"dirty\"",
                "\"allocation\", \"backing\":\n{\"file\": \"x\", \"format\": \"vmdk\"}",
            ),
            "5:25: QBM.bitmaps.b.backing.format: must be \"raw\" or \"qbm\", and is \"vmdk\"",
        ),
        case(
            20,
            plus("\"ext-soft-durability\": \"lax\""),
            "1:47: QBM.ext-soft-durability: must be \"exact\" or \"close\", and is \"lax\"",
        ),
        case(
            20,
            plus_in_bitmap("\"ext-soft-doubt\": \"none\""),
            "5:22: QBM.bitmaps.b.ext-soft-doubt: must be \"data-changed\" or \"bitmap-missing\" or \"bitmap-too-short\" or \"bitmap-excess\" or \"bitmap-unreadable\" or \"bitmap-damaged\" or \"seal-damaged\" or \"not-stored\" or \"data-sync-failed\", and is \"none\"",
        ),
        case(
            20,
            plus_in_bitmap("\"ext-hard-disabled\": 1"),
            "5:25: QBM.bitmaps.b.ext-hard-disabled: must be true or false, and is 1",
        ),
    ]
}

fn ids() -> Vec<Case> {
    let bad_ids = [
        "\"\"",
        "\"0123456789abcdef0123456789abcde\"",
        "\"0123456789abcdef0123456789abcdef0\"",
        "\"0123456789ABCDEF0123456789ABCDEF\"",
        "\"01234567-89ab-cdef-0123-456789abcdef\"",
        "\"+123456789abcdef0123456789abcdef\"",
        "7",
        "null",
    ];
    let case_of = |id| {
        let error = format!(
            "5:17: QBM.ext-soft-id: must be 32 lower-case hexadecimal digits in a string, and is {id}"
        );
        case(25, with("\"0123456789abcdef0123456789abcdef\"", id), &error)
    };
    bad_ids.map(case_of).into()
}
