//! What names in a descriptor may lead to, for the data image and for a bitmap.
//!
//! Needs root, to make device nodes.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use iotests::{run, tool};

use crate::scene::{READERS, SIZE, Scene, WRITERS, descriptor, layer};

const TWICE: &str = "it stands for two things in this image, or behind it";

/// An image one name of which is `name`, in turn as that of the data and of the bitmap `b`.
fn refuse_in_turn(scene: &Scene, name: &str, commands: &[&[&str]], complaint: &str) {
    for text in [
        descriptor(name, &[("b", "b.bits")]),
        descriptor("disk.raw", &[("b", name)]),
        // That `gone` is not there is no reason to make a new file of an image that is refused.
        descriptor("disk.raw", &[("a", "gone"), ("b", name)]),
    ] {
        scene.describe(&text);
        let is_gone = text.contains("gone");
        let commands: Vec<_> =
            commands.iter().copied().filter(|words| !is_gone || WRITERS.contains(words)).collect();
        scene.refuse(&commands, complaint);
    }
}

fn everybody() -> Vec<&'static [&'static str]> {
    [READERS, WRITERS].concat()
}

/// The scene itself is in order: it is the name that is refused.
#[test]
fn a_plain_image_is_taken_by_all_commands() {
    let scene = Scene::new();
    scene.describe(descriptor("disk.raw", &[("b", "b.bits")]));
    scene.accept(&everybody());
}

#[test]
fn names_that_lead_out_are_refused() {
    let scene = Scene::new();
    symlink(scene.path("other/disk.raw"), scene.beside("link.raw")).unwrap();
    symlink(scene.path("other"), scene.beside("folder")).unwrap();
    let long = "a".repeat(4096);
    let other = scene.path("other/disk.raw").display().to_string();
    let outside = |name: &str| {
        format!("{name}: open: it is not in the image's directory; --allow-path '{name}' would*")
    };
    let link = |name: &str| format!("{name}: open: a symbolic link is part of the name, and none*");
    let protocol = |name: &str, word: &str| {
        format!("{name}: open: `{word}:` would be a protocol, and only files are opened")
    };
    let json = r#"json:{"driver":"file","filename":"/etc/shadow"}"#;
    let cases = [
        ("/etc/shadow", outside("/etc/shadow")),
        (&other, outside(&other)),
        ("/proc/self/mem", outside("/proc/self/mem")),
        ("/proc/self/fd/0", outside("/proc/self/fd/0")),
        ("/dev/fd/0", outside("/dev/fd/0")),
        ("/dev/zero", outside("/dev/zero")),
        ("../other/disk.raw", "../other/disk.raw: open: `..` leads out of the image's*".to_owned()),
        ("sub/../../other/disk.raw", "sub/../../other/disk.raw: open: `..` leads*".to_owned()),
        ("link.raw", link("link.raw")),
        ("folder/disk.raw", link("folder/disk.raw")),
        (json, protocol(json, "json")),
        ("nbd://127.0.0.1", "nbd://127.0.0.1: open: a descriptor alone opens no*".to_owned()),
        ("nbd:127.0.0.1:10809", protocol("nbd:127.0.0.1:10809", "nbd")),
        ("fd:3", protocol("fd:3", "fd")),
        (&long, "i.qbm:1:*".to_owned()),
    ];
    for (name, complaint) in cases {
        refuse_in_turn(&scene, name, &everybody(), &complaint);
    }
}

#[test]
fn what_is_no_file_is_refused() {
    let scene = Scene::new();
    let _socket = UnixListener::bind(scene.beside("socket")).unwrap();
    run(tool("mkfifo").arg(scene.beside("fifo"))).success();
    for (name, numbers) in [("zero", ["c", "1", "5"]), ("tty", ["c", "5", "0"])] {
        run(tool("mknod").arg(scene.beside(name)).args(numbers)).success();
    }
    run(tool("mknod").arg(scene.beside("block")).args(["b", "7", "0"])).success();
    for (name, what) in [
        ("fifo", "it is a FIFO, not a file or block device"),
        ("socket", "it is a socket, not a file or block device"),
        ("sub", "it is a directory, not a file or block device"),
        ("zero", "it is a character device, not a file or block device"),
        ("tty", "it is a character device, not a file or block device"),
        ("block", "it is a block device; its absolute name is possible where that is allowed"),
    ] {
        refuse_in_turn(&scene, name, &everybody(), &format!("{name}: open: {what}"));
    }
}

#[test]
fn a_file_that_is_elsewhere_too_is_not_written() {
    let scene = Scene::new();
    fs::hard_link(scene.path("other/disk.raw"), scene.beside("linked.raw")).unwrap();
    let complaint = "linked.raw: open: the file has 2 names (hard links), and writing to it*";
    refuse_in_turn(&scene, "linked.raw", WRITERS, complaint);
    scene.describe(descriptor("linked.raw", &[("b", "b.bits")]));
    scene.accept(READERS);
}

