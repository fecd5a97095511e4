//! Mirrors of a disk that a guest writes to.

use std::fs;
use std::path::Path;
use std::thread;

use serde_json::json;

use super::super::{nbdsh, qemu_io};
use super::{DISK, Scene, assert_same};

/// Bytes that the guest writes at a time.
const BLOCK: usize = 64 << 10;
/// How many blocks it writes to.
const BLOCKS: usize = 64;

/// Writes all the while, by one connection, until there is a file `stop`; returns how often.
fn guest(folder: &Path) -> usize {
    let script = format!(
        "import os\n\
         h.connect_uri(uri)\n\
         n = 0\n\
         while not os.path.exists('stop'):\n    \
             h.pwrite(bytes([n % 251 + 1]) * {BLOCK}, n * 7 % {BLOCKS} * {BLOCK})\n    \
             n += 1\n\
         h.flush()\n\
         print(n)\n"
    );
    nbdsh(folder, DISK, &script).stdout.trim().parse().unwrap()
}

/// Asserts that `disk` is what a guest has left that wrote so often.
fn assert_written(disk: &[u8], writes: usize) {
    for number in writes.saturating_sub(BLOCKS)..writes {
        let block = &disk[number * 7 % BLOCKS * BLOCK..][..BLOCK];
        let value = u8::try_from(number % 251 + 1).unwrap();
        assert!(block.iter().all(|byte| *byte == value), "write {number} of {writes} is lost");
    }
}

/// 041: a mirror is completed under a guest, who goes on by the same connection, on the target.
#[test]
fn a_guest_moves_to_the_target_and_does_not_notice() {
    for copy_mode in ["background", "write-blocking"] {
        let mut scene = Scene::new(4);
        let folder = scene.path().to_owned();
        let guest = thread::spawn(move || guest(&folder));
        scene.mirror(&json!({ "copy-mode": copy_mode }));
        scene.event("BLOCK_JOB_READY");
        assert_eq!(scene.job()["actively-synced"], copy_mode == "write-blocking");
        scene.execute("job-complete", &json!({ "id": "j" }));
        let ended = scene.event("BLOCK_JOB_COMPLETED");
        assert!(ended["error"].is_null() && ended["len"] == ended["offset"], "{ended}");
        scene.status("null");
        let exports = scene.execute("query-block-exports", &json!({}));
        assert_eq!(exports[0]["node-name"], "copy");
        fs::write(scene.path().join("stop"), "").unwrap();
        let writes = guest.join().unwrap();
        qemu_io(scene.path(), DISK, &["read -P 0 4063232 512"]);
        let folder = scene.stop();
        assert_written(&fs::read(folder.path().join("copy.raw")).unwrap(), writes);
        super::ours(folder.path(), &["check", "copy.qbm"]).success();
        super::ours(folder.path(), &["check", "vm.qbm"]).success();
    }
}

/// 041: one that is cancelled once it is ready leaves a copy, and the guest where it is.
#[test]
fn a_mirror_cancelled_when_it_is_ready_is_a_copy() {
    let mut scene = Scene::new(4);
    scene.mirror(&json!({}));
    scene.event("BLOCK_JOB_READY");
    qemu_io(scene.path(), DISK, &["write -P 9 2M 64k"]);
    scene.execute("block-job-cancel", &json!({ "device": "j" }));
    scene.event("BLOCK_JOB_COMPLETED");
    scene.status("null");
    let exports = scene.execute("query-block-exports", &json!({}));
    assert_eq!(exports[0]["node-name"], "vm");
    let folder = scene.stop();
    assert_same(folder.path(), "vm.qbm", "copy.qbm");
}

