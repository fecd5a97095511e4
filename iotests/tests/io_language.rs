//! `qbm io` beside qemu-io: the same commands, one after the other, on an image and on a raw file.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

use iotests::{Finished, qbm, run, run_with_input, tool};

/// What is run, in this order; each must say the same, succeed or fail alike, and leave the same.
const COMMANDS: &[&str] = &[
    "length",
    "write 0 4k",
    "write -P 7 4k 4k",
    "write -P 0xff 100 50",
    "write -q -P 9 8k 512",
    "w -qP 9 9k 1",
    "write -C -P 1 12k 4k",
    "write -f -P 2 64k 64k",
    "write -P 3 -f -q 1023k 1k",
    "read -P 7 4k 4k",
    "read -P 8 4k 4k",
    "read -P 7 -s 100 -l 10 4000 4k",
    "read -P 205 0 100",
    "read -v 90 70",
    "read -v -P 255 100 20",
    "read -q 0 1M",
    "r -C 0 64k",
    "read -p 0 4k",
    "read -r 0 4k",
    "readv 0 1k 1k 1k",
    "readv -P 7 4k 1k 1k",
    "readv -v 0 16 16",
    "writev -P 5 20k 512 512 1k",
    "writev 30k 1k",
    "write -z 4k 4k",
    "read -P 0 4k 4k",
    "write -z -u 64k 64k",
    "read -P 0 64k 64k",
    "write -z -n 0 4k",
    "write -zu 0 4k",
    "write -s pattern 100k 10k",
    "read -v 100k 32",
    "discard 128k 64k",
    "discard -q 128k 64k",
    "discard -C 128k 64k",
    "flush",
    "aio_write -P 6 200k 4k",
    "aio_flush",
    "aio_read -P 6 200k 4k",
    "aio_flush",
    "aio_read -P 7 200k 4k",
    "aio_flush",
    "aio_write -z 200k 4k",
    "aio_flush",
    "alloc 0 64k",
    "alloc 0",
    "map",
    "truncate 2M",
    "length",
    "read -P 0 1M 1M",
    "truncate 1M",
    "length",
    "sleep 1",
    "help",
    "help read",
    "q",
    "",
    "   ",
    // What is wrong.
    "nonsense",
    "write",
    "write 0",
    "write 0 x",
    "write x 0",
    "write 0 4k 4k",
    "write -Z 0 4k",
    "write -1 4k",
    "write 0 -1",
    "write -P",
    "write -P 256 0 4k",
    "write -P x 0 4k",
    "write -z -P 3 0 4k",
    "write -u 0 4k",
    "write -s nowhere 0 4k",
    "write 1M 1",
    "write 1023k 2k",
    "write 8E 1",
    "write 0 3G",
    "read 1M 1",
    "read 2M 4k",
    "read -s 5 0 4k",
    "read -l 5 0 4k",
    "read -P 1 -s 4k -l 1 0 4k",
    "read 0 1.3",
    "discard 2M 4k",
    "discard 0",
    "length 3",
    "map 3",
    "flush 1",
    "alloc 2M",
    "truncate",
    "truncate x",
    "sleep x",
    "help nonsense",
];

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("pattern"), "not just one byte ").unwrap();
    fs::File::create(folder.path().join("theirs.raw")).unwrap().set_len(1 << 20).unwrap();
    run(qbm().current_dir(folder.path()).args(["create", "ours.qbm", "1M"])).success();
    folder
}

fn ours(folder: &Path, command: &str) -> Finished {
    run(qbm().current_dir(folder).args(["io", "-c", command, "ours.qbm"]))
}

fn theirs(folder: &Path, command: &str) -> Finished {
    let arguments = ["-f", "raw", "-c", command, "theirs.raw"];
    run(tool("qemu-io").current_dir(folder).args(arguments))
}

/// What was said, without times, and without help, which is in words of our own.
fn normalised(command: &str, text: &str) -> Vec<String> {
    if command.starts_with("help") {
        return Vec::new();
    }
    let line = |line: &str| {
        let line = match line.split_once(" ops; ") {
            Some((operations, _)) => format!("{operations} ops; TIME"),
            None => line.to_owned(),
        };
        if line.contains(" -- ") && !line.starts_with("Parsing error") {
            return line.split(' ').next().unwrap_or_default().to_owned();
        }
        match line.split_once(",0:00:00.") {
            Some((operations, _)) => format!("{operations},TIME"),
            None => line,
        }
    };
    text.lines().map(line).collect()
}

/// The language, the lines and the exit status are those of qemu-io, and so are the contents.
#[test]
fn every_command_says_and_does_what_qemu_io_does() {
    let folder = folder();
    let mut differences = Vec::new();
    for command in COMMANDS {
        let (ours, theirs) = (ours(folder.path(), command), theirs(folder.path(), command));
        let said =
            |finished: &Finished| (normalised(command, &finished.stdout), finished.status.code());
        if said(&ours) != said(&theirs) {
            differences.push((command, said(&ours), said(&theirs)));
        }
        let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
        assert!(read("ours.raw") == read("theirs.raw"), "{command}: the contents differ");
    }
    assert!(differences.is_empty(), "ours, theirs: {differences:#?}");
}

/// What one program writes the other reads, both ways.
#[test]
fn data_written_by_one_is_read_by_the_other() {
    let folder = folder();
    ours(folder.path(), "write -P 77 10k 100k").success();
    let raw = |command: &str| {
        let arguments = ["-f", "raw", "-c", command, "ours.raw"];
        run(tool("qemu-io").current_dir(folder.path()).args(arguments)).success()
    };
    raw("read -P 77 10k 100k");
    raw("write -P 78 20k 1k");
    ours(folder.path(), "read -P 78 20k 1k").success();
}

/// Without `-c` the commands come from standard input, and one that fails does not end them.
#[test]
fn commands_come_from_standard_input() {
    let folder = folder();
    let mut command = qbm();
    command.current_dir(folder.path()).args(["io", "ours.qbm"]);
    let finished =
        run_with_input(&mut command, "write -q -P 1 0 1k\nnonsense\nlength\nq\nlength\n");
    assert_eq!(finished.code(1).stdout, "1 MiB\n");
    ours(folder.path(), "read -P 1 0 1k").success();
}

/// With `-r` nothing is written.
#[test]
fn a_read_only_session_writes_nothing() {
    let folder = folder();
    let mut command = qbm();
    command.current_dir(folder.path()).args(["io", "-r", "-c", "write 0 4k", "ours.qbm"]);
    let finished = run(&mut command).code(1);
    assert_eq!(finished.stdout, "write failed: Operation not permitted\n");
    assert!(fs::read(folder.path().join("ours.raw")).unwrap().iter().all(|byte| *byte == 0));
}
