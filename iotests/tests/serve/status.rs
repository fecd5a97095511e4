//! Block status: the extents told are the granules written, and the flags are QEMU's.

use std::path::Path;

use iotests::{Served, folder_with_image, rounds};
use serde_json::Value;

use super::{GRANULE, MIB, in_folder, marked, qemu_io};

/// `nbdinfo --map=CONTEXT` as offsets, lengths and types.
fn map(folder: &Path, uri: &str, context: &str) -> Vec<(u64, u64, u64)> {
    let map = format!("--map={context}");
    let told = in_folder(folder, "nbdinfo", &[&map, "--json", uri]).success().json();
    let number = |value: &Value| value.as_u64().unwrap();
    let extents = told.as_array().unwrap().iter();
    extents.map(|e| (number(&e["offset"]), number(&e["length"]), number(&e["type"]))).collect()
}

/// Random writes; then what `nbdinfo` and `qemu-img` are told is what the bitmap marks, and that is
/// what was written.
#[test]
fn the_extents_of_a_bitmap_are_the_granules_written() {
    const SIZE: u64 = 40 * MIB + 1536;
    rounds(4, |seed| {
        let mut random = seed.random();
        let folder = folder_with_image(SIZE);
        let folder = folder.path();
        let served = Served::start(folder, &["-B", "nightly", "vm.qbm"]);
        let mut expected = vec![false; usize::try_from(SIZE.div_ceil(GRANULE)).unwrap()];
        let mut commands = Vec::new();
        for _ in 0..random.usize(1..60) {
            let offset = random.u64(0..SIZE);
            let length = random.u64(1..=(SIZE - offset).min(300_000));
            let verb = ["write -q", "write -q -z", "discard -q"][random.usize(0..3)];
            commands.push(format!("{verb} {offset} {length}"));
            for granule in offset / GRANULE..(offset + length).div_ceil(GRANULE) {
                expected[usize::try_from(granule).unwrap()] = true;
            }
        }
        let commands: Vec<_> = commands.iter().map(String::as_str).collect();
        qemu_io(folder, served.uri(), &commands);

        let mut told = vec![false; expected.len()];
        let mut next = 0;
        for (offset, length, dirty) in map(folder, served.uri(), "qemu:dirty-bitmap:nightly") {
            assert_eq!(offset, next, "without gaps");
            next = offset + length;
            assert!(next == SIZE || length.is_multiple_of(GRANULE), "whole granules");
            for granule in offset / GRANULE..next.div_ceil(GRANULE) {
                told[usize::try_from(granule).unwrap()] = dirty == 1;
            }
        }
        assert_eq!(next, SIZE);
        assert_eq!(told, expected);
        let totals = ["--map=qemu:dirty-bitmap:nightly", "--totals", "--json", served.uri()];
        let totals = in_folder(folder, "nbdinfo", &totals).success().json();
        let dirty = totals.as_array().unwrap().iter().find(|total| total["type"] == 1).unwrap();
        // The last granule is cut at the end of the disk.
        let marks = (0..).zip(&expected).filter(|(_, dirty)| **dirty).map(|(granule, _)| granule);
        let bytes: u64 = marks.map(|granule: u64| GRANULE.min(SIZE - granule * GRANULE)).sum();
        assert_eq!(dirty["size"], bytes);

        // In QEMU's hands a dirty extent is one without data.
        let options = "driver=nbd,server.type=unix,server.path=qbm.sock,\
                       x-dirty-bitmap=qemu:dirty-bitmap:nightly";
        let arguments = ["map", "--output=json", "--image-opts", options];
        let qemu = in_folder(folder, "qemu-img", &arguments).success().json();
        let mut seen = vec![false; expected.len()];
        for extent in qemu.as_array().unwrap().iter().filter(|extent| extent["data"] == false) {
            let start = extent["start"].as_u64().unwrap();
            let end = (start + extent["length"].as_u64().unwrap()).min(SIZE);
            (start / GRANULE..end.div_ceil(GRANULE))
                .for_each(|g| seen[usize::try_from(g).unwrap()] = true);
        }
        assert_eq!(seen, expected);

        assert!(served.stop().0.success());
        let kept: Vec<_> =
            (0..).zip(&expected).filter(|(_, dirty)| **dirty).map(|(g, _)| g).collect();
        assert_eq!(marked(folder), kept);
    });
}

/// The same disk, served by `qemu-nbd`, has the same flags everywhere.
#[test]
fn allocation_is_told_as_qemu_tells_it() {
    let folder = folder_with_image(16 * MIB);
    let folder = folder.path();
    let served = Served::start(folder, &["vm.qbm"]);
    let commands = ["write -P 1 1M 64k", "write -P 2 5M 2M", "write -z -u 6M 512k", "flush"];
    qemu_io(folder, served.uri(), &commands);
    let contexts = ["base:allocation", "qemu:allocation-depth"];
    let told = contexts.map(|context| map(folder, served.uri(), context));
    assert!(served.stop().0.success());
    let socket = folder.join("theirs.sock");
    let mut arguments =
        vec!["-r", "-t", "-A", "--fork", "-f", "raw", "--pid-file=theirs.pid", "-k"];
    arguments.push(socket.to_str().unwrap());
    arguments.push("vm.raw");
    in_folder(folder, "qemu-nbd", &arguments).success();
    let theirs = contexts.map(|context| map(folder, "nbd+unix:///?socket=theirs.sock", context));
    let pid = std::fs::read_to_string(folder.join("theirs.pid")).unwrap();
    in_folder(folder, "sh", &["-c", &format!("kill {pid}")]).success();
    assert_eq!(told, theirs);
    assert_eq!(told[0].iter().filter(|(_, _, kind)| *kind == 3).count(), 4, "{told:?}");
}
