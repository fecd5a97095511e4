//! What is written is what is read, and a rewrite changes no more than it must.

use proptest::prelude::*;
use qbm_core::descriptor::{Descriptor, Durability, SegmentRef};
use serde_json::{Map, Value, json};

use crate::samples::{FULL, MINIMAL, descriptor, parse, text};

proptest! {
    #[test]
    fn a_descriptor_is_read_as_it_was_written(descriptor in descriptor()) {
        let text = text(&descriptor);
        prop_assert_eq!(&parse(&text), &descriptor);
        let as_another_reads_it: Value = serde_json::from_str(&text).expect("JSON for all");
        prop_assert_eq!(&as_another_reads_it["QBM"]["image"]["file"], &descriptor.image.file);
    }

    #[test]
    fn a_rewrite_keeps_unknown_soft_members_and_the_order_of_all(
        descriptor in descriptor(),
        seed in any::<u64>(),
        pretty in any::<bool>(),
    ) {
        let mut value: Value = serde_json::from_str(&text(&descriptor)).expect("JSON for all");
        let mut random = Random(seed);
        strew(&mut value, &mut random);
        let strewn = if pretty {
            serde_json::to_string_pretty(&value).expect("a value has a text")
        } else {
            value.to_string()
        };
        let read = parse(&strewn);
        prop_assert_eq!(&read, &descriptor);
        let rewritten = text(&read);
        let again: Value = serde_json::from_str(&rewritten).expect("JSON for all");
        // As texts: equality of values ignores the order of members.
        prop_assert_eq!(again.to_string(), value.to_string());
        prop_assert_eq!(text(&parse(&rewritten)), rewritten, "a second rewrite changes nothing");
    }

    #[test]
    fn a_rewrite_after_a_change_says_what_the_descriptor_says(
        before in descriptor(),
        after in descriptor(),
        seed in any::<u64>(),
    ) {
        let mut value: Value = serde_json::from_str(&text(&before)).expect("JSON for all");
        strew(&mut value, &mut Random(seed));
        let mut changed = parse(&value.to_string());
        become_like(&mut changed, &after);
        let text = text(&changed);
        prop_assert!(parse(&text) == changed, "{text}");
    }
}

#[test]
fn the_samples_are_written_as_they_stand() {
    assert_eq!(text(&parse(MINIMAL)), MINIMAL);
    // All but one thing: an escape that nothing asks for is not used again.
    let full = FULL.replace(r"\ud83d\udcbe", "\u{1f4be}");
    assert_ne!(full, FULL);
    assert_eq!(text(&parse(&full)), full);
}

#[test]
fn an_unknown_soft_member_is_kept_to_the_byte() {
    let member = "\"ext-soft-x\": { \"n\":-0.0e+7 ,\n\"\\u0041\" :\t[ ] }";
    let with = MINIMAL.replace("\"version\": 1", &format!("\"version\": 1,\n        {member}"));
    assert_eq!(text(&parse(&with)), with);
}

#[test]
fn what_is_at_its_default_is_left_out() {
    let defaults = MINIMAL.replace(
        "\"bitmaps\": {}",
        "\"ext-soft-generation\": 0, \"ext-soft-durability\": \"exact\", \"bitmaps\": {}",
    );
    assert_eq!(text(&parse(&defaults)), MINIMAL);
    let mut full = parse(FULL);
    full.in_use.as_mut().expect("in use").data_sync_failed = false;
    full.bitmap_mut("größer, 2 GiB").expect("a bitmap").disabled = false;
    let written = text(&full);
    assert!(!written.contains("data-sync-failed") && !written.contains("ext-hard-disabled"));
}

#[test]
fn a_closed_image_is_plain_again() {
    let mut open = parse(MINIMAL);
    let full = parse(FULL);
    (open.id, open.generation, open.size) = (full.id, full.generation, full.size);
    (open.durability, open.stamp, open.in_use) = (full.durability, full.stamp, full.in_use);
    let mut reopened = parse(&text(&open));
    (reopened.id, reopened.generation, reopened.size) = (None, 0, None);
    (reopened.durability, reopened.stamp, reopened.in_use) = (Durability::Exact, None, None);
    assert_eq!(text(&reopened), MINIMAL);
}

