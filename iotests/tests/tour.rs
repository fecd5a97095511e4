//! The main job, as a user of the real program sees it: a real file system with a real file tree,
//! backed up after each change, and restored.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use iotests::{qbm, run, tool};
use serde_json::Value;

/// The disk: 1 GiB, as in the README.
const SIZE: u64 = 1 << 30;
const GRANULE: usize = 64 << 10;

/// A folder with an ext4 image that holds a file tree, and what is done to it.
struct Tour {
    folder: tempfile::TempDir,
}

impl Tour {
    fn new() -> Self {
        let tour = Self { folder: tempfile::tempdir().unwrap() };
        let disk = tour.path("vm.raw");
        fs::File::create(&disk).unwrap().set_len(SIZE).unwrap();
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("qbm-core");
        run(tool("mke2fs").args(["-q", "-t", "ext4", "-d"]).arg(tree).arg(&disk)).success();
        tour
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn qbm(&self, arguments: &[&str]) -> String {
        run(qbm().current_dir(self.folder.path()).args(arguments)).success().stdout
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["--output", "json"]].concat();
        run(qbm().current_dir(self.folder.path()).args(arguments)).success().json()
    }

    /// Lets the file system change as a guest would change it: what e2fsprogs does to a copy is
    /// written through the image. Returns how many granules that touches.
    fn change(&self, commands: &str) -> u64 {
        let copy = self.path("copy.raw");
        run(tool("cp").arg("--sparse=always").arg(self.path("vm.raw")).arg(&copy)).success();
        run(tool("debugfs").args(["-w", "-R", commands]).arg(&copy)).success();
        let (old, new) = (fs::read(self.path("vm.raw")).unwrap(), fs::read(&copy).unwrap());
        let mut script = String::new();
        let mut granules = 0;
        for (index, (old, new)) in old.chunks(GRANULE).zip(new.chunks(GRANULE)).enumerate() {
            if old == new {
                continue;
            }
            granules += 1;
            let piece = self.path(&format!("piece-{index}"));
            fs::write(&piece, new).unwrap();
            let (file, offset) = (piece.display(), index * GRANULE);
            script += &format!("write -q -s {file} {offset} {GRANULE}\n");
        }
        script += "flush\n";
        let mut io = qbm();
        io.current_dir(self.folder.path()).args(["io", "vm.qbm"]);
        iotests::run_with_input(&mut io, &script).success();
        assert!(fs::read(self.path("vm.raw")).unwrap() == new, "the change was written");
        granules
    }
}

/// Two incrementals after changes; every point restores to the disk as it was, and an incremental
/// reads no more than what was changed.
#[test]
fn every_point_restores_to_the_disk_as_it_was() {
    let tour = Tour::new();
    tour.qbm(&["create", "--data-file", "vm.raw", "vm.qbm"]);
    let mut disks = Vec::new();
    let mut keep = |name: &str| {
        fs::copy(tour.path("vm.raw"), tour.path(name)).unwrap();
        disks.push(name.to_owned());
    };
    let full = tour.json(&["backup", "vm.qbm", "points"]);
    assert_eq!(full["type"], "full");
    assert_eq!(full["reason"]["code"], "no-parent");
    keep("disk-0");
    for (index, change) in ["write /etc/services services", "rm /Cargo.toml"].iter().enumerate() {
        let granules = tour.change(change);
        let report = tour.json(&["backup", "vm.qbm", "points"]);
        assert_eq!(report["type"], "incremental", "{report}");
        assert!(granules > 0);
        assert_eq!(report["dirty"], granules * GRANULE as u64, "exactly what was changed");
        assert!(report["read"].as_u64() <= report["dirty"].as_u64(), "{report}");
        keep(&format!("disk-{}", index + 1));
    }
    let points = tour.json(&["points", "points"]);
    let points = points.as_array().unwrap();
    assert_eq!(points.len(), 3);
    for (point, disk) in points.iter().zip(&disks) {
        let name = point["name"].as_str().unwrap();
        tour.qbm(&["restore", &format!("points@{name}"), "out.raw"]);
        run(tool("cmp").arg(tour.path("out.raw")).arg(tour.path(disk))).success();
        fs::remove_file(tour.path("out.raw")).unwrap();
    }
    tour.qbm(&["verify", "points"]);
    // A point is an image: the ordinary verbs work on it.
    let newest = format!("points/{}", points[2]["descriptor"].as_str().unwrap());
    tour.qbm(&["compare", "-F", "raw", &newest, "disk-2"]);
    let old = format!("points/{}", points[0]["descriptor"].as_str().unwrap());
    run(qbm().current_dir(tour.folder.path()).args(["compare", &newest, &old])).code(1);
    check_restore_in_place(&tour, points[0]["name"].as_str().unwrap());
}

