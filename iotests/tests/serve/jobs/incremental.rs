//! What QEMU's numbered tests of incremental backups are about.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::{marked, qemu_io};
use super::{DISK, Scene, ours};

/// The arguments of a backup of `vm` by the bitmap `nightly` to the folder `target`.
fn arguments(scene: &Scene, target: &str, sync: &str) -> Value {
    let target = scene.path().join(target);
    let mut arguments = json!({
        "job-id": "j", "device": "vm", "bitmap": "nightly",
        "target": target.to_str().unwrap(), "sync": sync,
    });
    if sync == "bitmap" {
        arguments["bitmap-mode"] = json!("on-success");
    }
    arguments
}

/// Backs up; returns how it ended.
fn backup(scene: &mut Scene, target: &str, sync: &str) -> Value {
    let arguments = arguments(scene, target, sync);
    scene.execute("blockdev-backup", &arguments);
    let ended = scene.event("BLOCK_JOB_COMPLETED");
    // Its id is free again.
    scene.status("null");
    ended
}

/// The bitmap `name` of the node, as a monitor is told.
fn bitmap(scene: &mut Scene, node: &str, name: &str) -> Value {
    let nodes = scene.execute("query-named-block-nodes", &json!({}));
    let node = nodes.as_array().unwrap().iter().find(|it| it["node-name"] == node).unwrap();
    let bitmaps = node["dirty-bitmaps"].as_array().unwrap();
    bitmaps.iter().find(|it| it["name"] == name).cloned().unwrap_or_default()
}

/// Where the point is that a job has told.
fn point(scene: &Scene, ended: &Value) -> PathBuf {
    let name = ended["x-point"]["name"].as_str().unwrap_or_else(|| panic!("{ended}"));
    scene.path().join("points").join(format!("{name}.qbm"))
}

/// 124: each backup has what was written since the one before, and is the disk of its instant.
#[test]
fn each_incremental_backup_is_the_disk_of_its_instant() {
    let mut scene = Scene::new(8);
    let mut points = Vec::new();
    for value in 1..=4 {
        qemu_io(scene.path(), DISK, &[&format!("write -P {value} {value}M 64k")]);
        let ended = backup(&mut scene, "points", "bitmap");
        assert_eq!(bitmap(&mut scene, "vm", "nightly")["count"], 0);
        points.push((value, ended["len"].as_u64().unwrap(), point(&scene, &ended)));
    }
    let nothing = backup(&mut scene, "points", "incremental");
    assert_eq!((&nothing["error"], &nothing["len"]), (&Value::Null, &json!(0)), "nothing is new");
    let folder = scene.stop();
    for (value, stored, path) in points {
        assert_eq!(stored, if value == 1 { 8 << 20 } else { 64 << 10 });
        let (own, next) = (format!("read -P {value} {value}M 64k"), value + 1);
        let later = format!("read -P 0 {next}M 64k");
        let path = path.to_str().unwrap();
        ours(folder.path(), &["io", "-r", "-c", &own, "-c", &later, path]).success();
    }
}

/// 124: one that is refused costs no mark, whatever is written meanwhile; the next one has all.
#[test]
fn the_backup_after_one_that_was_refused_has_what_that_should_have_had() {
    let mut scene = Scene::new(8);
    let refused = |scene: &mut Scene, target| {
        let arguments = arguments(scene, target, "incremental");
        scene.refused("blockdev-backup", &arguments)
    };
    let error = refused(&mut scene, "points");
    assert!(error.contains("an incremental backup is not possible"), "{error}");
    assert!(backup(&mut scene, "points", "full")["error"].is_null());
    qemu_io(scene.path(), DISK, &["write -P 5 2M 64k"]);
    // Where the point is not that it is relative to.
    let error = refused(&mut scene, "others");
    assert!(error.contains("is not in the target"), "{error}");
    qemu_io(scene.path(), DISK, &["write -P 6 3M 64k"]);
    let ended = backup(&mut scene, "points", "incremental");
    assert_eq!((&ended["error"], &ended["len"]), (&Value::Null, &json!(128 << 10)));
    let path = point(&scene, &ended);
    let folder = scene.stop();
    let read = ["io", "-r", "-c", "read -P 5 2M 64k", "-c", "read -P 6 3M 64k"];
    ours(folder.path(), &[&read[..], &[path.to_str().unwrap()]].concat()).success();
}

/// 165: all that a bitmap is, it is when the server comes again.
#[test]
fn bitmaps_are_after_a_restart_what_they_were() {
    let mut scene = Scene::new(8);
    for (name, granularity, disabled) in [("fine", 4096, false), ("quiet", 1 << 20, true)] {
        let add = json!({
            "node": "vm", "name": name, "granularity": granularity,
            "disabled": disabled, "persistent": true,
        });
        scene.execute("block-dirty-bitmap-add", &add);
    }
    qemu_io(scene.path(), DISK, &["write 5M 512"]);
    let told = |scene: &mut Scene| {
        ["nightly", "fine", "quiet"].map(|name| {
            let bitmap = bitmap(scene, "vm", name);
            let facts = ["granularity", "count", "recording", "persistent", "inconsistent"];
            facts.map(|fact| bitmap[fact].clone())
        })
    };
    let before = told(&mut scene);
    assert_eq!((&before[1][1], &before[2][1]), (&json!(4096), &json!(0)), "what they record");
    let folder = scene.stop();
    let mut scene = Scene::start(folder);
    assert_eq!(told(&mut scene), before);
    qemu_io(scene.path(), DISK, &["write 6M 512"]);
    assert_eq!(bitmap(&mut scene, "vm", "fine")["count"], 8192, "and goes on");
    scene.stop();
}

