//! Commits into what is behind a disk that a guest writes to.

use std::fs;

use serde_json::{Value, json};

use super::super::qemu_io;
use super::{DISK, MIB, Scene, ours};

/// What the disk of [`scene`] reads as where no test writes.
const SHOWN: [&str; 4] =
    ["read -P 1 0 1M", "read -P 2 1M 1M", "read -P 5 2M 2M", "read -P 2 4M 4M"];

/// A server of an overlay `vm` over `mid.qbm` over `base.qbm`, which has 8 MiB of twos and a bitmap.
fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("base.raw"), vec![2; usize::try_from(8 * MIB).unwrap()]).unwrap();
    ours(path, &["create", "--data-file", "base.raw", "base.qbm"]).success();
    ours(path, &["bitmap", "--add", "base.qbm", "nightly"]).success();
    ours(path, &["create", "-b", "base.qbm", "-F", "qbm", "mid.qbm"]).success();
    ours(path, &["io", "-c", "write -P 5 2M 2M", "mid.qbm"]).success();
    ours(path, &["create", "-b", "mid.qbm", "-F", "qbm", "vm.qbm"]).success();
    ours(path, &["bitmap", "--add", "vm.qbm", "nightly"]).success();
    ours(path, &["create", "copy.qbm", "1M"]).success();
    Scene::of(folder)
}

fn commit(more: &Value) -> Value {
    let mut arguments = json!({ "job-id": "j", "device": "vm" });
    arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    arguments
}

/// The image behind `image`.
fn backing(folder: &tempfile::TempDir, image: &str) -> Value {
    let info = ours(folder.path(), &["info", "--output", "json", image]).success().json();
    info["backing-filename"].clone()
}

fn assert_reads(folder: &tempfile::TempDir, image: &str, lines: &[&str]) {
    let read: Vec<&str> = lines.iter().flat_map(|line| ["-c", line]).collect();
    ours(folder.path(), &[&["io"], &read[..], &[image]].concat()).success();
}

/// The dirty bytes of the bitmap of `image`.
fn marked(folder: &tempfile::TempDir, image: &str) -> u64 {
    let areas = ours(folder.path(), &["map", "--output", "json", "--bitmap", "nightly", image]);
    let areas = areas.success().json();
    let dirty = areas.as_array().unwrap().iter().filter(|area| area["dirty"] == true);
    dirty.map(|area| area["length"].as_u64().unwrap()).sum()
}

/// 040: an image between two others goes down while the guest goes on, and is not needed any more.
#[test]
fn what_is_committed_below_is_no_part_of_the_disk_any_more() {
    let mut scene = scene();
    scene.execute("block-commit", &commit(&json!({ "top": "mid.qbm", "speed": 1 << 20 })));
    qemu_io(scene.path(), DISK, &["write -P 3 7M 64k"]);
    let job = scene.job();
    assert_eq!((&job["type"], &job["ready"]), (&json!("commit"), &json!(false)));
    scene.execute("block-job-set-speed", &json!({ "device": "j", "speed": 0 }));
    let ended = scene.event("BLOCK_JOB_COMPLETED");
    assert!(ended["error"].is_null() && ended["type"] == "commit", "{ended}");
    let expected = [&SHOWN[..3], &["read -P 2 4M 3M", "read -P 3 7M 64k"]].concat();
    qemu_io(scene.path(), DISK, &expected);
    let folder = scene.stop();
    assert_eq!(backing(&folder, "vm.qbm"), "base.qbm");
    fs::remove_file(folder.path().join("mid.qbm")).unwrap();
    assert_reads(&folder, "vm.qbm", &expected);
    assert_eq!(marked(&folder, "base.qbm"), 2 * MIB, "its bitmap marks what was written to it");
}

/// 040: of the image in use all goes down, and when the job is completed the guest goes on in the base.
#[test]
fn a_disk_that_is_committed_goes_on_in_the_base() {
    let mut scene = scene();
    scene.execute("block-commit", &commit(&json!({ "base": "base.qbm" })));
    let ready = scene.event("BLOCK_JOB_READY");
    assert_eq!((&ready["type"], &ready["device"]), (&json!("commit"), &json!("j")));
    assert_eq!(scene.job()["ready"], true);
    qemu_io(scene.path(), DISK, &["write -P 3 7M 64k"]);
    scene.execute("block-job-complete", &json!({ "device": "j" }));
    let ended = scene.event("BLOCK_JOB_COMPLETED");
    assert!(ended["error"].is_null() && ended["len"] == ended["offset"], "{ended}");
    qemu_io(scene.path(), DISK, &["write -P 4 6M 64k"]);
    // What was over the base is not needed any more, and the base stays locked without it.
    scene.execute("blockdev-del", &json!({ "node-name": "vm" }));
    let refused = ours(scene.path(), &["io", "-c", "write 0 512", "base.qbm"]).code(1).stderr;
    assert!(refused.contains("lock"), "{refused}");
    let expected = [&SHOWN[..3], &["read -P 4 6M 64k", "read -P 3 7M 64k"]].concat();
    qemu_io(scene.path(), DISK, &expected);
    let folder = scene.stop();
    assert_reads(&folder, "base.qbm", &expected);
    assert_eq!(marked(&folder, "base.qbm"), 3 * MIB + 2 * 65536);
    // Persistent bitmaps stay with their node.
    assert_eq!(marked(&folder, "vm.qbm"), MIB + 65536);
}

