//! `convert`, `dd` and `compare`.

use std::fs;

use futures_executor::block_on;
use qbm_core::{Access, Lock, Storage};
use qbm_io_std::StdFile;

use crate::graph::{assert_is_disk, chain, own};
use crate::scene::{Folder, KIB, MIB};

/// Whatever the format of either side, the bytes are the same, and holes stay holes.
#[test]
fn a_disk_is_converted_both_ways_and_stays_sparse() {
    let folder = Folder::with_image();
    folder.ours("convert vm.qbm out.raw").success();
    folder.ours("convert -f raw -O qbm vm.raw copy.qbm").success();
    folder.ours("convert -O qbm copy.qbm again.qbm").success();
    for copy in ["out.raw", "copy.raw", "again.raw"] {
        folder.assert_same("vm.raw", copy);
        assert!(folder.space(copy) <= MIB + 128 * KIB, "{copy}: {}", folder.space(copy));
    }
    let compared = folder.ours("compare -s again.qbm vm.qbm").success();
    assert_eq!(compared.stdout, "Images are identical.\n");
}

/// `-S` says how many zeroes are worth a hole, and 0 that nothing is.
#[test]
fn zeroes_are_left_out_from_the_length_that_was_asked_for() {
    let folder = Folder::new();
    let parts = [(0, 4 * MIB, 1), (MIB, 64 * KIB, 0), (2 * MIB, 256 * KIB, 0)];
    folder.disk("vm.raw", 8 * MIB, &parts);
    for sparse in ["4k", "128k", "0"] {
        for (program, out) in
            [(Folder::ours as fn(&Folder, &str) -> _, "ours"), (Folder::theirs, "theirs")]
        {
            let convert = format!("convert -f raw -O raw -S {sparse} vm.raw {out}");
            program(&folder, &convert).success();
            folder.assert_same("vm.raw", out);
        }
        assert_eq!(folder.space("ours"), folder.space("theirs"), "-S {sparse}");
    }
}

/// With `-n` it goes over the disk that is there, of which nothing shows any more.
#[test]
fn a_disk_that_is_there_is_written_over() {
    let folder = Folder::with_image();
    folder.disk("old.raw", 9 * MIB, &[(0, 9 * MIB, 9)]);
    folder.ours("create --data-file old.raw old.qbm").success();
    folder.ours("bitmap --add old.qbm marks").success();
    folder.ours("convert -n -O qbm vm.qbm old.qbm").success();
    let old = folder.bytes("old.raw");
    let size = usize::try_from(8 * MIB).unwrap();
    assert!(old[..size] == folder.bytes("vm.raw"), "it was written over");
    assert!(old[size..].iter().all(|byte| *byte == 9), "what is past the end stays");
    let marks = folder.ours("map --bitmap marks --output json old.qbm").success().json();
    assert_eq!(marks[0]["length"], 8 * MIB, "the bitmap has recorded it: {marks}");

    folder.disk("small.raw", MIB, &[]);
    let refused = folder.ours("convert -n vm.qbm small.raw").code(1);
    assert!(refused.stderr.contains("output file is smaller than input file"));
    folder.ours("convert -n vm.qbm missing.raw").code(1);
    assert!(!folder.path("missing.raw").exists());
}

/// A conversion that fails leaves no file that was not there, and the target as it was.
#[test]
fn a_failed_conversion_leaves_what_was_there() {
    let folder = Folder::with_image();
    folder.disk("taken.raw", MIB, &[(0, MIB, 9)]);
    folder.ours("create other.qbm 1M").success();
    let before = folder.names();
    let taken = folder.bytes("taken.raw");
    for failing in [
        "convert missing.qbm taken.raw",
        "convert vm.qbm vm.raw",
        "convert vm.qbm no-folder/out.raw",
        "convert -O qbm vm.qbm other.qbm",
        "convert -O qbm vm.qbm taken.qbm",
        "convert -f raw vm.raw vm.raw",
        "convert vm.qbm taken.raw missing.raw",
        "convert -S 513 vm.qbm taken.raw",
        "dd if=vm.qbm of=no-folder/out",
        "dd if=vm.qbm of=taken.raw bs=0",
        "dd if=vm.qbm",
    ] {
        folder.ours(failing).code(1);
        assert_eq!(folder.names(), before, "{failing}");
    }
    assert!(folder.bytes("taken.raw") == taken);
}

