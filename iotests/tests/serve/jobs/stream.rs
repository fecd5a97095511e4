//! Streams of an overlay that a guest writes to.

use std::fs;

use serde_json::json;

use super::super::qemu_io;
use super::{DISK, MIB, Scene, ours};

/// A server of an overlay `vm` over a raw disk of so many MiB of twos.
fn scene(mebibytes: u64) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let base = vec![2; usize::try_from(mebibytes * MIB).unwrap()];
    fs::write(folder.path().join("base.raw"), base).unwrap();
    ours(folder.path(), &["create", "-b", "base.raw", "-F", "raw", "vm.qbm"]).success();
    ours(folder.path(), &["create", "copy.qbm", "1M"]).success();
    Scene::of(folder)
}

/// 030: what is behind it comes up while the guest goes on, and then nothing is behind it.
#[test]
fn a_streamed_disk_needs_nothing_behind_it() {
    let mut scene = scene(8);
    scene.execute("block-stream", &json!({ "job-id": "j", "device": "vm", "speed": 1 << 20 }));
    qemu_io(scene.path(), DISK, &["write -P 3 4M 64k", "write -P 4 7M 64k"]);
    assert_eq!(scene.job()["type"], "stream");
    scene.execute("block-job-set-speed", &json!({ "device": "j", "speed": 0 }));
    let ended = scene.event("BLOCK_JOB_COMPLETED");
    assert!(ended["error"].is_null() && ended["len"] == ended["offset"], "{ended}");
    let expected = ["read -P 1 0 1M", "read -P 2 1M 3M", "read -P 3 4M 64k", "read -P 4 7M 64k"];
    qemu_io(scene.path(), DISK, &expected);
    let folder = scene.stop();
    fs::remove_file(folder.path().join("base.raw")).unwrap();
    let info = ours(folder.path(), &["info", "--output", "json", "vm.qbm"]).success().json();
    assert!(info["backing-filename"].is_null(), "{info}");
    let read: Vec<&str> = expected.iter().flat_map(|line| ["-c", line]).collect();
    ours(folder.path(), &[&["io"], &read[..], &["vm.qbm"]].concat()).success();
}

/// 030: one that is cancelled or killed leaves it an overlay, and the disk what it was.
#[test]
fn a_stream_that_is_cut_short_leaves_an_overlay() {
    for kill in [false, true] {
        let mut scene = scene(8);
        scene.execute("block-stream", &json!({ "job-id": "j", "device": "vm", "speed": 1 << 20 }));
        let folder = if kill {
            let Scene { folder, served, .. } = scene;
            served.kill();
            folder
        } else {
            scene.execute("job-cancel", &json!({ "id": "j" }));
            scene.event("BLOCK_JOB_CANCELLED");
            scene.stop()
        };
        let info = ours(folder.path(), &["info", "--output", "json", "vm.qbm"]).success().json();
        assert_eq!(info["backing-filename"], "base.raw");
        let read = ["io", "-c", "read -P 2 1M 7M", "vm.qbm"];
        ours(folder.path(), &read).success();
    }
}

/// 030: what has nothing behind it fails, and the disk goes on.
#[test]
fn a_disk_that_is_no_overlay_cannot_be_streamed() {
    let mut scene = scene(1);
    scene.execute("block-stream", &json!({ "job-id": "j", "device": "copy" }));
    let ended = scene.event("BLOCK_JOB_COMPLETED");
    let error = ended["error"].as_str().unwrap();
    assert!(error.contains("it has no allocation bitmap"), "{error}");
    assert_eq!(
        scene.refused("block-stream", &json!({ "device": "none" })),
        "Cannot find device='none' nor node-name='none'"
    );
    scene.stop();
}