/// The disk is put back by writing only what differs, through the image, so that the next backup
/// is incremental and right.
fn check_restore_in_place(tour: &Tour, oldest: &str) {
    let point = format!("points@{oldest}");
    tour.qbm(&["restore", "--in-place", "--changed-only", &point, "vm.qbm"]);
    run(tool("cmp").arg(tour.path("vm.raw")).arg(tour.path("disk-0"))).success();
    run(tool("e2fsck").args(["-fn"]).arg(tour.path("vm.raw"))).success();
    let report = tour.json(&["backup", "vm.qbm", "points"]);
    assert_eq!(report["type"], "incremental");
    assert!(report["dirty"].as_u64().unwrap() < SIZE / 100, "{report}");
    tour.qbm(&["restore", "points", "out.raw"]);
    run(tool("cmp").arg(tour.path("out.raw")).arg(tour.path("disk-0"))).success();
}

/// Damage to a point is found, and a missing one is named.
#[test]
fn verify_finds_a_changed_byte_and_a_missing_parent() {
    let folder = tempfile::tempdir().unwrap();
    let in_folder = |arguments: &[&str]| {
        let mut command = qbm();
        command.current_dir(folder.path()).args(arguments);
        command
    };
    fs::write(folder.path().join("vm.raw"), vec![5; 1 << 20]).unwrap();
    run(&mut in_folder(&["create", "--data-file", "vm.raw", "vm.qbm"])).success();
    run(&mut in_folder(&["backup", "vm.qbm", "points"])).success();
    run(&mut in_folder(&["backup", "vm.qbm", "points"])).success();
    let points = run(&mut in_folder(&["points", "points", "--output", "json"])).success().json();
    let name = |index: usize| points[index]["name"].as_str().unwrap().to_owned();
    run(&mut in_folder(&["verify", "points"])).success();
    let data = folder.path().join("points").join(format!("{}.raw", name(0)));
    let file = fs::File::options().write(true).open(data).unwrap();
    file.write_at(&[6], 70_000).unwrap();
    let found = run(&mut in_folder(&["verify", "points", "--output", "json"])).code(1).json();
    assert_eq!(found[0]["finding"]["code"], "damaged", "{found}");
    assert_eq!(found[0]["finding"]["areas"][0]["start"], GRANULE, "{found}");
    assert_eq!(found[0]["finding"]["areas"][0]["length"], GRANULE, "{found}");
    assert_eq!(found[1]["finding"], Value::Null, "{found}");
    fs::remove_file(folder.path().join("points").join(format!("{}.qbm", name(0)))).unwrap();
    let found = run(&mut in_folder(&["verify", "points", "--output", "json"])).code(1).json();
    assert_eq!(found[0]["finding"]["code"], "parent-missing", "{found}");
    // The image's bitmap is relative to a point that is there: but its chain cannot be read.
    let mut required = in_folder(&["backup", "--require-incremental", "vm.qbm", "elsewhere"]);
    let refused = run(&mut required).code(1);
    assert!(refused.stderr.contains("not in the target"), "{}", refused.stderr);
}