/// A disk in use is not replaced under the feet of its user.
#[test]
fn a_target_in_use_is_not_replaced() {
    let folder = Folder::with_image();
    folder.disk("other.raw", MIB, &[]);
    let user = StdFile::open_operator(&folder.path("vm.raw"), Access::Write).unwrap();
    block_on(user.lock(Lock::Write)).unwrap();
    let refused = folder.ours("convert -f raw other.raw vm.raw").code(1);
    assert!(refused.stderr.starts_with("qbm: vm.raw: in use by "), "{}", refused.stderr);
}

/// 086: the lines of progress are those of qemu-img: hundredths of a percent, over each other.
#[test]
fn progress_is_told_as_qemu_img_tells_it() {
    let folder = Folder::with_image();
    for (ours, theirs) in [
        ("convert -p vm.qbm ours", "convert -p -f raw -O raw vm.raw theirs"),
        ("compare -p vm.qbm vm.qbm", "compare -p -f raw -F raw vm.raw vm.raw"),
    ] {
        let (ours, theirs) = (folder.ours(ours).success(), folder.theirs(theirs).success());
        let ends = |said: &str| {
            let lines: Vec<&str> = said.split('\r').collect();
            assert!(lines.iter().filter(|line| line.contains("/100%")).count() >= 2, "{said:?}");
            (lines[0].to_owned(), lines[lines.len() - 2..].join("|"))
        };
        assert_eq!(ends(&ours.stdout), ends(&theirs.stdout));
    }
}

/// Several disks are one after the other in the copy.
#[test]
fn disks_are_joined() {
    let folder = Folder::new();
    folder.disk("a", MIB, &[(0, KIB, 1)]);
    folder.disk("b", 2 * MIB, &[(MIB, KIB, 2)]);
    folder.ours("convert -f raw -O qbm a b joined.qbm").success();
    folder.theirs("convert -f raw -O raw a b theirs").success();
    folder.assert_same("joined.raw", "theirs");
}

/// Sizes, parts and complaints of `dd`.
#[test]
fn a_part_of_a_disk_is_that_of_qemu_img() {
    let folder = Folder::with_image();
    for operands in [
        "",
        "bs=64k",
        "bs=64k count=3",
        "bs=64k count=3 skip=1",
        "bs=1M skip=2",
        "bs=1000 count=2000",
        "bs=1M skip=20",
        "bs=1M count=0",
        "bs=3 skip=1 count=5",
        "count=99999999",
    ] {
        let ours = folder.ours(&format!("dd if=vm.qbm of=ours {operands}")).success();
        let theirs = format!("dd -f raw -O raw if=vm.raw of=theirs {operands}");
        let theirs = folder.theirs(&theirs).success();
        // qemu-img rounds a raw disk up to sectors.
        let ours_length = fs::metadata(folder.path("ours")).unwrap().len();
        let mut padded = folder.bytes("ours");
        padded.resize(usize::try_from(ours_length.next_multiple_of(512)).unwrap(), 0);
        let mut reference = folder.bytes("theirs");
        reference.resize(reference.len().next_multiple_of(512), 0);
        assert!(padded == reference, "{operands}");
        let complains = |finished: &iotests::Finished| finished.stderr.contains("cannot skip");
        assert_eq!(complains(&ours), complains(&theirs), "{operands}");
    }
    for operands in [
        "of=x",
        "if=vm.qbm of=x bs=0",
        "if=vm.qbm of=x bs=2G",
        "if=vm.qbm of=x y=0",
        "if=vm.qbm of=x count=x",
    ] {
        assert_eq!(folder.ours(&format!("dd {operands}")).code(1).stdout, "", "{operands}");
        folder.theirs(&format!("dd {operands}")).code(1);
    }
}

