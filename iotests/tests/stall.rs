//! A disk on a file system that does not answer.
//!
//! An open waits for as long as its file system does: there is no time at which giving up would be
//! right. What is promised is about everybody else. Needs root and `/dev/fuse`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use iotests::stalling::{FILE, Stalling};
use iotests::tree::Tree;
use iotests::{qbm, run};
use tempfile::TempDir;

const SIGKILL: i32 = 9;

/// The images `slow.qbm`, whose disk is on a file system of its own, and `quick.qbm`, each with a
/// bitmap.
fn images(slow: &Stalling) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let disk = slow.path().join(FILE);
    let text = format!(
        r#"{{"QBM": {{"version": 1, "image": {{"file": {disk:?}, "format": "raw"}}, "bitmaps": {{
        "b": {{"file": "b.bits", "granularity-bytes": 65536, "type": "dirty"}}}}}}}}"#
    );
    fs::write(folder.path().join("slow.qbm"), text).unwrap();
    fs::write(folder.path().join("b.bits"), [0; 2]).unwrap();
    let quick = |words: &[&str]| run(qbm().current_dir(&folder).args(words)).success();
    quick(&["create", "quick.qbm", "1M"]);
    quick(&["bitmap", "--add", "quick.qbm", "b"]);
    folder
}

/// A write to an image, begun.
fn start(folder: &TempDir, slow: &Stalling) -> Child {
    let mut command: Command = qbm();
    command.current_dir(folder).args(["io", "--allow-path"]).arg(slow.path());
    command.args(["-c", "write -q 0 4k", "slow.qbm"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn an_open_that_stalls_is_in_nobodys_way_and_goes_on_where_it_was() {
    let slow = Stalling::mount(1 << 20);
    let folder = images(&slow);
    let before = Tree::of(folder.path());
    let child = start(&folder, &slow);
    let waiting = slow.next();
    assert_eq!(before, Tree::of(folder.path()), "it has changed nothing yet");
    let quick = ["io", "-c", "write -q 0 4k", "quick.qbm"];
    run(qbm().current_dir(&folder).args(quick)).success();
    waiting.answer();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
    let bits = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let marked = bits.filter(|path| fs::read(path).unwrap() == [1, 0]).count();
    assert_eq!(marked, 2, "both disks were written to");
}

#[test]
fn an_open_that_is_killed_while_it_stalls_leaves_nothing() {
    let slow = Stalling::mount(1 << 20);
    let folder = images(&slow);
    let before = Tree::of(folder.path());
    let mut child = start(&folder, &slow);
    let waiting = slow.next();
    child.kill().unwrap();
    // The kernel lets a process go once its request is answered, and not before.
    waiting.answer();
    assert_eq!(child.wait().unwrap().signal(), Some(SIGKILL));
    assert_eq!(before, Tree::of(folder.path()), "no file came, went or changed");
    let again = start(&folder, &slow);
    slow.next().answer();
    let done = again.wait_with_output().unwrap();
    assert!(done.status.success(), "no lock was left: {done:?}");
}
