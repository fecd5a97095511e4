//! Directories of the simulated medium, from the bytes of the fuzzer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_executor::block_on;
use qbm_core::image::OpenOptions;
use qbm_core::{Access, Buffer, Directory, Host, Image, Result};
use qbm_sim::{Disk, Medium, SimDirectory, SimHost};

use crate::input::Input;

/// The longest file.
const MAX_BYTES: u64 = 20_000;

/// A host with ids that no other has.
pub(crate) fn host() -> Arc<dyn Host> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Arc::new(SimHost::new(NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// Opens the image `name` on `disk`.
pub(crate) fn open(disk: &Disk, name: &str, access: Access) -> Result<Image<SimDirectory>> {
    block_on(Image::open(SimDirectory::new(disk), name, OpenOptions::new(access), host()))
}

/// All bytes of the disk of `image`.
pub(crate) fn contents<D: Directory>(image: &Image<D>) -> Result<Buffer> {
    let size = usize::try_from(image.size()).expect("simulated disks are small");
    block_on(image.read(0, Buffer::zeroed(size)))
}

/// Whether both media have the same names, and the same bytes under each.
pub(crate) fn same(one: &Medium, other: &Medium) -> bool {
    one.names().eq(other.names()) && one.names().all(|name| one.read(name) == other.read(name))
}

/// A length, a few of them in runs, so that short inputs make long files.
pub(crate) fn file(input: &mut Input<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..input.byte().unwrap_or(0) % 4 {
        let count = usize::try_from(input.at_most(MAX_BYTES)).expect("it is small");
        match input.byte() {
            Some(255) | None => bytes.extend_from_slice(input.take(count)),
            Some(byte) => bytes.resize(bytes.len() + count, byte),
        }
    }
    bytes
}

/// Damages one of the files of `medium`, or adds one; `names` are those that may be added.
pub(crate) fn damage(medium: &mut Medium, input: &mut Input<'_>, names: &[&str]) {
    let present: Vec<String> = medium.names().map(str::to_owned).collect();
    let pick = |input: &mut Input<'_>| {
        let all = present.iter().map(String::as_str).chain(names.iter().copied());
        let all: Vec<&str> = all.collect();
        all[usize::from(input.byte().unwrap_or(0)) % all.len()].to_owned()
    };
    let name = pick(input);
    let old = medium.read(&name).map(<[u8]>::to_vec).unwrap_or_default();
    match input.byte().unwrap_or(0) % 6 {
        0 => medium.remove(&name),
        1 => medium.put(&name, file(input)),
        2 => {
            let copy = medium.read(&pick(input)).map(<[u8]>::to_vec).unwrap_or_default();
            medium.put(&name, copy);
        }
        3 => medium.put(&name, resized(old, input)),
        4 => medium.put(&name, overwritten(old, input)),
        _ => medium.put(&name, replaced(old, input, &present)),
    }
}

/// The same bytes cut, or with zeroes after them.
pub(crate) fn resized(mut bytes: Vec<u8>, input: &mut Input<'_>) -> Vec<u8> {
    bytes.resize(usize::try_from(input.at_most(MAX_BYTES)).expect("it is small"), 0);
    bytes
}

/// The same bytes but for a few.
pub(crate) fn overwritten(mut bytes: Vec<u8>, input: &mut Input<'_>) -> Vec<u8> {
    let at = usize::try_from(input.at_most(bytes.len() as u64)).expect("a place in it");
    let length = usize::from(input.byte().unwrap_or(0) % 8);
    for (old, new) in bytes[at..].iter_mut().zip(input.take(length)) {
        *old = *new;
    }
    bytes
}

/// One word of a descriptor replaced by another: random bytes seldom leave it one.
fn replaced(bytes: Vec<u8>, input: &mut Input<'_>, names: &[String]) -> Vec<u8> {
    const WORDS: &[&str] = &[
        "0",
        "1",
        "3",
        "512",
        "1024",
        "65536",
        "2147483648",
        "8800",
        "9223372036854775296",
        "true",
        "false",
        "null",
        "{}",
        "[]",
        "\"dirty\"",
        "\"allocation\"",
        "\"raw\"",
        "\"qbm\"",
        "\"close\"",
        "\"exact\"",
        "\"data-changed\"",
        "\"ext-soft-size\"",
        "\"ext-soft-x\"",
        "\"ext-hard-disabled\"",
        "\"ext-soft-durability\"",
        "\"00000000000000000000000000000001\"",
        "\"00000000000000000000000000000002\"",
    ];
    let Ok(text) = std::str::from_utf8(&bytes) else { return bytes };
    // Strings and numbers, by their first byte and the byte after them.
    let words: Vec<(usize, usize)> = words_of(text).collect();
    let Some((start, end)) = words.get(usize::from(input.byte().unwrap_or(0)) % words.len().max(1))
    else {
        return bytes;
    };
    let choice = usize::from(input.byte().unwrap_or(0)) % (WORDS.len() + names.len());
    let word = match WORDS.get(choice) {
        Some(word) => (*word).to_owned(),
        None => format!("\"{}\"", names[choice - WORDS.len()]),
    };
    [&text[..*start], &word, &text[*end..]].concat().into_bytes()
}

/// Where the strings and numbers of `text` are.
fn words_of(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let rest = &text[from..];
        let start = from + rest.find(|c: char| c == '"' || c.is_ascii_digit())?;
        let inner = &text[start + 1..];
        let end = match text[start..].starts_with('"') {
            true => start + 1 + inner.find('"').map_or(inner.len(), |end| end + 1),
            false => start + 1 + inner.find(|c: char| !c.is_ascii_digit()).unwrap_or(inner.len()),
        };
        from = end;
        Some((start, end))
    })
}