/// With `-B` only what differs from the image behind is in the new one, whatever that image is.
#[test]
fn a_copy_over_another_image_has_what_differs() {
    let folder = chain();
    folder.disk("other.raw", 3 * MIB, &[(0, 64 * KIB, 0), (MIB, 128 * KIB, 7)]);
    // What the top, and what the two have of their own; what else differs from the other disk.
    for (backing, clusters) in
        [("mid.qbm -F qbm", 3), ("base.raw -F raw", 6), ("other.raw -F raw", 19)]
    {
        folder.ours(&format!("convert -O qbm -B {backing} top.qbm new.qbm")).success();
        assert_is_disk(&folder, "new.qbm");
        assert_eq!(own(&folder, "new.qbm"), clusters * 64 * KIB, "over {backing}");
        folder.ours("check new.qbm").success();
        folder.io("new.qbm", &["read -q -P 4 640k 64k", "write -q -P 9 3584k 1k"]);
        folder.ours("compare new.qbm top.qbm").code(1);
        for name in folder.names().iter().filter(|name| name.starts_with("new.")) {
            fs::remove_file(folder.path(name)).unwrap();
        }
    }
    for refused in [
        "-B base.raw -F raw top.qbm new.raw",
        "-O qbm -B base.raw top.qbm new.qbm",
        "-O qbm -B missing -F raw top.qbm new.qbm",
        "-O qbm -B base.raw -F raw top.qbm mid.qbm new.qbm",
    ] {
        let before = folder.names();
        folder.ours(&format!("convert {refused}")).code(1);
        assert_eq!(folder.names(), before, "{refused}");
    }
}

/// With `--bitmaps` the new image, or one that is there, has all bitmaps of the source.
#[test]
fn bitmaps_are_copied_with_the_disk() {
    let folder = chain();
    folder.ours("bitmap --add -g 4k --disable top.qbm quiet").success();
    folder.ours("bitmap --merge marks top.qbm quiet").success();
    folder.ours("convert -O qbm --bitmaps top.qbm flat.qbm").success();
    folder.ours("convert -O qbm -B mid.qbm -F qbm --bitmaps top.qbm over.qbm").success();
    folder.ours("create -q there.qbm 4M").success();
    folder.ours("convert -n -O qbm --bitmaps top.qbm there.qbm").success();
    let facts = |image: &str| {
        let info = folder.ours(&format!("info --output json {image}")).success().json();
        let mut bitmaps = info["format-specific"]["data"]["bitmaps"].clone();
        // Named after the image, and only one that was open for writing has them.
        for bitmap in bitmaps.as_array_mut().unwrap() {
            bitmap.as_object_mut().unwrap().remove("seal");
        }
        let marks = ["marks", "quiet"].map(|name| {
            folder.ours(&format!("map --bitmap {name} --output json {image}")).success().stdout
        });
        assert_eq!(bitmaps.as_array().unwrap().len(), 2, "{info}");
        (bitmaps, marks)
    };
    let wanted = facts("top.qbm");
    for copy in ["flat.qbm", "over.qbm", "there.qbm"] {
        assert_is_disk(&folder, copy);
        assert_eq!(facts(copy), wanted, "{copy}");
        folder.ours(&format!("check {copy}")).success();
    }
    for refused in ["top.qbm x.raw", "-f raw -O qbm base.raw x.qbm", "-O qbm top.qbm mid.qbm x.qbm"]
    {
        folder.ours(&format!("convert --bitmaps {refused}")).code(1);
    }
    assert!(!folder.names().iter().any(|name| name.starts_with("x.")));
}

/// What a conversion that was killed leaves, the next one to that name removes; not what another
/// process is writing.
#[test]
fn what_a_killed_conversion_left_goes_with_the_next_one() {
    let folder = Folder::with_image();
    let leftover = |name: &str, digit: &str| format!("{name}.{}.tmp", digit.repeat(32));
    for name in ["copy.qbm", "out.raw"] {
        for digit in ["a", "b"] {
            folder.disk(&leftover(name, digit), MIB, &[(0, KIB, 1)]);
        }
        let busy = folder.path(&leftover(name, "b"));
        let user = StdFile::open_operator(&busy, Access::Write).unwrap();
        block_on(user.lock(Lock::Write)).unwrap();
        let format = if name == "out.raw" { "raw" } else { "qbm" };
        folder.ours(&format!("convert -O {format} vm.qbm {name}")).success();
        let left: Vec<_> = folder.names().into_iter().filter(|name| name.contains("tmp")).collect();
        assert_eq!(left, [leftover(name, "b")]);
        fs::remove_file(busy).unwrap();
    }
    folder.disk(&leftover("copy.qbm", "c"), MIB, &[]);
    folder.ours("check -r leaks copy.qbm").success();
    assert!(!folder.names().iter().any(|name| name.contains("tmp")));
}
