//! Bad input: each kind of wrong descriptor, and the exact error that it gets.
//!
//! The kinds: 1 nothing, 2 white space, 3 too long, 4 byte order mark, 5 UTF-16, 6 invalid UTF-8,
//! 7 half a surrogate pair, 8 NUL in a name, 9 too deep, 10 a million members, 11 a million bitmaps,
//! 12 a member twice, 13 a bitmap twice, 14 names that look the same, 15 impossible names,
//! 16 impossible sizes, 17 impossible granularities, 18 odd numbers, 19 numbers that overflow,
//! 20 an unknown version, word or member, 21 a member missing, 22 cut at any byte, 23 something
//! after the end, 24 not quite JSON, 25 impossible ids, 26 generations that would wrap, 27 in use
//! by someone impossible, 28 impossible segments. 14 and 22 have tests of their own: two names
//! that look the same are right, and a descriptor is cut in `mangled`.

mod extension;
mod form;
mod member;
mod name;
mod value;

use std::time::{Duration, Instant};

use qbm_core::descriptor::Descriptor;

/// A small descriptor, in which the cases replace one part.
const BASE: &str = r#"{"QBM": {"version": 1,
 "image": {"file": "disk.raw", "format": "raw"},
 "bitmaps": {
  "b": {"file": "b.bits", "granularity-bytes": 65536, "type": "dirty"}},
 "ext-soft-id": "0123456789abcdef0123456789abcdef"
}}
"#;

/// A bad text, and the error that it gets.
struct Case {
    number: u32,
    text: Vec<u8>,
    error: String,
}

impl Case {
    /// What is not as it should be, if anything.
    fn complaint(&self) -> Option<String> {
        let Self { number, text, error } = self;
        let started = Instant::now();
        let found = Descriptor::parse(text);
        let elapsed = started.elapsed();
        let found = found.err().map_or("it is taken".to_owned(), |found| found.to_string());
        let right = found == *error && elapsed < Duration::from_secs(1);
        (!right).then(|| format!("{number}, after {elapsed:?}:\n  {found} instead of\n  {error}"))
    }
}

fn case(number: u32, text: impl Into<Vec<u8>>, error: &str) -> Case {
    Case { number, text: text.into(), error: error.to_owned() }
}

/// [`BASE`] with `to` in place of `from`.
fn with(from: &str, to: &str) -> String {
    assert_eq!(BASE.matches(from).count(), 1, "{from} is one part of the descriptor");
    BASE.replace(from, to)
}

/// [`BASE`] with one more member after its version.
fn plus(member: &str) -> String {
    with("\"version\": 1,", &format!("\"version\": 1, {member},"))
}

/// [`BASE`] with one more member of its bitmap.
fn plus_in_bitmap(member: &str) -> String {
    with("\"dirty\"", &format!("\"dirty\",\n   {member}"))
}

#[test]
fn every_bad_descriptor_gets_its_error_within_a_second() {
    Descriptor::parse(BASE.as_bytes()).expect("only the cases are bad");
    let groups =
        [form::cases(), name::cases(), value::cases(), member::cases(), extension::cases()];
    let cases: Vec<Case> = groups.into_iter().flatten().collect();
    let wrong: Vec<String> = cases.iter().filter_map(Case::complaint).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for number in (1..=28).filter(|number| ![14, 22].contains(number)) {
        assert!(cases.iter().any(|case| case.number == number), "{number} has a case");
    }
}