/// 040: a raw base that is shorter than the disk is made longer, and is then the disk as it is.
#[test]
fn a_raw_base_becomes_the_disk_of_the_guest() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("base.raw"), vec![2; usize::try_from(4 * MIB).unwrap()]).unwrap();
    ours(folder.path(), &["create", "-b", "base.raw", "-F", "raw", "vm.qbm", "8M"]).success();
    ours(folder.path(), &["create", "copy.qbm", "1M"]).success();
    let mut scene = Scene::of(folder);
    qemu_io(scene.path(), DISK, &["write -P 3 6M 64k"]);
    scene.execute("block-commit", &commit(&json!({ "top-node": "vm" })));
    scene.event("BLOCK_JOB_READY");
    scene.execute("block-job-complete", &json!({ "device": "j" }));
    assert!(scene.event("BLOCK_JOB_COMPLETED")["error"].is_null());
    qemu_io(scene.path(), DISK, &["write -P 4 7M 64k"]);
    let folder = scene.stop();
    let base = fs::read(folder.path().join("base.raw")).unwrap();
    let byte = |mebibyte: u64| base[usize::try_from(mebibyte * MIB).unwrap()];
    assert_eq!((base.len() as u64, [0, 1, 4, 6, 7].map(byte)), (8 * MIB, [1, 2, 0, 3, 4]));
}

/// 040: a commit that was told to leave the disk where it is, or is cut short by a kill, changes nothing
/// of what it shows.
#[test]
fn a_commit_that_ends_otherwise_leaves_the_disk_over_its_base() {
    for kill in [false, true] {
        let mut scene = scene();
        scene.execute("block-commit", &commit(&json!({})));
        scene.event("BLOCK_JOB_READY");
        let folder = if kill {
            let Scene { folder, served, .. } = scene;
            served.kill();
            ours(folder.path(), &["check", "-r", "all", "base.qbm"]).success();
            folder
        } else {
            scene.execute("block-job-cancel", &json!({ "device": "j" }));
            scene.event("BLOCK_JOB_COMPLETED");
            qemu_io(scene.path(), DISK, &SHOWN);
            scene.stop()
        };
        assert_eq!(backing(&folder, "vm.qbm"), "mid.qbm");
        ours(folder.path(), &["check", "-r", "all", "vm.qbm"]).success();
        assert_reads(&folder, "vm.qbm", &SHOWN);
    }
}

/// 040: what is not in the chain, or the wrong way round.
#[test]
fn a_commit_names_two_images_of_the_chain_one_behind_the_other() {
    let mut scene = scene();
    let missing = "Can't find 'other.qbm' in the backing chain of 'vm'";
    let itself = "cannot commit an image into itself";
    for (more, what) in [
        (json!({ "base": "other.qbm" }), missing),
        (json!({ "top": "other.qbm" }), missing),
        (json!({ "top": "mid.qbm", "base": "mid.qbm" }), itself),
        (json!({ "top": "base.qbm" }), itself),
        (json!({ "top": "mid.qbm", "base": "vm.qbm" }), "'base' is not behind 'top'"),
    ] {
        assert_eq!(scene.refused("block-commit", &commit(&more)), what, "{more}");
    }
    assert_eq!(scene.refused("block-commit", &json!({ "device": "copy" })), itself);
    let nodes = scene.refused("block-commit", &commit(&json!({ "base-node": "base" })));
    assert!(nodes.contains("what is behind it has no nodes"), "{nodes}");
    scene.stop();
}

/// Whoever else reads the base keeps it from being written to; the disk goes on.
#[test]
fn a_base_of_two_disks_is_not_written_to() {
    let mut scene = scene();
    ours(scene.path(), &["create", "-b", "base.qbm", "-F", "qbm", "other.qbm"]).success();
    let other = scene.path().join("other.qbm");
    let other = json!({
        "driver": "qbm", "node-name": "other",
        "file": { "driver": "file", "filename": other },
    });
    scene.execute("blockdev-add", &other);
    scene.execute("block-commit", &commit(&json!({})));
    let ended = scene.event("BLOCK_JOB_COMPLETED");
    let error = ended["error"].as_str().unwrap();
    assert!(error.contains("base.raw: lock"), "{error}");
    scene.status("null");
    qemu_io(scene.path(), DISK, &SHOWN);
    scene.execute("blockdev-del", &json!({ "node-name": "other" }));
    scene.execute("block-commit", &commit(&json!({})));
    scene.event("BLOCK_JOB_READY");
    scene.execute("block-job-complete", &json!({ "device": "j" }));
    assert!(scene.event("BLOCK_JOB_COMPLETED")["error"].is_null());
    scene.stop();
}
