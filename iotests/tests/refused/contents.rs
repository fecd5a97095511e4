//! What the files of an image may hold.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use iotests::refused::MOST_TIME;
use iotests::{qbm, run, run_bounded};

use crate::scene::{READERS, SIZE, Scene, WRITERS, descriptor, layer};

#[test]
fn a_damaged_descriptor_is_refused() {
    let scene = Scene::new();
    let good = descriptor("disk.raw", &[("b", "b.bits")]);
    let everybody = [READERS, WRITERS].concat();
    let cut = &good[..good.len() - 1];
    let granularity = good.replace("65536", "3");
    let version = good.replace(": 1,", ": 2,");
    let behind = format!("{good} {{}}");
    for (text, complaint) in [
        ("", "i.qbm:1:1: *"),
        ("\u{feff}{}", "i.qbm:1:1: begins with a byte order mark"),
        (cut, "i.qbm:1:*"),
        (&behind, "i.qbm:1:*"),
        (&granularity, "i.qbm:1:*"),
        (&version, "i.qbm:1:*"),
    ] {
        scene.describe(text);
        scene.refuse(&everybody, complaint);
        scene.refuse(&[&["info", "{}"]], complaint);
    }
    scene.describe([0xff, 0xfe, b'{', 0]);
    scene.refuse(&everybody, "i.qbm:1:1: is not UTF-8");
    File::create(scene.beside("i.qbm")).unwrap().set_len(1 << 30).unwrap();
    let complaint = "i.qbm: read: 1073741824 bytes, and at most 1048576 are read";
    scene.refuse(&everybody[1..], complaint);
    scene.refuse(&[&["info", "{}"]], &complaint.replace("read: ", ""));
}

#[test]
fn more_granules_than_can_be_followed_are_refused() {
    let scene = Scene::new();
    let text = descriptor("disk.raw", &[("a", "gone"), ("b", "b.bits")]);
    // The one that is too fine comes after one that would be made anew.
    let (start, end) = text.rsplit_once("65536").unwrap();
    scene.describe(format!("{start}512{end}"));
    File::options().write(true).open(scene.beside("disk.raw")).unwrap().set_len(1 << 42).unwrap();
    scene.refuse(WRITERS, "granularity 512 is too fine for a disk of 4398046511104 bytes");
}

/// Each of them alone is within the limit.
#[test]
fn bitmaps_of_more_granules_together_than_can_be_followed_are_refused() {
    let scene = Scene::new();
    let names: Vec<String> = (0..257).map(|index| format!("b{index}")).collect();
    let bitmaps: Vec<_> = names.iter().map(|name| (&**name, &**name)).collect();
    File::options().write(true).open(scene.beside("disk.raw")).unwrap().set_len(1 << 42).unwrap();
    scene.describe(descriptor("disk.raw", &bitmaps));
    let complaint = "i.qbm: its bitmaps have 17246978048 granules together, and at most \
                     17179869184 can be followed; it needs fewer bitmaps or coarser ones";
    scene.refuse(&[READERS, WRITERS].concat(), complaint);
    // With one less they are as many as there may be, and one more cannot be added.
    for name in &names[1..] {
        File::create(scene.beside(name)).unwrap().set_len(1 << 23).unwrap();
    }
    scene.describe(descriptor("disk.raw", &bitmaps[1..]));
    let refused = run(&mut scene.qbm(&["bitmap", "--add", "{}", "c"]));
    assert_eq!(refused.stderr.trim_end(), format!("qbm: {complaint}"));
}

/// There is no safe guess in place of an allocation bitmap that is not that of its data image.
#[test]
fn an_allocation_bitmap_of_another_data_image_is_refused() {
    let scene = Scene::new();
    let data = File::create(scene.beside("top.raw")).unwrap();
    let all = [0xff; 2];
    let described = layer("top.raw", "a.bits", "disk.raw", "raw");
    let with_size =
        described.replace(r#""image""#, &format!(r#""ext-soft-size": {SIZE}, "image""#));
    for (length, bits, text, complaint) in [
        (SIZE - 1, &all[..], &with_size, "i.qbm: the data image has 1048575 bytes, and not*"),
        (
            SIZE / 2,
            &all,
            &described,
            "a.bits: the bitmap's file has marks past the end of the disk",
        ),
        (0, &all, &described, "a.bits: the bitmap's file has marks past the end of the disk"),
        (SIZE, &all[..1], &described, "a.bits: the bitmap's file is shorter than the disk needs"),
        (SIZE, &[], &described, "a.bits: the bitmap's file is shorter than the disk needs"),
    ] {
        data.set_len(length).unwrap();
        fs::write(scene.beside("a.bits"), bits).unwrap();
        scene.describe(text);
        scene.refuse(READERS, complaint);
    }
    // All of it is there, as far as can be known: a hole reads as zeroes, and not as what is behind.
    data.set_len(SIZE).unwrap();
    fs::write(scene.beside("a.bits"), all).unwrap();
    scene.describe(with_size);
    scene.accept(&[&["io", "-r", "-c", "read -P 0 0 1M", "{}"]]);
    fs::write(scene.beside("a.bits"), [0; 2]).unwrap();
    scene.accept(&[&["io", "-r", "-c", "read -P 1 0 4k", "{}"]]);
}

/// What is past the last granule of a bitmap file is looked at only where there is something.
#[test]
fn a_sparse_bitmap_of_8_eib_is_read_at_once() {
    // Whole pages only: tmpfs, which has files of this length, does not find data past the last.
    const LENGTH: u64 = (1 << 63) - 4096;
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("i.qbm"), descriptor("disk.raw", &[("b", "b.bits")])).unwrap();
    File::create(path("disk.raw")).unwrap().set_len(SIZE).unwrap();
    let bits = File::create(path("b.bits")).unwrap();
    bits.write_all_at(&[0x81], 1).unwrap();
    bits.set_len(LENGTH).unwrap();
    let info = || {
        let mut command = qbm();
        command.current_dir(&folder).args(["info", "--marks", "--output", "json", "i.qbm"]);
        let spent = run_bounded(&command);
        assert!(spent.processor < MOST_TIME, "{:?}", spent.processor);
        let info = spent.finished.success().json();
        info["format-specific"]["data"]["bitmaps"][0]["count"].clone()
    };
    assert_eq!(info(), 2 * 65536);
    bits.write_all_at(&[1], LENGTH - 1).unwrap();
    assert_eq!(info(), SIZE, "a mark at the end of the file belongs to another disk");
    bits.set_len(i64::MAX.unsigned_abs()).unwrap();
    assert_eq!(info(), SIZE, "it is longer than any file of ours");
}