/// 041: one that is cancelled on its way, or by force, changes nothing of the disk.
#[test]
fn a_mirror_that_is_cancelled_by_force_leaves_the_disk_alone() {
    for ready in [false, true] {
        // More than is copied at a time.
        let mut scene = Scene::new(16);
        scene.mirror(&json!({ "speed": if ready { 0 } else { 1 } }));
        if ready {
            scene.event("BLOCK_JOB_READY");
        }
        scene.execute("block-job-cancel", &json!({ "device": "j", "force": ready }));
        scene.event("BLOCK_JOB_CANCELLED");
        scene.status("null");
        assert_eq!(scene.execute("query-jobs", &json!({})), json!([]));
        qemu_io(scene.path(), DISK, &["read -P 1 0 1M", "write -P 2 0 64k"]);
        // And it can be mirrored again.
        scene.mirror(&json!({}));
        scene.event("BLOCK_JOB_READY");
        scene.execute("job-cancel", &json!({ "id": "j" }));
        scene.event("BLOCK_JOB_CANCELLED");
        scene.stop();
    }
}

/// 041: what does not fit, or is no node, is refused before anything is done.
#[test]
fn a_mirror_is_refused_where_it_cannot_be() {
    let mut scene = Scene::new(4);
    let cases = [
        (
            json!({ "granularity": 256 }),
            "Parameter 'granularity' expects a value in range [512B, 64MB]",
        ),
        (
            json!({ "granularity": 128 << 20 }),
            "Parameter 'granularity' expects a value in range [512B, 64MB]",
        ),
        (json!({ "granularity": 1000 }), "Parameter 'granularity' expects a power of 2"),
        (json!({ "speed": -1 }), "Parameter 'speed' expects a non-negative value"),
        (json!({ "buf-size": -1 }), "Invalid parameter 'buf-size'"),
        (json!({ "sync": "incremental" }), "Sync mode 'incremental' not supported"),
        (json!({ "target": "none" }), "Cannot find device='none' nor node-name='none'"),
        (json!({ "device": "none" }), "Cannot find device='none' nor node-name='none'"),
        (json!({ "job-id": "9" }), "Invalid job ID '9'"),
        (json!({ "target": "vm" }), "Can't mirror node into itself"),
    ];
    for (more, what) in cases {
        assert_eq!(scene.refused("blockdev-mirror", &super::mirror(&more)), what);
    }
    let back = json!({ "device": "copy", "target": "vm" });
    let what = "Node 'vm' is exported: nobody but the job may write to it";
    assert_eq!(scene.refused("blockdev-mirror", &super::mirror(&back)), what);
    assert_eq!(scene.execute("query-jobs", &json!({})), json!([]));
    scene.stop();
}

/// 041 and 132: the disks have to have the same size; the job says so at its end.
#[test]
fn a_mirror_to_a_disk_of_another_size_fails() {
    for of_target in [2, 8] {
        let mut scene = Scene::with_target(4, of_target);
        scene.mirror(&json!({}));
        let ended = scene.event("BLOCK_JOB_COMPLETED");
        let error = ended["error"].as_str().unwrap();
        assert!(error.starts_with("vm.qbm: it has 4194304 bytes, and the target"), "{error}");
        scene.stop();
    }
}

/// 041: small and large granularities.
#[test]
fn a_mirror_of_any_granularity_is_the_disk() {
    for granularity in [512, 8192, 64 << 20] {
        let mut scene = Scene::new(4);
        scene.mirror(&json!({ "granularity": granularity }));
        scene.event("BLOCK_JOB_READY");
        qemu_io(
            scene.path(),
            DISK,
            &["write -P 5 1048064 1k", "write -z 512k 64k", "discard 0 64k"],
        );
        scene.execute("job-complete", &json!({ "id": "j" }));
        scene.event("BLOCK_JOB_COMPLETED");
        let folder = scene.stop();
        assert_same(folder.path(), "vm.qbm", "copy.qbm");
    }
}

/// 041: with `sync: none` only what is written from then on is copied.
#[test]
fn a_mirror_of_nothing_has_what_is_written_later() {
    let mut scene = Scene::new(4);
    scene.mirror(&json!({ "sync": "none" }));
    scene.event("BLOCK_JOB_READY");
    qemu_io(scene.path(), DISK, &["write -P 6 2M 64k"]);
    scene.execute("block-job-cancel", &json!({ "device": "j" }));
    scene.event("BLOCK_JOB_COMPLETED");
    let folder = scene.stop();
    let copy = fs::read(folder.path().join("copy.raw")).unwrap();
    let written = 2 << 20..(2 << 20) + BLOCK;
    assert!(copy[written.clone()].iter().all(|byte| *byte == 6));
    assert_eq!(copy.iter().filter(|byte| **byte != 0).count(), written.len());
}