#[test]
fn a_name_that_is_not_there_is_refused() {
    let scene = Scene::new();
    for name in ["gone", "sub/gone", "disk%2eraw", "DISK.RAW"] {
        let complaint = format!("{name}: open: No such file or directory (os error 2)");
        scene.describe(descriptor(name, &[("b", "b.bits")]));
        scene.refuse(&everybody(), &complaint);
        // For writing, a bitmap that is gone is made anew, and counts everything as changed.
        scene.describe(descriptor("disk.raw", &[("b", name)]));
        scene.refuse(READERS, &complaint);
    }
}

#[test]
fn a_descriptor_that_is_its_own_disk_or_bitmap_is_refused() {
    let scene = Scene::new();
    refuse_in_turn(&scene, "i.qbm", &everybody(), &format!("i.qbm: {TWICE}"));
    // By another name too. For writing, already that it has another name is too much.
    for text in
        [descriptor("same.qbm", &[("b", "b.bits")]), descriptor("disk.raw", &[("b", "same.qbm")])]
    {
        scene.describe(text);
        fs::hard_link(scene.beside("i.qbm"), scene.beside("same.qbm")).unwrap();
        scene.refuse(READERS, &format!("same.qbm: {TWICE}"));
        scene.refuse(WRITERS, "same.qbm: open: the file has 2 names (hard links), and*");
        fs::remove_file(scene.beside("same.qbm")).unwrap();
    }
}

#[test]
fn two_uses_of_one_file_are_refused() {
    let scene = Scene::new();
    let name_twice =
        |name: &str| format!(": {name:?} is named before, and a file has one use only");
    for (text, member, name) in [
        (descriptor("disk.raw", &[("a", "b.bits"), ("b", "b.bits")]), "b", "b.bits"),
        (descriptor("disk.raw", &[("b", "disk.raw")]), "b", "disk.raw"),
    ] {
        let column = text.rfind(&format!("{name:?}")).unwrap() + 1;
        scene.describe(&text);
        let end = name_twice(name);
        let complaint = format!("i.qbm:1:{column}: QBM.bitmaps.{member}.file{end}");
        scene.refuse(&everybody(), &complaint);
    }
    fs::hard_link(scene.beside("b.bits"), scene.beside("same.bits")).unwrap();
    fs::hard_link(scene.beside("disk.raw"), scene.beside("same.raw")).unwrap();
    for (text, name) in [
        (descriptor("disk.raw", &[("a", "b.bits"), ("b", "same.bits")]), "same.bits"),
        (descriptor("disk.raw", &[("b", "same.raw")]), "same.raw"),
    ] {
        scene.describe(text);
        scene.refuse(READERS, &format!("{name}: {TWICE}"));
    }
}

/// An image that is behind itself, at once or after a while, or that has far too many behind it.
#[test]
fn a_chain_without_an_end_is_refused() {
    let scene = Scene::new();
    fs::write(scene.beside("a.bits"), [0; 2]).unwrap();
    fs::write(scene.beside("c.bits"), [0; 2]).unwrap();
    fs::copy(scene.beside("disk.raw"), scene.beside("c.raw")).unwrap();
    scene.describe(layer("disk.raw", "a.bits", "i.qbm", "qbm"));
    scene.refuse(READERS, &format!("i.qbm: {TWICE}"));
    scene.describe(layer("disk.raw", "a.bits", "c.qbm", "qbm"));
    for (behind, format, twice) in
        [("i.qbm", "qbm", "i.qbm"), ("c.qbm", "qbm", "c.qbm"), ("disk.raw", "raw", "disk.raw")]
    {
        fs::write(scene.beside("c.qbm"), layer("c.raw", "c.bits", behind, format)).unwrap();
        scene.refuse(READERS, &format!("{twice}: {TWICE}"));
    }
}

#[test]
fn a_chain_of_ten_thousand_images_is_refused() {
    // In memory, where so many files are soon made.
    let scene = Scene::within(tempfile::tempdir_in("/dev/shm").unwrap());
    for index in 0..10_000 {
        let name = |ending: &str| format!("{index}.{ending}");
        fs::File::create(scene.beside(&name("raw"))).unwrap().set_len(SIZE).unwrap();
        fs::write(scene.beside(&name("bits")), [0; 2]).unwrap();
        let text = layer(&name("raw"), &name("bits"), &format!("{}.qbm", index + 1), "qbm");
        fs::write(scene.beside(&name("qbm")), text).unwrap();
    }
    scene.describe(layer("disk.raw", "b.bits", "0.qbm", "qbm"));
    let complaint = "30.qbm: more than 32 images are behind each other";
    scene.refuse(&[&["map", "{}"], &["io", "-r", "-c", "read 0 4k", "{}"]], complaint);
}
