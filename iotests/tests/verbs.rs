//! The verbs that `qbm` shares with qemu-img, side by side with it on the same bytes.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;

use iotests::{Finished, qbm, run, tool};
use serde_json::json;

const MIB: u64 = 1 << 20;

/// A folder with the disk `ours.raw` of 1 MiB, two parts of it written, the image `ours.qbm` around
/// it, and the copy `theirs.raw`.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_disk(&path("ours.raw"), MIB);
    write_disk(&path("theirs.raw"), MIB);
    ours(folder.path(), &["create", "--data-file", "ours.raw", "ours.qbm"]).success();
    folder
}

/// A sparse disk of `length` bytes, with data at its start and in the middle of the first MiB.
fn write_disk(path: &Path, length: u64) -> File {
    let disk = File::create(path).unwrap();
    disk.write_all_at(&[1; 64 << 10], 0).unwrap();
    disk.write_all_at(&[2; 64 << 10], 512 << 10).unwrap();
    disk.set_len(length).unwrap();
    disk
}

fn ours(folder: &Path, arguments: &[&str]) -> Finished {
    run(qbm().current_dir(folder).args(arguments))
}

fn theirs(folder: &Path, arguments: &[&str]) -> Finished {
    run(tool("qemu-img").current_dir(folder).args(arguments))
}

/// A size means the same to both, or is a size to neither.
#[test]
fn a_size_is_what_it_is_to_qemu_img() {
    let folder = tempfile::tempdir().unwrap();
    let sizes = [
        "0",
        "1",
        "512",
        "4096b",
        "4k",
        "4K",
        "1m",
        "1.5k",
        "1.3k",
        "1.9999k",
        "4.k",
        "1.0",
        "1.",
        "0x200",
        "0X10",
        "010",
        "+5k",
        "3g",
        "1.0009765625k",
        "0.00048828125M",
        "",
        "k",
        ".",
        "1.5",
        "1.5b",
        "1e3",
        "1kb",
        "1KiB",
        "0x",
        "0x10k",
        "0xg",
        "1,5k",
        "1k ",
        "x",
        "inf",
        "8E",
        "99999999999999999999",
        "0x8000000000000000",
    ];
    for (index, size) in sizes.iter().enumerate() {
        let length = |name: &str| fs::metadata(folder.path().join(name)).ok().map(|it| it.len());
        let image = format!("{index}.qbm");
        let raw = format!("theirs-{index}.raw");
        let created = ours(folder.path(), &["create", &image, size]);
        theirs(folder.path(), &["create", "-q", "-f", "raw", &raw, size]);
        // qemu-img rounds the file up to sectors; what it made of the text is in its message.
        let length_of_theirs = length(&raw);
        let length_of_ours = length(&format!("{index}.raw"));
        let rounded = length_of_ours.map(|length| length.next_multiple_of(512));
        assert_eq!(
            rounded,
            length_of_theirs.map(|length| length.next_multiple_of(512)),
            "'{size}'"
        );
        assert_eq!(created.status.success(), length_of_ours.is_some(), "'{size}'");
    }
}

/// The map of the disk is qemu-img's, to the byte.
#[test]
fn a_map_is_that_of_qemu_img() {
    let folder = folder();
    for output in ["human", "json"] {
        let map = ours(folder.path(), &["map", "--output", output, "ours.qbm"]).success();
        let raw = theirs(folder.path(), &["map", "--output", output, "-f", "raw", "theirs.raw"]);
        let raw = raw.success().stdout.replace("theirs.raw", "ours.raw");
        // Only newer ones tell of compression.
        let plain = |map: String| map.replace(" \"compressed\": false,", "");
        assert_eq!(plain(map.stdout), plain(raw));
    }
}

/// The marks of a bitmap are told as ranges that follow each other from the first byte to the last.
#[test]
fn the_marks_of_a_bitmap_cover_the_disk() {
    let folder = folder();
    ours(folder.path(), &["bitmap", "--add", "-g", "32k", "ours.qbm", "b"]).success();
    let writes = ["io", "-c", "write -q 40k 1k", "-c", "write -q 1023k 1k", "ours.qbm"];
    ours(folder.path(), &writes).success();
    let map = ["map", "--bitmap", "b", "--output", "json", "ours.qbm"];
    let range = |start: u64, end: u64, dirty: bool| json!({"start": start << 10, "length": (end - start) << 10, "dirty": dirty});
    assert_eq!(
        ours(folder.path(), &map).success().json(),
        json!([
            range(0, 32, false),
            range(32, 64, true),
            range(64, 992, false),
            range(992, 1024, true)
        ])
    );
    let missing = ours(folder.path(), &["map", "--bitmap", "c", "ours.qbm"]).code(1);
    assert_eq!(missing.stderr, "qbm: ours.qbm: Dirty bitmap 'c' not found\n");
}

