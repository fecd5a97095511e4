//! That what is asked of a refusal is looked at.

use std::fs;
use std::time::SystemTime;

use iotests::{refused, tool};

/// What is found of a program that is given a file.
fn found(script: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "text").unwrap();
    // Long before the script: the times of files have a tick of several milliseconds.
    fs::File::open(&folder).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    refused(folder.path(), tool("sh").current_dir(&folder).args(["-c", script]))
}

#[test]
fn a_refusal_changes_nothing_and_is_soon_over() {
    assert_eq!(found("echo qbm: no >&2; exit 1").unwrap(), "no");
    let refuse = "echo qbm: no >&2; exit 1";
    for (script, why) in [
        ("echo qbm: no >&2".to_owned(), "exit status: 0"),
        ("exit 1".to_owned(), "is not refused in one line"),
        (format!("echo out; {refuse}"), "is not refused in one line"),
        (format!("echo two >&2; {refuse}"), "is not refused in one line"),
        (format!("echo >> file; {refuse}"), "/file\"]"),
        (format!("touch new; rm new; {refuse}"), "has changed"),
        (format!("head -c 99000000 /dev/zero | tail -c 99000000; {refuse}"), "memory exhausted"),
        (format!("(ulimit -t 2; while :; do :; done); {refuse}"), "took "),
    ] {
        let error = found(&script).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}
