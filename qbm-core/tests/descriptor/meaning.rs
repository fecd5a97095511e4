//! What the members mean: the sample with all of them, taken apart.

use qbm_core::descriptor::{
    Bitmap, BitmapKind, Doubt, Durability, Format, ImageRef, InUse, Point, SealRef, SegmentRef,
    check_bitmap_name, check_file_name,
};
use qbm_core::{Granularity, Id, Identity, Timestamp};

use crate::samples::{FULL, MINIMAL, parse};

fn granularity(bytes: u64) -> Granularity {
    Granularity::from_bytes(bytes).expect("a granularity")
}

#[test]
fn every_member_of_the_image_is_understood() {
    let descriptor = parse(FULL);
    assert_eq!(descriptor.image, ImageRef { file: "disk.raw".to_owned(), format: Format::Raw });
    assert_eq!(descriptor.id, Some(Id(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef)));
    assert_eq!(descriptor.generation, 17);
    assert_eq!(descriptor.size, Some((1 << 63) - 512));
    assert_eq!(descriptor.durability, Durability::Close);
    let stamp = Identity { device: u64::MAX, inode: 12, size: 1 << 20, modified_ns: Some(-1) };
    assert_eq!(descriptor.stamp, Some(stamp));
    let point = Point {
        id: Id(0xb2),
        parent: Some(Id(0xb1)),
        created: Timestamp(1_767_225_600_000),
        image: Id(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
        bitmap: "nightly".to_owned(),
        stored: 196_608,
        digest: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262".to_owned(),
        digests: "web.qbm.00000000000000000000000000000005.digests".to_owned(),
        block: granularity(65_536),
    };
    assert_eq!(descriptor.point, Some(point));
    let in_use = InUse {
        opener: Id(0xc1),
        pid: 4711,
        program: "qbm".to_owned(),
        boot: "7d2f8a52-53a5-4c3e-9d6c-2f3f0d3d4b7e".to_owned(),
        since: Timestamp(1_767_225_600_123),
        data_sync_failed: true,
    };
    assert_eq!(descriptor.in_use, Some(in_use));
}

#[test]
fn every_member_of_a_bitmap_is_understood() {
    let segment = |file: &str, point: Option<u128>| SegmentRef {
        file: file.to_owned(),
        point: point.map(Id),
    };
    let nightly = |number: u8, point| segment(&format!("web.qbm.nightly.{number:032}.bits"), point);
    let expected = [
        Bitmap {
            name: "nightly".to_owned(),
            granularity: granularity(65536),
            kind: BitmapKind::Dirty,
            segments: vec![nightly(1, Some(0xa1)), nightly(2, Some(0xa2)), nightly(3, None)],
            disabled: false,
            doubt: Some(Doubt::DataChanged),
            seal: None,
        },
        Bitmap {
            name: "größer, 2 GiB".to_owned(),
            granularity: Granularity::MAX,
            kind: BitmapKind::Dirty,
            segments: vec![segment("gr__er.bits", None)],
            disabled: true,
            doubt: None,
            seal: None,
        },
        Bitmap {
            name: "allocation".to_owned(),
            granularity: Granularity::MIN,
            kind: BitmapKind::Allocation {
                backing: Some(ImageRef { file: "base.qbm".to_owned(), format: Format::Qbm }),
            },
            segments: vec![segment("allocation.bits", None)],
            disabled: false,
            doubt: None,
            seal: Some(SealRef { file: "allocation.seal".to_owned(), generation: 17 }),
        },
    ];
    let descriptor = parse(FULL);
    assert_eq!(descriptor.bitmaps, expected);
    assert_eq!(descriptor.allocation(), Some(&expected[2]));
    assert_eq!(descriptor.bitmap("nightly"), Some(&expected[0]));
}

#[test]
fn what_a_minimal_descriptor_does_not_say_has_a_default() {
    let descriptor = parse(MINIMAL);
    assert!(descriptor.bitmaps.is_empty() && descriptor.allocation().is_none());
    assert_eq!((descriptor.id, descriptor.generation, descriptor.size), (None, 0, None));
    assert_eq!(descriptor.durability, Durability::Exact);
    assert!(descriptor.stamp.is_none() && descriptor.point.is_none());
    assert!(descriptor.in_use.is_none());
}

#[test]
fn every_doubt_has_a_word_of_its_own() {
    for doubt in Doubt::ALL {
        let text = FULL.replace("data-changed", doubt.code());
        assert_eq!(parse(&text).bitmaps[0].doubt, Some(doubt));
    }
}

#[test]
fn escapes_of_json_are_understood() {
    let text = MINIMAL.replace("disk.raw", r#"\"\\\/\u00e9\uD83D\udcbe"#);
    assert_eq!(parse(&text).image.file, "\"\\/é\u{1f4be}");
}

/// What is no path may look like one, and what looks the same need not be the same.
#[test]
fn a_name_of_a_bitmap_is_any_text() {
    for name in ["../x", "a/b", "a\\b", ".", " ", "🦀", "ext-", "ext-soft", &"x".repeat(1023)] {
        assert_eq!(check_bitmap_name(name), Ok(()), "{name}");
    }
    let composed = "\u{e9}";
    let decomposed = "e\u{301}";
    let bitmap = |name: &str, file: &str| {
        let file = format!("{{\"file\": \"{file}\", \"granularity-bytes\": 512");
        format!("\"{name}\": {file}, \"type\": \"dirty\"}}")
    };
    let bitmaps = format!("{{{}, {}}}", bitmap(composed, "1"), bitmap(decomposed, "2"));
    let descriptor = parse(&MINIMAL.replace("{}", &bitmaps));
    assert_eq!(descriptor.bitmap(composed).expect("it").segments[0].file, "1");
    assert_eq!(descriptor.bitmap(decomposed).expect("it").segments[0].file, "2");
}

#[test]
fn a_name_that_cannot_be_says_which_rule_it_breaks() {
    assert_eq!(check_bitmap_name(""), Err("is empty"));
    assert_eq!(check_bitmap_name(&"x".repeat(1024)), Err("is longer than 1023 bytes"));
    assert_eq!(check_bitmap_name("a\u{85}"), Err("has control characters"));
    assert!(check_bitmap_name("ext-hard-x").is_err());
    assert_eq!(check_file_name(""), Err("is empty"));
    assert_eq!(check_file_name(&"x".repeat(4096)), Err("is longer than 4095 bytes"));
    assert_eq!(check_file_name("a\0"), Err("has control characters"));
    assert_eq!(check_file_name(&"x".repeat(4095)), Ok(()));
}

/// A time that is to come says nothing: nothing is ordered by it.
#[test]
fn in_use_since_the_future_is_read_as_it_stands() {
    let text = FULL.replace("\"since\": 1767225600123", "\"since\": 253402300799999");
    assert_eq!(parse(&text).in_use.expect("in use").since, Timestamp(253_402_300_799_999));
}