/// Equal, different, longer and missing disks: the lines and the exit status are qemu-img's.
#[test]
fn a_comparison_ends_as_that_of_qemu_img() {
    let folder = folder();
    let copy = |name: &str, length: u64, patch: Option<u64>| {
        let file = write_disk(&folder.path().join(name), length);
        patch.iter().for_each(|offset| file.write_all_at(&[9], *offset).unwrap());
        file
    };
    copy("same", MIB, None);
    copy("written", MIB, None).write_all_at(&[0; 4096], 256 << 10).unwrap();
    copy("different", MIB, Some(100_000));
    copy("longer", 2 * MIB, None);
    copy("longer-different", 2 * MIB, Some(MIB + 600));
    copy("shorter", MIB / 2, None);
    copy("zero-and-shorter", MIB - 4096, None);
    for other in [
        "same",
        "written",
        "different",
        "longer",
        "longer-different",
        "shorter",
        "zero-and-shorter",
    ] {
        for flags in [&[][..], &["-s"], &["-q"], &["-s", "-q"]] {
            let compare = [&["compare", "-F", "raw"], flags, &["ours.qbm", other]].concat();
            let reference =
                [&["compare", "-f", "raw", "-F", "raw"], flags, &["theirs.raw", other]].concat();
            let (ours, theirs) = (ours(folder.path(), &compare), theirs(folder.path(), &reference));
            let said = |finished: &Finished| (finished.stdout.clone(), finished.status.code());
            assert_eq!(said(&ours), said(&theirs), "{other} {flags:?}");
        }
    }
    let missing = ours(folder.path(), &["compare", "ours.qbm", "missing"]).code(2);
    assert!(missing.stderr.starts_with("qbm: missing: "), "{}", missing.stderr);
}

/// The same sizes are taken, and leave disks of the same length.
#[test]
fn a_resize_leaves_the_size_that_qemu_img_leaves() {
    let folder = folder();
    let sizes = [
        "+1M",
        "3M",
        "+0",
        "2M",
        "-1M",
        "x",
        "-9M",
        "0x400000",
        "4.5M",
        "8E",
        "--shrink 2M",
        "--shrink -512k",
        "--shrink 1M",
    ];
    for size in sizes {
        let words: Vec<&str> = size.split(' ').collect();
        let (last, flags) = words.split_last().unwrap();
        let resize = [&["resize"], flags, &["ours.qbm", last]].concat();
        let reference = [&["resize", "-f", "raw"], flags, &["theirs.raw", last]].concat();
        let (ours, theirs) = (ours(folder.path(), &resize), theirs(folder.path(), &reference));
        assert_eq!(ours.stdout, theirs.stdout, "{size}");
        assert_eq!(ours.status.code(), theirs.status.code(), "{size}");
        let length = |name: &str| fs::metadata(folder.path().join(name)).unwrap().len();
        assert_eq!(length("ours.raw"), length("theirs.raw"), "{size}");
        if !ours.status.success() {
            assert!(ours.stderr.starts_with("qbm: ours.qbm: "), "{}", ours.stderr);
            assert_eq!(ours.stderr.lines().count(), 1, "{}", ours.stderr);
        }
    }
}

/// Each call succeeds or fails as with a qcow2 image, and leaves the same bitmaps. (Where a later
/// action of a call is refused, qemu-img keeps the earlier ones, and we none.)
#[test]
fn bitmaps_are_managed_as_those_of_qcow2() {
    let folder = folder();
    theirs(folder.path(), &["create", "-q", "-f", "qcow2", "theirs.qcow2", "1M"]).success();
    let calls = [
        "--add IMAGE a",
        "--add IMAGE a",
        "--add -g 32k IMAGE b",
        "--add --disable IMAGE c",
        "--add -g 100 IMAGE d",
        "--add -g 3k IMAGE d",
        "--add -g x IMAGE d",
        "--add -g 4G IMAGE d",
        "--clear IMAGE missing",
        "--remove IMAGE missing",
        "--enable IMAGE missing",
        "--disable IMAGE missing",
        "--merge a IMAGE missing",
        "--merge missing IMAGE a",
        "--merge b IMAGE a",
        "--merge a IMAGE a",
        "--merge b --merge c IMAGE a",
        "--disable --clear --enable IMAGE b",
        "IMAGE a",
        "--enable IMAGE c",
        "--disable IMAGE a",
        "--remove --add IMAGE b",
        "--remove IMAGE a",
        "--add IMAGE",
        "-g 64k --enable IMAGE c",
        "--nonsense IMAGE c",
    ];
    for call in calls {
        let called = |program: fn(&Path, &[&str]) -> Finished, image: &str| {
            let words = call.split(' ').map(|word| if word == "IMAGE" { image } else { word });
            program(folder.path(), &["bitmap"].into_iter().chain(words).collect::<Vec<_>>())
        };
        let (ours, theirs) = (called(ours, "ours.qbm"), called(theirs, "theirs.qcow2"));
        assert_eq!(ours.status.code(), theirs.status.code(), "{call}: {}", ours.stderr);
        assert_eq!(ours.stderr.lines().count(), usize::from(!ours.status.success()), "{call}");
        assert_eq!(bitmaps(folder.path(), true), bitmaps(folder.path(), false), "{call}");
    }
}