/// 254: at one instant a new bitmap begins to record, an old one ends, and a third has the marks of both.
#[test]
fn bitmaps_take_turns_at_one_instant() {
    let mut scene = Scene::new(8);
    let action = |kind: &str, data: Value| json!({ "type": kind, "data": data });
    let of = |name: &str| json!({ "node": "vm", "name": name });
    let mut actions = vec![
        action("block-dirty-bitmap-add", of("day")),
        action("block-dirty-bitmap-add", of("both")),
        action("block-dirty-bitmap-disable", of("nightly")),
        action(
            "block-dirty-bitmap-merge",
            json!({
                "node": "vm", "target": "both", "bitmaps": ["nightly", "day"],
            }),
        ),
    ];
    scene.execute("transaction", &json!({ "actions": actions }));
    qemu_io(scene.path(), DISK, &["write 4M 64k"]);
    let mut counts = |names: [&str; 3]| {
        names.map(|name| bitmap(&mut scene, "vm", name)["count"].as_u64().map(|it| it >> 16))
    };
    assert_eq!(counts(["nightly", "day", "both"]), [Some(16), Some(1), Some(17)]);
    // One that cannot be done undoes the others.
    actions = vec![
        action("block-dirty-bitmap-clear", of("both")),
        action(
            "block-dirty-bitmap-merge",
            json!({
                "node": "vm", "target": "both", "bitmaps": ["missing"],
            }),
        ),
    ];
    let refused = scene.refused("transaction", &json!({ "actions": actions }));
    assert_eq!(refused, "Dirty bitmap 'missing' not found");
    assert_eq!(bitmap(&mut scene, "vm", "both")["count"], 17 << 16);
    scene.stop();
}

/// 257: with `on-success` a bitmap is relative to the point once that is there, and to the one before if
/// the backup is cancelled.
#[test]
fn a_bitmap_follows_the_backups_that_succeed() {
    let mut scene = Scene::new(8);
    assert!(backup(&mut scene, "points", "bitmap")["error"].is_null());
    qemu_io(scene.path(), DISK, &["write -P 5 2M 1M"]);
    let target = scene.path().join("points");
    let cancelled = json!({
        "job-id": "j", "device": "vm", "bitmap": "nightly", "target": target.to_str().unwrap(),
        "sync": "bitmap", "bitmap-mode": "on-success", "speed": 1,
    });
    scene.execute("blockdev-backup", &cancelled);
    assert_eq!(bitmap(&mut scene, "vm", "nightly")["busy"], true);
    // What is written meanwhile is marked too.
    qemu_io(scene.path(), DISK, &["write -P 6 4M 64k"]);
    scene.execute("job-cancel", &json!({ "id": "j" }));
    scene.event("BLOCK_JOB_CANCELLED");
    scene.status("null");
    assert_eq!(bitmap(&mut scene, "vm", "nightly")["count"], (1 << 20) + (64 << 10));
    let ended = backup(&mut scene, "points", "incremental");
    assert_eq!(ended["len"], (1 << 20) + (64 << 10));
    let folder = scene.stop();
    assert_eq!(marked(folder.path()), Vec::<u64>::new());
}

/// 056 and 257: what has no meaning for points is refused, and no job begins.
#[test]
fn a_backup_that_cannot_be_a_point_is_refused() {
    let mut scene = Scene::new(1);
    let target = scene.path().join("points");
    for (sync, mode) in [("none", None), ("top", None), ("bitmap", Some("always"))] {
        let mut arguments = json!({
            "job-id": "j", "device": "vm", "bitmap": "nightly",
            "target": target.to_str().unwrap(), "sync": sync,
        });
        if let Some(mode) = mode {
            arguments["bitmap-mode"] = json!(mode);
        }
        let refused = scene.refused("blockdev-backup", &arguments);
        assert!(refused.contains(mode.unwrap_or(sync)), "{refused}");
    }
    assert_eq!(scene.execute("query-jobs", &json!({})), json!([]));
    scene.stop();
}

/// 281: when a disk moves under its guest, a bitmap in memory goes along and records on; a persistent one
/// stays where it is.
#[test]
fn bitmaps_in_memory_go_along_with_a_disk_that_moves() {
    let mut scene = Scene::new(8);
    let fly = json!({ "node": "vm", "name": "fly", "granularity": 65536 });
    scene.execute("block-dirty-bitmap-add", &fly);
    qemu_io(scene.path(), DISK, &["write 1M 64k"]);
    scene.mirror(&json!({}));
    scene.event("BLOCK_JOB_READY");
    qemu_io(scene.path(), DISK, &["write 2M 64k"]);
    scene.execute("job-complete", &json!({ "id": "j" }));
    scene.event("BLOCK_JOB_COMPLETED");
    qemu_io(scene.path(), DISK, &["write 3M 64k"]);
    let there = bitmap(&mut scene, "copy", "fly");
    let facts = (&there["count"], &there["recording"], &there["persistent"]);
    assert_eq!(facts, (&json!(3 << 16), &json!(true), &json!(false)));
    assert_eq!(bitmap(&mut scene, "vm", "nightly")["count"], 18 << 16, "as the disk was left");
    let folder = scene.stop();
    assert_eq!(marked(folder.path()).len(), 18);
}
