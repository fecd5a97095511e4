//! No text makes the reader panic, and whatever it takes can be written.

use proptest::prelude::*;
use qbm_core::descriptor::Descriptor;

use crate::samples::{FULL, MINIMAL, text};

/// Reads `bytes`; what is taken must be written and read alike.
fn check(bytes: &[u8]) {
    match Descriptor::parse(bytes) {
        Ok(descriptor) => {
            let rewritten = text(&descriptor);
            let again = Descriptor::parse(rewritten.as_bytes()).expect("what is written is read");
            assert!(again == descriptor, "{rewritten}");
            assert_eq!(text(&again), rewritten);
            let json: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(bytes);
            assert!(json.is_ok(), "only JSON is taken: {}", String::from_utf8_lossy(bytes));
        }
        Err(error) => {
            let lines = bytes.split(|byte| *byte == b'\n').count();
            assert!((1..=lines).contains(&error.position.line), "{error}");
            assert!(error.position.column >= 1, "{error}");
            assert!(!error.to_string().contains('\n'), "{error}");
            assert!(error.to_string().len() < 4096, "{error}");
        }
    }
}

#[test]
fn a_descriptor_cut_at_any_byte_is_refused() {
    for sample in [MINIMAL, FULL] {
        let end = sample.trim_end().len();
        for cut in 0..end {
            assert!(Descriptor::parse(&sample.as_bytes()[..cut]).is_err(), "cut at {cut}");
        }
        assert!(Descriptor::parse(&sample.as_bytes()[..end]).is_ok(), "only the newline is gone");
    }
}

#[test]
fn a_descriptor_with_any_byte_changed_is_read_or_refused() {
    for at in 0..FULL.len() {
        for byte in [0, b'"', b'\\', b'{', b'}', b'[', b',', b'9', b'-', b' ', b'\n', 0x80, 0xff] {
            let mut bytes = FULL.as_bytes().to_vec();
            bytes[at] = byte;
            check(&bytes);
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        check(&bytes);
    }

    #[test]
    fn random_json_like_text_never_panics(
        text in "([\\[\\]{},: \n]|\"[a-zQBM\\\\ué-]{0,6}\"|-?[0-9.eE]{1,4}|null|true|\"QBM\":){0,60}"
    ) {
        check(text.as_bytes());
    }

    #[test]
    fn mutated_descriptors_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), change()), 1..6)
    ) {
        let mut bytes = FULL.as_bytes().to_vec();
        for (at, change) in changes {
            let at = at.index(bytes.len());
            match change {
                Change::Set(byte) => bytes[at] = byte,
                Change::Insert(text) => drop(bytes.splice(at..at, text.bytes())),
                Change::Remove(count) => {
                    let end = (at + count).min(bytes.len());
                    // One byte stays, so that there is a place for the next change.
                    drop(bytes.splice(at.max(1)..end.max(1), []));
                }
                Change::Repeat(count) => {
                    let end = (at + count).min(bytes.len());
                    let copy = bytes[at..end].to_vec();
                    drop(bytes.splice(end..end, copy));
                }
            }
        }
        check(&bytes);
    }
}

#[derive(Clone, Debug)]
enum Change {
    Set(u8),
    Insert(&'static str),
    Remove(usize),
    Repeat(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let tokens = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "null",
        "true",
        "-1",
        "1e9",
        "18446744073709551616",
        "\"ext-soft-x\": ",
        "\"ext-hard-x\": ",
        "\u{feff}",
        "\\ud800",
        "\\u0000",
    ];
    prop_oneof![
        any::<u8>().prop_map(Change::Set),
        proptest::sample::select(tokens.to_vec()).prop_map(Change::Insert),
        (0_usize..200).prop_map(Change::Remove),
        (0_usize..200).prop_map(Change::Repeat),
    ]
}