/// Name, granularity and flags of each bitmap of our image or theirs, by name.
fn bitmaps(folder: &Path, of_ours: bool) -> Vec<String> {
    let info = match of_ours {
        true => ours(folder, &["info", "--output", "json", "ours.qbm"]),
        false => theirs(folder, &["info", "--output", "json", "theirs.qcow2"]),
    };
    let info = info.success().json();
    let bitmaps = info["format-specific"]["data"]["bitmaps"].as_array();
    let facts = |bitmap: &serde_json::Value| {
        format!("{} {} {}", bitmap["name"], bitmap["granularity"], bitmap["flags"])
    };
    let mut facts: Vec<_> = bitmaps.into_iter().flatten().map(facts).collect();
    facts.sort();
    facts
}

/// A refused call with several actions changes nothing, whichever of them is refused.
#[test]
fn several_actions_are_done_all_or_none() {
    let folder = folder();
    ours(folder.path(), &["bitmap", "--add", "ours.qbm", "b"]).success();
    ours(folder.path(), &["io", "-c", "write -q 0 1", "ours.qbm"]).success();
    let marks = || {
        let map = ["map", "--bitmap", "b", "--output", "json", "ours.qbm"];
        ours(folder.path(), &map).success().stdout
    };
    let before = marks();
    let refused = ["bitmap", "--clear", "--disable", "--merge", "missing", "ours.qbm", "b"];
    let refused = ours(folder.path(), &refused).code(1);
    assert_eq!(refused.stderr, "qbm: ours.qbm: Dirty bitmap 'missing' not found\n");
    assert_eq!(marks(), before);
    assert!(bitmaps(folder.path(), true)[0].contains("auto"), "it still records");
}

/// Wrong usage is one line and exit status 1; only `compare`, where 1 is an answer, has 2.
#[test]
fn wrong_usage_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let calls = [
        ("check --nonsense x", 1),
        ("check", 1),
        ("map", 1),
        ("create x", 1),
        ("create x y", 1),
        ("resize x", 1),
        ("nonsense", 1),
        ("info --output xml x", 1),
        ("compare x", 2),
        ("compare --nonsense x y", 2),
        ("io -U x", 1),
        ("bitmap --add -g 3 x y", 1),
    ];
    for (call, code) in calls {
        let words: Vec<&str> = call.split(' ').collect();
        let refused = ours(folder.path(), &words).code(code);
        assert_eq!(refused.stdout, "", "{call}");
        assert!(refused.stderr.starts_with("qbm: "), "{call}: {}", refused.stderr);
        assert_eq!(refused.stderr.lines().count(), 1, "{call}: {}", refused.stderr);
    }
    for call in ["--help", "--version", "help", "map --help", "help io"] {
        let words: Vec<&str> = call.split(' ').collect();
        assert_eq!(ours(folder.path(), &words).success().stderr, "", "{call}");
    }
}

/// A closed or full output ends no command before its time: the image is closed cleanly.
#[test]
fn an_output_that_takes_nothing_leaves_no_image_open() {
    let folder = folder();
    let with_output = |arguments: &[&str], output: Stdio| {
        let mut command = qbm();
        command.current_dir(folder.path()).args(arguments).stdout(output);
        let child = command.stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        child.wait_with_output().unwrap()
    };
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let commands: [&[&str]; 5] = [
        &["io", "-c", "read -v 0 64k", "-c", "write 0 1k", "ours.qbm"],
        &["info", "ours.qbm"],
        &["map", "--output", "json", "ours.qbm"],
        &["check", "ours.qbm"],
        &["--help"],
    ];
    for arguments in commands {
        let done = with_output(arguments, closed());
        assert_eq!((done.status.code(), &*done.stderr), (Some(0), &b""[..]), "{arguments:?}");
    }
    for arguments in &commands[..4] {
        let done = with_output(arguments, full());
        let text = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(1), "{arguments:?}");
        assert_eq!(text, "qbm: standard output: No space left on device (os error 28)\n");
    }
    let info = ours(folder.path(), &["info", "--output", "json", "ours.qbm"]).success().json();
    assert_eq!(info["dirty-flag"], false);
    let written = fs::read(folder.path().join("ours.raw")).unwrap();
    assert!(written[..1024].iter().all(|byte| *byte == 0xcd), "the command after it was done");
}

/// `info` says where the disk is kept and what it takes, as qemu-img does.
#[test]
fn info_tells_the_sizes_that_qemu_img_tells() {
    let folder = folder();
    let info = ours(folder.path(), &["info", "--output", "json", "ours.qbm"]).success().json();
    let raw = theirs(folder.path(), &["info", "--output", "json", "-f", "raw", "ours.raw"]);
    let raw = raw.success().json();
    assert_eq!(info["virtual-size"], raw["virtual-size"]);
    assert_eq!((&info["format"], &info["dirty-flag"]), (&json!("qbm"), &json!(false)));
    let (ours, theirs) = (info["actual-size"].as_u64(), raw["actual-size"].as_u64());
    assert!(ours > theirs && ours < theirs.map(|size| size + (64 << 10)), "{info}");
}
