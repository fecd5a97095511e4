//! The format itself.

use std::fs;

use serde_json::Value;

use super::{GIB, KIB, MIB};
use crate::scene::Folder;

/// 072: a disk that has an image of another format in it is what it is: nothing looks for that.
#[test]
fn an_image_within_an_image_is_never_looked_for() {
    let folder = Folder::new();
    folder.theirs("create -q -f qcow2 inner.raw 64M").success();
    let inner = folder.bytes("inner.raw");
    folder.ours("create -q --data-file inner.raw outer.qbm").success();
    let info = folder.ours("info --output json outer.qbm").success().json();
    assert_eq!(info["virtual-size"], inner.len(), "not that of the inner disk");
    folder.ours("create -q -b inner.raw -F raw over.qbm").success();
    folder.ours("convert over.qbm copy.raw").success();
    assert!(folder.bytes("copy.raw") == inner);
    let info = folder.theirs("info -f qcow2 --output=json copy.raw").success().json();
    assert_eq!(info["virtual-size"], 64 * MIB);
}

/// The lengths in KiB of what the bitmap marks.
fn marked(folder: &Folder, bitmap: &str) -> Vec<(u64, u64)> {
    let map = folder.ours(&format!("map --output json --bitmap {bitmap} vm.qbm")).success().json();
    let dirty = map.as_array().unwrap().iter().filter(|extent| extent["dirty"] == true);
    let number = |extent: &Value, name: &str| extent[name].as_u64().unwrap();
    dirty.map(|extent| (number(extent, "start"), number(extent, "length"))).collect()
}

/// 140: bitmaps of all granularities follow the same writes, each by its own, and a resize.
#[test]
fn several_bitmaps_of_an_image_have_granularities_of_their_own() {
    let folder = Folder::new();
    folder.ours("create -q vm.qbm 5G").success();
    for (name, granularity) in [("fine", "512"), ("page", "4k"), ("usual", "64k"), ("coarse", "2G")]
    {
        folder.ours(&format!("bitmap --add -g {granularity} vm.qbm {name}")).success();
    }
    for (refused, granularity) in [("tiny", "256"), ("odd", "3k"), ("huge", "4G")] {
        folder.ours(&format!("bitmap --add -g {granularity} vm.qbm {refused}")).code(1);
    }
    folder.io("vm.qbm", &["write -q 0 1", "write -q 1M 513", "write -q 4999M 512"]);
    let last = 4999 * MIB;
    assert_eq!(marked(&folder, "fine"), [(0, 512), (MIB, 1024), (last, 512)]);
    assert_eq!(marked(&folder, "page"), [(0, 4 * KIB), (MIB, 4 * KIB), (last, 4 * KIB)]);
    assert_eq!(marked(&folder, "usual"), [(0, 64 * KIB), (MIB, 64 * KIB), (last, 64 * KIB)]);
    assert_eq!(marked(&folder, "coarse"), [(0, 2 * GIB), (4 * GIB, GIB)]);

    folder.ours("resize -q --shrink vm.qbm 1M").success();
    assert_eq!(marked(&folder, "fine"), [(0, 512)]);
    assert_eq!(marked(&folder, "coarse"), [(0, MIB)]);
    folder.ours("resize -q vm.qbm 2M").success();
    assert_eq!(marked(&folder, "fine"), [(0, 512), (MIB, MIB)], "what is new counts as changed");
    folder.ours("check vm.qbm").success();
}

/// 140: a data image by a relative name goes with its folder; by an absolute one it must be allowed.
#[test]
fn files_are_named_from_the_folder_of_the_descriptor_or_absolutely() {
    let folder = Folder::new();
    fs::create_dir(folder.path("a")).unwrap();
    fs::create_dir(folder.path("data")).unwrap();
    folder.disk("a/near.raw", MIB, &[(0, KIB, 1)]);
    folder.disk("data/far.raw", MIB, &[(0, KIB, 2)]);
    folder.ours("create -q --data-file a/near.raw a/near.qbm").success();
    folder.ours("create -q --data-file data/far.raw a/far.qbm").success();
    folder.io("a/near.qbm", &["read -q -P 1 0 1k"]);
    let refused = folder.ours("map a/far.qbm").code(1);
    assert!(refused.stderr.contains("--allow-path"), "{}", refused.stderr);
    folder.ours(&format!("map --allow-path {} a/far.qbm", folder.path("data").display())).success();
    fs::rename(folder.path("a"), folder.path("b")).unwrap();
    folder.io("b/near.qbm", &["read -q -P 1 0 1k"]);
}

/// 140: a descriptor that is damaged is refused at the place, and left as it is. The long list of
/// them is in docs/bad-inputs.md.
#[test]
fn a_bad_descriptor_is_refused_and_left_alone() {
    let folder = Folder::with_image();
    let good = fs::read_to_string(folder.path("vm.qbm")).unwrap();
    let bad = [
        good[..good.len() / 2].to_owned(),
        good.replacen('{', "{\"version\":7,", 1),
        good.replace("raw", "vmdk"),
        String::new(),
    ];
    for text in bad {
        fs::write(folder.path("bad.qbm"), &text).unwrap();
        for verb in ["info", "map", "check -r all", "bitmap --add"] {
            let name = if verb.starts_with("bitmap") { " x" } else { "" };
            let refused = folder.ours(&format!("{verb} bad.qbm{name}")).code(1);
            assert!(refused.stderr.starts_with("qbm: bad.qbm:"), "{}", refused.stderr);
        }
        assert_eq!(fs::read_to_string(folder.path("bad.qbm")).unwrap(), text);
    }
}
