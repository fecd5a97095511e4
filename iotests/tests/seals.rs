//! What a bit that rotted in a bitmap file of a closed image does, with the real program.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use iotests::{Finished, qbm, run};

const GRANULE: u64 = 64 << 10;
/// Bytes of the disk: its bitmap has a second page, of 8 granules.
const SIZE: u64 = (32_768 + 8) * GRANULE;

fn ours(folder: &Path, arguments: &[&str]) -> Finished {
    run(qbm().current_dir(folder).args(arguments))
}

/// The only file of the folder that ends so.
#[track_caller]
fn file(folder: &Path, ending: &str) -> PathBuf {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<_> = entries.filter(|path| path.to_str().unwrap().ends_with(ending)).collect();
    assert_eq!(found.len(), 1, "{ending}: {found:?}");
    found[0].clone()
}

/// Changes the last bit of the bitmap file.
fn rot(folder: &Path) {
    let bits = file(folder, ".bits");
    let mut bytes = fs::read(&bits).unwrap();
    *bytes.last_mut().unwrap() ^= 0x80;
    fs::write(bits, bytes).unwrap();
}

#[test]
fn a_mark_that_rotted_away_is_told_and_its_page_counts_as_marked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::File::create(path.join("vm.raw")).unwrap().set_len(SIZE).unwrap();
    ours(path, &["create", "--data-file", "vm.raw", "vm.qbm"]).success();
    ours(path, &["bitmap", "--add", "vm.qbm", "b"]).success();
    let write = format!("write {} 4k", SIZE - 4096);
    ours(path, &["io", "-c", "write 0 4k", "-c", &write, "vm.qbm"]).success();
    let bitmap = || {
        let info = ours(path, &["info", "--marks", "--output", "json", "vm.qbm"]).success().json();
        let bitmaps = &info["format-specific"]["data"]["bitmaps"];
        let bitmap = bitmaps.as_array().unwrap().iter().find(|bitmap| bitmap["name"] == "b");
        let bitmap = bitmap.unwrap();
        assert_eq!(path.join(bitmap["seal"].as_str().unwrap()), file(path, ".seal"));
        (bitmap["count"].as_u64().unwrap(), bitmap["doubt"]["code"].as_str().map(str::to_owned))
    };
    assert_eq!(bitmap(), (2 * GRANULE, None));
    let text = ours(path, &["info", "vm.qbm"]).success().stdout;
    assert!(text.contains("bitmap: b, granularity 64 KiB, recording, sealed\n"), "{text}");
    rot(path);
    let damaged = (9 * GRANULE, Some("bitmap-damaged".to_owned()));
    assert_eq!(bitmap(), damaged);
    for command in [&["check", "vm.qbm"][..], &["info", "--marks", "vm.qbm"]] {
        let told = ours(path, command).stdout;
        assert!(told.contains("(bitmap-damaged): the bitmap's file is not what"), "{told}");
    }
    // It goes on so, under the seal of the next close.
    ours(path, &["io", "-c", "write 0 4k", "vm.qbm"]).success();
    assert_eq!(bitmap(), damaged);
}

#[test]
fn an_allocation_bitmap_that_rotted_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::File::create(path.join("base.raw")).unwrap().set_len(SIZE).unwrap();
    ours(path, &["create", "-b", "base.raw", "-F", "raw", "top.qbm"]).success();
    ours(path, &["io", "-c", "write 0 4k", "top.qbm"]).success();
    rot(path);
    let complaint = "the bitmap's file is not what it was at the last close";
    for command in [&["info", "--marks", "top.qbm"][..], &["io", "-c", "write 0 4k", "top.qbm"]] {
        let refused = ours(path, command).code(1).stderr;
        assert!(refused.contains(complaint), "{command:?}: {refused}");
        assert!(refused.contains("if the bitmap is known to be right, remove top.qbm.allocation"));
    }
    // Who knows that the bitmap is right removes the seal.
    fs::remove_file(file(path, ".seal")).unwrap();
    ours(path, &["io", "-c", "write 0 4k", "top.qbm"]).success();
}

#[test]
fn a_seal_that_nothing_names_is_removed_by_a_repair() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::File::create(path.join("vm.raw")).unwrap().set_len(SIZE).unwrap();
    ours(path, &["create", "--data-file", "vm.raw", "vm.qbm"]).success();
    ours(path, &["bitmap", "--add", "vm.qbm", "b"]).success();
    let seal = file(path, ".seal");
    let orphan = path.join("vm.qbm.b.00112233445566778899aabbccddeeff.seal");
    fs::copy(seal, &orphan).unwrap();
    ours(path, &["check", "-r", "all", "vm.qbm"]);
    assert!(!orphan.exists());
    file(path, ".seal");
    ours(path, &["check", "vm.qbm"]).success();
}
