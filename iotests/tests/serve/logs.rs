//! What the operator is told on standard error.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use iotests::{Served, folder_with_image, qbm, run, tool};

use super::{MIB, ours, qemu_io};

/// What the server tells, with this in its environment, of a client that comes and goes and of changes by a
/// monitor.
fn told(folder: &Path, (variable, value): (&str, &str)) -> String {
    // A file of our own for standard error, whose identity is known beforehand.
    let mut command = tool("sh");
    command.current_dir(folder).env(variable, value);
    command.args(["-c", "exec \"$@\" 2>log", "sh"]).arg(qbm().get_program());
    let served = Served::spawn(command.args(["serve", "--socket", "qbm.sock", "vm.qbm"]), 1);
    qemu_io(folder, served.uri(), &["write 0 4k"]);
    ours(folder, &["bitmap", "--add", "vm.qbm", "weekly"]).success();
    ours(folder, &["bitmap", "--remove", "vm.qbm", "weekly"]).success();
    assert!(served.stop().0.success());
    fs::read_to_string(folder.join("log")).unwrap()
}

#[test]
fn the_operator_is_told_what_the_level_says() {
    let folder = folder_with_image(MIB);
    let folder = folder.path();
    let lines = told(folder, ("SOME", "thing"));
    assert_eq!(lines.lines().count(), 2, "{lines}");
    for line in lines.lines() {
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.len() == 20 && time.ends_with('Z'), "{line}");
        assert!(rest.starts_with("qbm: vm.qbm: "), "{line}");
    }
    assert_eq!(told(folder, ("QBM_LOG", "warn")), "");
    let lines = told(folder, ("QBM_LOG", "debug"));
    for expected in ["has connected", "is served export ''", "has gone"] {
        assert!(lines.contains(expected), "{expected}: {lines}");
    }
    let wrong = ["serve", "--socket", "s", "vm.qbm"];
    let refused = run(qbm().current_dir(folder).env("QBM_LOG", "loud").args(wrong));
    let levels = "it is none of off, error, warn, info, debug and trace";
    assert_eq!(refused.code(1).stderr, format!("qbm: QBM_LOG=loud: {levels}\n"));
}

/// systemd says by `JOURNAL_STREAM` which file is its journal's.
#[test]
fn the_journal_is_told_priorities_and_no_times() {
    let folder = folder_with_image(MIB);
    let folder = folder.path();
    let log = folder.join("log");
    File::create(&log).unwrap();
    let file = fs::metadata(&log).unwrap();
    let journal = format!("{}:{}", file.dev(), file.ino());
    let lines = told(folder, ("JOURNAL_STREAM", &journal));
    assert!(lines.lines().all(|line| line.starts_with("<6>vm.qbm: ")), "{lines}");
    // It may be another file, which the variable was not meant for.
    let lines = told(folder, ("JOURNAL_STREAM", "1:1"));
    assert!(lines.lines().all(|line| line.contains("Z qbm: vm.qbm: ")), "{lines}");
}