#[test]
fn a_segment_keeps_its_own_extensions_when_another_goes() {
    let mut descriptor = parse(FULL);
    descriptor.bitmap_mut("nightly").expect("a bitmap").segments.remove(2);
    assert!(text(&descriptor).contains("ext-soft-made-by"));
    let mut descriptor = parse(FULL);
    descriptor.bitmap_mut("nightly").expect("a bitmap").segments.remove(1);
    assert!(!text(&descriptor).contains("ext-soft-made-by"));
}

#[test]
fn a_removed_bitmap_takes_its_extensions_along() {
    let removed = "\"b\": {\"file\": \"f\", \"granularity-bytes\": 512, \"type\": \"dirty\", \
                   \"ext-soft-x\": 1}";
    let mut descriptor = parse(&MINIMAL.replace("{}", &format!("{{{removed}}}")));
    descriptor.bitmaps.clear();
    assert_eq!(text(&descriptor), MINIMAL);
}

#[test]
fn a_descriptor_that_could_not_be_read_is_not_written() {
    let mut descriptor = parse(FULL);
    let bitmap = descriptor.bitmap_mut("nightly").expect("a bitmap");
    for index in 0..6 {
        bitmap.segments.push(SegmentRef { file: format!("more {index}"), point: None });
    }
    let error = descriptor.to_text().expect_err("nine segments are too many");
    assert_eq!(error.member, "QBM.bitmaps.nightly.ext-hard-segments");
    assert_eq!(error.what, "must have 1 to 7 segments, and has 8");

    let mut descriptor = parse(MINIMAL);
    descriptor.image.file = "disk\n.raw".to_owned();
    let error = descriptor.to_text().expect_err("a name has no control characters");
    assert_eq!(error.to_string(), "5:21: QBM.image.file: the name has control characters");
}

/// Makes `changed` say what `like` says, but for its bitmaps of the same name, which it updates.
fn become_like(changed: &mut Descriptor, like: &Descriptor) {
    changed.image = like.image.clone();
    changed.bitmaps.retain(|bitmap| like.bitmap(&bitmap.name).is_some());
    for bitmap in &mut changed.bitmaps {
        *bitmap = like.bitmap(&bitmap.name).expect("retained").clone();
    }
    for bitmap in &like.bitmaps {
        if changed.bitmap(&bitmap.name).is_none() {
            changed.bitmaps.push(bitmap.clone());
        }
    }
    (changed.id, changed.generation, changed.size) = (like.id, like.generation, like.size);
    (changed.durability, changed.stamp) = (like.durability, like.stamp);
    (changed.point, changed.in_use) = (like.point.clone(), like.in_use.clone());
}

/// Puts soft members that nobody knows at random places into every object.
fn strew(value: &mut Value, random: &mut Random) {
    match value {
        Value::Object(members) => {
            let mut strewn = Map::new();
            for (index, (name, mut member)) in std::mem::take(members).into_iter().enumerate() {
                if random.below(3) == 0 {
                    strewn.insert(format!("ext-soft-unknown-{index}"), oddity(random));
                }
                strew(&mut member, random);
                strewn.insert(name, member);
            }
            if random.below(3) == 0 {
                strewn.insert("ext-soft-\"last\\ é".to_owned(), oddity(random));
            }
            *members = strewn;
        }
        Value::Array(elements) => elements.iter_mut().for_each(|element| strew(element, random)),
        _ => {}
    }
}

fn oddity(random: &mut Random) -> Value {
    let oddities = [
        json!(null),
        json!(true),
        json!(-1.5e300),
        json!("line\nbreak \u{7f} \u{1f4be}"),
        json!([]),
        json!({}),
        json!([[{"file": [1, 2, "x"]}], {"QBM": {"version": 2}}]),
        json!({"ext-hard-in-use": "not at this place", "file": 7}),
    ];
    oddities[random.below(oddities.len())].clone()
}

/// A small generator of numbers, so that one seed makes one text.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.0 >> 33).expect("31 bits") % limit
    }
}