/// What is written to the target is marked there, for its own backups.
#[test]
fn a_mirror_marks_what_it_writes_to_an_image() {
    let mut scene = Scene::new(4);
    scene.mirror(&json!({}));
    scene.event("BLOCK_JOB_READY");
    scene.execute("job-complete", &json!({ "id": "j" }));
    scene.event("BLOCK_JOB_COMPLETED");
    qemu_io(scene.path(), DISK, &["write -P 7 3M 64k"]);
    let folder = scene.stop();
    let map = ["map", "--bitmap", "nightly", "--output", "json", "copy.qbm"];
    let map = super::ours(folder.path(), &map).success().json();
    let dirty = map.as_array().unwrap().iter().filter(|extent| extent["dirty"] == true);
    let dirty: Vec<_> = dirty.map(|extent| (&extent["start"], &extent["length"])).collect();
    let (mib, block) = (json!(1 << 20), json!(BLOCK));
    assert_eq!(dirty, [(&json!(0), &mib), (&json!(3 << 20), &block)]);
}

/// A kill at any time leaves the disk where it was, or where it has moved: never in between.
#[test]
fn a_kill_of_a_mirror_leaves_the_disk() {
    let mut scene = Scene::new(4);
    scene.mirror(&json!({ "speed": 1 }));
    qemu_io(scene.path(), DISK, &["write -P 8 1M 64k", "flush"]);
    let Scene { folder, served, .. } = scene;
    served.kill();
    let commands = ["io", "-c", "read -P 1 0 1M", "-c", "read -P 8 1M 64k", "vm.qbm"];
    super::ours(folder.path(), &commands).success();
    super::ours(folder.path(), &["check", "-r", "all", "copy.qbm"]).success();
}

/// 132: a disk moves to a plain file, which then has nothing of QBM about it.
#[test]
fn a_guest_moves_to_a_raw_disk() {
    let mut scene = Scene::new(4);
    let raw = scene.path().join("raw.img");
    fs::File::create(&raw).unwrap().set_len(4 << 20).unwrap();
    let file = json!({ "driver": "file", "filename": raw.to_str().unwrap() });
    scene.execute("blockdev-add", &json!({ "driver": "raw", "node-name": "r", "file": file }));
    let folder = scene.path().to_owned();
    let guest = thread::spawn(move || guest(&folder));
    scene.mirror(&json!({ "target": "r" }));
    scene.event("BLOCK_JOB_READY");
    scene.execute("job-complete", &json!({ "id": "j" }));
    let ended = scene.event("BLOCK_JOB_COMPLETED");
    assert!(ended["error"].is_null(), "{ended}");
    scene.status("null");
    assert_eq!(scene.execute("query-block-exports", &json!({}))[0]["node-name"], "r");
    fs::write(scene.path().join("stop"), "").unwrap();
    let writes = guest.join().unwrap();
    let folder = scene.stop();
    assert_written(&fs::read(folder.path().join("raw.img")).unwrap(), writes);
}

/// 139: a node goes when nobody uses it any more, and not before.
#[test]
fn a_node_is_removed_once_its_disk_has_moved() {
    let mut scene = Scene::new(4);
    scene.mirror(&json!({}));
    scene.event("BLOCK_JOB_READY");
    for name in ["vm", "copy"] {
        let what = scene.refused("blockdev-del", &json!({ "node-name": name }));
        assert_eq!(what, format!("Node {name} is in use"));
    }
    scene.execute("job-complete", &json!({ "id": "j" }));
    scene.status("null");
    let what = scene.refused("blockdev-del", &json!({ "node-name": "copy" }));
    assert_eq!(what, "Node copy is in use");
    scene.execute("blockdev-del", &json!({ "node-name": "vm" }));
    qemu_io(scene.path(), DISK, &["read -P 1 0 1M", "write -P 2 0 64k"]);
    scene.stop();
}
