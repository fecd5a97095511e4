//! `qbm io` beside qemu-io: the same commands, one after the other, on an image and on a raw file.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

use iotests::{Finished, qbm, run, run_bounded, run_with_input, tool};

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
    // Numbers.
    "write -P 010 0 16",
    "write -P +5 16 16",
    "write -P 08 0 1",
    "write -P 0x 0 1",
    "write -P -1 0 1",
    "read 0 .5k",
    "read 0 4.k",
    "read 0 1.0b",
    "read 0 1.5b",
    "read 0 1.3k",
    "read 0 1.9999k",
    "read 0 0.00048828125M",
    "read 0x10 0x10b",
    "read 010 8",
    "read +5 8",
    "read 0 0x1k",
    "read 0 0x",
    "read 0 1e3",
    "read 0 4kb",
    "read 0 .",
    "read 0 7.99999999999999999999E",
    "read 0 9223372036854775807",
    "read 0 9223372036854775808",
    "read 0 0x8000000000000000",
    "read 9223372036854775807 0",
    "read 0 99999999999999999999",
    "sleep 0x1",
    "sleep 08",
    "sleep -1",
    "sleep 1k",
    "alloc -5",
    "alloc -x",
    "alloc 0 0",
    "alloc 511 2",
    "a 1023k 4k",
    // Options: where they stand, what they exclude, which error comes first.
    "read -- 0 4k",
    "read 0 4k -- -q",
    "read 0 -q 4k",
    "read - 4k",
    "read -qv 0 16",
    "read --help 0 4k",
    "r -Z 0 4k",
    "r 0",
    "read -P",
    "read -P 3 -s",
    "read -P 300 -Z 0 4k",
    "read -s 1 x 4k",
    "read -P 0 -s 8k 0 8k",
    "read -P 0 -s 0 -l 0 0 8k",
    "read -b 0 4k",
    "read\t0\t4k",
    "rv 0 4k",
    "write -c 0 4k",
    "write -zc 0 4k",
    "write -bz 0 4k",
    "write -cf 0 4k",
    "write -n x 4k",
    "write -un 0 4k",
    "write -nz 0 3G",
    "write -s pattern -z 0 4k",
    "write -s pattern x 4k",
    "write -s pattern 0 0",
    "write -s . 0 4k",
    "write -P 65 2 1",
    "write -P 0x7e 3 1",
    "write -P 32 4 1",
    "read -v 0 20",
    "write -z 5 10",
    "write 0 0",
    "write 2M 0",
    "read 1M 0",
    "read 2M 0",
    "discard 2M 0",
    "discard 0 2G",
    "discard -Z 0 1",
    // Parts, and what runs in the background.
    "readv 0 3G",
    "readv -P 1 0 4k 512",
    "readv 2M 0",
    "writev 0 1.5G 1.5G",
    "writev 0 1M 512",
    "writev 0 x",
    "writev -z 0 512",
    "aio_write -z 0 4k 4k",
    "aio_write -u 0 4k",
    "aio_write -zP 3 0 4k",
    "aio_write -z 0 3G",
    "aio_write 0 1M 1M",
    "aio_write -zfi x 4k",
    "aio_read -i 0 4k",
    "aio_read 2M 0",
    "aio_read -v -P 4 0 16",
    "aio_read -qC 0 512",
    // Sizes of the disk.
    "truncate -m full 2M",
    "truncate -m falloc 3M",
    "truncate -m off 2M",
    "truncate -m metadata 3M",
    "truncate -m nonsense 3M",
    "truncate -m",
    "truncate 1M 2M",
    "truncate 7E",
    "length",
    "sigraise 0",
    "sigraise 999",
    "abort",
    "quit 3",
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

/// A write takes its bytes from a file of up to 32 MiB, and has 64 MiB for it; a longer file is refused.
#[test]
fn a_write_of_a_file_takes_little_memory() {
    const MOST: u64 = 32 << 20;
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    run(qbm().current_dir(folder.path()).args(["resize", "ours.qbm", "80M"])).success();
    let bytes: Vec<u8> = (0..MOST).map(|index| (index % 251) as u8).collect();
    fs::write(path("most"), &bytes).unwrap();
    fs::File::create(path("more")).unwrap().set_len(MOST + 1).unwrap();
    fs::File::create(path("much")).unwrap().set_len(1 << 40).unwrap();
    let io = |commands: &[&str]| {
        let mut command = qbm();
        command.current_dir(folder.path()).arg("io");
        command.args(commands.iter().flat_map(|command| ["-c", command])).arg("ours.qbm");
        run_bounded(&command).finished
    };
    io(&["write -q -s most 1M 64M", "write -q -s most 1M 40M", "write -q -s more 0 1M"]).success();
    let written = fs::read(path("ours.raw")).unwrap();
    assert!(written[1 << 20..][..bytes.len()] == bytes, "the bytes are those of the file");
    assert!(written[33 << 20..][..bytes.len()] == bytes, "and then again");
    for name in ["more", "much"] {
        let refused = io(&[&format!("write -s {name} 0 64M")]).code(1);
        let why = format!("{name}: only 33554432 bytes of a file can be sent\n");
        assert_eq!((&*refused.stdout, &*refused.stderr), ("", &*why));
    }
    assert!(fs::read(path("ours.raw")).unwrap()[1 << 20..] == written[1 << 20..]);
}

/// An image that was never closed, as after a crash, still says what was written through it.
#[test]
fn an_abort_leaves_the_image_open_and_its_marks_kept() {
    let folder = folder();
    let image = |arguments: &[&str]| run(qbm().current_dir(folder.path()).args(arguments));
    image(&["bitmap", "--add", "-g", "64k", "ours.qbm", "b"]).success();
    for (offset, ending) in ["0", "128k"].iter().zip(["abort", "sigraise 9"]) {
        let write = format!("write -q {offset} 1k");
        let ended = image(&["io", "-c", &write, "-c", ending, "-c", "write 1M 1", "ours.qbm"]);
        assert_eq!(ended.status.code(), None, "{ending} ends it by a signal");
        let info = image(&["info", "--output", "json", "ours.qbm"]).success().json();
        assert_eq!(info["dirty-flag"], true, "{info}");
    }
    let marks = image(&["map", "--bitmap", "b", "--output", "json", "ours.qbm"]).success().json();
    let marked = |start: u64| serde_json::json!({"start": start, "length": 65536, "dirty": true});
    let marks = marks.as_array().unwrap();
    assert!(marks.contains(&marked(0)) && marks.contains(&marked(128 << 10)), "{marks:?}");
}

/// Far more requests in the background than run at a time are all done.
#[test]
fn requests_in_the_background_are_all_done_at_the_end() {
    let folder = folder();
    let mut script: String = (0..200).map(|n| format!("aio_write -q -P 3 {n}k 1k\n")).collect();
    script += "aio_flush\nread -q -P 3 0 200k\n";
    let mut command = qbm();
    command.current_dir(folder.path()).args(["io", "ours.qbm"]);
    assert_eq!(run_with_input(&mut command, &script).success().stdout, "");
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
