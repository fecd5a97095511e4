//! Backups that are held up, ended, and finalized by hand.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::qemu_io;
use super::{DISK, Scene};

fn backup(folder: &Path, more: &Value) -> Value {
    let target = folder.join("points");
    let mut arguments = json!({
        "job-id": "j", "device": "vm", "target": target.to_str().unwrap(),
        "sync": "bitmap", "bitmap": "nightly", "bitmap-mode": "on-success",
    });
    arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    arguments
}

/// The points in the target.
fn points(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder.join("points")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|ending| ending == "qbm")).collect()
}

/// 055: a backup that is paused gets no further, and then is the disk of its beginning.
#[test]
fn a_backup_that_was_paused_is_the_disk_of_its_beginning() {
    let mut scene = Scene::new(8);
    let begin = backup(scene.path(), &json!({ "speed": 1 << 20 }));
    scene.execute("blockdev-backup", &begin);
    scene.execute("job-pause", &json!({ "id": "j" }));
    scene.status("paused");
    let at = scene.job();
    assert_eq!((&at["paused"], &at["status"]), (&json!(true), &json!("paused")));
    qemu_io(scene.path(), DISK, &["write -P 9 0 8M"]);
    assert_eq!(scene.job()["offset"], at["offset"]);
    scene.execute("block-job-set-speed", &json!({ "device": "j", "speed": 0 }));
    scene.execute("job-resume", &json!({ "id": "j" }));
    scene.event("BLOCK_JOB_COMPLETED");
    let folder = scene.stop();
    let [point] = &points(folder.path())[..] else { panic!("one point") };
    let read = ["io", "-r", "-c", "read -P 1 0 1M", "-c", "read -P 0 1M 7M"];
    super::ours(folder.path(), &[&read[..], &[point.to_str().unwrap()]].concat()).success();
}

/// 056: a backup that is cancelled leaves no point, and its bitmap all marks.
#[test]
fn a_backup_that_is_cancelled_leaves_no_point_and_all_marks() {
    let mut scene = Scene::new(8);
    let begin = backup(scene.path(), &json!({ "speed": 1 }));
    scene.execute("blockdev-backup", &begin);
    scene.execute("block-job-cancel", &json!({ "device": "j" }));
    scene.event("BLOCK_JOB_CANCELLED");
    scene.status("null");
    let folder = scene.stop();
    assert_eq!(points(folder.path()), Vec::<PathBuf>::new());
    assert_eq!(super::super::marked(folder.path()), (0..16).collect::<Vec<_>>());
}

/// 056: one that is finalized by hand counts only then; cancelled instead, it does not.
#[test]
fn a_backup_counts_once_it_is_finalized() {
    for finalizes in [false, true] {
        let mut scene = Scene::new(4);
        let by_hand = json!({ "auto-finalize": false, "auto-dismiss": false });
        let begin = backup(scene.path(), &by_hand);
        scene.execute("blockdev-backup", &begin);
        assert_eq!(scene.event("BLOCK_JOB_PENDING"), json!({ "id": "j", "type": "backup" }));
        assert_eq!(points(scene.path()), Vec::<PathBuf>::new());
        let verb = if finalizes { "job-finalize" } else { "job-cancel" };
        scene.execute(verb, &json!({ "id": "j" }));
        scene.status("concluded");
        assert_eq!(points(scene.path()).len(), usize::from(finalizes));
        let jobs = scene.execute("query-jobs", &json!({}));
        let error = if finalizes { Value::Null } else { json!("Operation canceled") };
        assert_eq!((&jobs[0]["status"], &jobs[0]["error"]), (&json!("concluded"), &error));
        scene.execute("job-dismiss", &json!({ "id": "j" }));
        assert_eq!(scene.execute("query-jobs", &json!({})), json!([]));
        let folder = scene.stop();
        let marked = super::super::marked(folder.path()).len();
        assert_eq!(marked, if finalizes { 0 } else { 16 });
    }
}
