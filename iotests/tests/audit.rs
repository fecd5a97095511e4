//! What `audit` and `rebuild` find by reading the disk, with the real program.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

use iotests::{qbm, run};
use serde_json::Value;

const GRANULE: u64 = 64 << 10;
/// Bytes of the disk: more than a thread takes on at a time, and no whole number of granules.
const SIZE: u64 = (40 << 20) + 1000;

/// A folder with an image that has a full backup.
struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { folder: tempfile::tempdir().unwrap() };
        let disk = fs::File::create(scene.path("vm.raw")).unwrap();
        disk.set_len(SIZE).unwrap();
        disk.write_all_at(&vec![5; 3 << 20], 9 << 20).unwrap();
        run(&mut scene.qbm(&["create", "--data-file", "vm.raw", "vm.qbm"])).success();
        run(&mut scene.qbm(&["backup", "vm.qbm", "points"])).success();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn qbm(&self, words: &[&str]) -> Command {
        let mut command = qbm();
        command.current_dir(self.folder.path()).args(words);
        command
    }

    fn json(&self, words: &[&str], code: i32) -> Value {
        run(self.qbm(words).args(["--output", "json"])).code(code).json()
    }

    /// Writes a byte behind QBM's back; with `unseen`, the times of the file do not tell.
    fn change(&self, place: u64, unseen: bool) {
        let disk = fs::File::options().write(true).open(self.path("vm.raw")).unwrap();
        let modified = disk.metadata().unwrap().modified().unwrap();
        disk.write_all_at(&[9], place).unwrap();
        let time = if unseen { modified } else { SystemTime::now() };
        disk.set_modified(time).unwrap();
    }
}

#[test]
fn an_audit_finds_a_byte_that_was_written_behind_our_back() {
    let scene = Scene::new();
    let audit = ["audit", "vm.qbm", "points"];
    let found = scene.json(&audit, 0);
    assert_eq!(found["lost"], Value::Array(Vec::new()), "{found}");
    assert_eq!(found["checked"], SIZE.div_ceil(GRANULE), "{found}");
    let io = ["io", "-c", "write -P 9 1M 64k", "vm.qbm"];
    run(&mut scene.qbm(&io)).success();
    // In a hole, in data, in the last bytes; and in what is marked.
    for place in [20 << 20, (10 << 20) + 70_000, SIZE - 1, 1 << 20] {
        scene.change(place, true);
    }
    let before = fs::read(scene.path("vm.qbm")).unwrap();
    let found = scene.json(&audit, 3);
    let place = |index: usize| (&found["lost"][index]["start"], &found["lost"][index]["length"]);
    assert_eq!(found["lost"].as_array().unwrap().len(), 3, "{found}");
    assert_eq!(place(0), (&(161 * GRANULE).into(), &GRANULE.into()), "{found}");
    assert_eq!(place(1), (&(320 * GRANULE).into(), &GRANULE.into()), "{found}");
    assert_eq!(place(2), (&(640 * GRANULE).into(), &1000.into()), "{found}");
    assert_eq!(found["marked"], 1, "{found}");
    let told = run(&mut scene.qbm(&audit)).code(3).stdout;
    assert!(told.contains("1000 bytes at 41943040 differ from point"), "{told}");
    assert!(fs::read(scene.path("vm.qbm")).unwrap() == before, "an audit changes nothing");
}

#[test]
fn after_a_change_behind_our_back_a_rebuild_leads_to_an_exact_incremental_backup() {
    let scene = Scene::new();
    scene.change(10 << 20, false);
    let estimate = ["backup", "--estimate", "vm.qbm", "points"];
    assert_eq!(scene.json(&estimate, 0)["doubt"]["code"], "data-changed");
    let rebuilt = scene.json(&["rebuild", "vm.qbm", "points"], 0);
    assert_eq!(rebuilt["doubt-before"]["code"], "data-changed", "{rebuilt}");
    assert_eq!(rebuilt["marked-before"], SIZE.div_ceil(GRANULE), "{rebuilt}");
    assert_eq!(rebuilt["marked"], 1, "{rebuilt}");
    assert_eq!(scene.json(&["audit", "vm.qbm", "points"], 0)["doubt"], Value::Null);
    let report = scene.json(&["backup", "vm.qbm", "points"], 0);
    assert_eq!((&report["type"], &report["dirty"]), (&"incremental".into(), &GRANULE.into()));
    run(&mut scene.qbm(&["restore", "points", "out.raw"])).success();
    assert!(fs::read(scene.path("out.raw")).unwrap() == fs::read(scene.path("vm.raw")).unwrap());
}

#[test]
fn without_a_point_to_compare_with_the_bitmap_is_as_it_was() {
    let scene = Scene::new();
    fs::create_dir(scene.path("empty")).unwrap();
    for verb in ["audit", "rebuild"] {
        let refused = run(&mut scene.qbm(&[verb, "vm.qbm", "empty"])).code(1).stderr;
        assert!(refused.contains("is not in the target"), "{refused}");
        let refused = run(&mut scene.qbm(&[verb, "--bitmap", "b", "vm.qbm", "points"])).code(1);
        assert!(refused.stderr.contains("Dirty bitmap 'b' not found"), "{}", refused.stderr);
    }
    run(&mut scene.qbm(&["bitmap", "--clear", "vm.qbm", "backup"])).success();
    for verb in ["audit", "rebuild"] {
        let refused = run(&mut scene.qbm(&[verb, "vm.qbm", "points"])).code(1).stderr;
        assert!(refused.contains("not relative to any backup"), "{refused}");
    }
}
