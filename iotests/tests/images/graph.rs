//! `commit`, `rebase` and `stream`.

use std::fs;

use crate::scene::{Folder, KIB, MIB};

/// The chain base, mid, top, of 4 MiB, each with something of its own, and the disk in `disk.raw`.
pub(crate) fn chain() -> Folder {
    let folder = Folder::new();
    folder.disk("base.raw", 4 * MIB, &[(0, MIB, 1), (3 * MIB, 64 * KIB, 2)]);
    folder.ours("create -q -b base.raw -F raw mid.qbm").success();
    folder.io("mid.qbm", &["write -q -P 3 512k 256k"]);
    folder.ours("create -q -b mid.qbm -F qbm top.qbm").success();
    folder.ours("bitmap --add top.qbm marks").success();
    folder.io("top.qbm", &["write -q -P 4 640k 64k", "write -q -z 0 64k", "write -q -P 5 2M 1"]);
    folder.ours("convert top.qbm disk.raw").success();
    folder
}

pub(crate) fn assert_is_disk(folder: &Folder, image: &str) {
    folder.ours(&format!("compare -F raw {image} disk.raw")).success();
}

/// Bytes that the top layer of the image has.
pub(crate) fn own(folder: &Folder, image: &str) -> u64 {
    let map = folder.ours(&format!("map --output json {image}")).success().json();
    let own = map.as_array().unwrap().iter().filter(|it| it["depth"] == 0 && it["present"] == true);
    own.map(|it| it["length"].as_u64().unwrap()).sum()
}

/// A commit moves what the top has into the image behind it, and leaves its bitmaps alone.
#[test]
fn a_commit_empties_the_top() {
    let folder = chain();
    folder.ours("bitmap --add mid.qbm below").success();
    let marks = folder.ours("map --bitmap marks top.qbm").success().stdout;
    assert_eq!(folder.ours("commit top.qbm").success().stdout, "Image committed.\n");
    assert_is_disk(&folder, "top.qbm");
    assert_is_disk(&folder, "mid.qbm");
    assert_eq!(own(&folder, "top.qbm"), 0);
    assert_eq!(folder.space("top.raw"), 0, "its space is given back");
    assert_eq!(folder.ours("map --bitmap marks top.qbm").success().stdout, marks);
    let below = folder.ours("map --bitmap below --output json mid.qbm").success().json();
    let dirty = below.as_array().unwrap().iter().filter(|it| it["dirty"] == true);
    let dirty: u64 = dirty.map(|it| it["length"].as_u64().unwrap()).sum();
    assert_eq!(dirty, 3 * 64 * KIB, "the bitmap of what was written to has recorded it");
    for image in ["top.qbm", "mid.qbm"] {
        folder.ours(&format!("check {image}")).success();
    }
}

/// With `-b` it goes to any image of the chain, and with it or `-d` the top stays as it is.
#[test]
fn a_commit_goes_down_the_chain() {
    for commit in ["commit -q -b base.raw top.qbm", "commit -q -d top.qbm"] {
        let folder = chain();
        let before = own(&folder, "top.qbm");
        assert_eq!(folder.ours(commit).success().stdout, "");
        assert_is_disk(&folder, "top.qbm");
        assert_eq!(own(&folder, "top.qbm"), before);
        let into = if commit.contains("-b") { "-f raw base.raw" } else { "mid.qbm" };
        folder.ours(&format!("compare -F raw {into} disk.raw")).success();
    }
    let folder = chain();
    for refused in ["commit -b other.raw top.qbm", "commit -b top.qbm top.qbm", "commit base.raw"] {
        folder.ours(refused).code(1);
    }
    folder.ours("create -q alone.qbm 1M").success();
    let alone = folder.ours("commit alone.qbm").code(1);
    assert_eq!(alone.stderr, "qbm: alone.qbm: Image does not have a backing file\n");
}

/// A top that is longer makes the base longer, and one that is shorter leaves what is past it.
#[test]
fn a_commit_makes_the_base_as_long_as_the_top() {
    let folder = Folder::new();
    folder.disk("base.raw", 2 * MIB, &[(0, 2 * MIB, 1)]);
    folder.ours("create -q -b base.raw -F raw long.qbm 3M").success();
    folder.io("long.qbm", &["write -q -P 2 2560k 64k"]);
    folder.ours("commit long.qbm").success();
    folder.ours("compare -F raw long.qbm base.raw").success();
    assert_eq!(fs::metadata(folder.path("base.raw")).unwrap().len(), 3 * MIB);
    folder.ours("create -q -b base.raw -F raw short.qbm 1M").success();
    folder.io("short.qbm", &["write -q -P 3 0 64k"]);
    folder.ours("commit short.qbm").success();
    let base = folder.bytes("base.raw");
    assert!(base.len() == 3 << 20 && base[0] == 3 && base[1 << 20] == 1);
}

/// With `--merge-bitmaps` what the top has recorded since a backup goes down with its bytes.
#[test]
fn a_commit_can_merge_bitmaps() {
    let folder = chain();
    folder.ours("bitmap --add -g 32k mid.qbm marks").success();
    folder.ours("bitmap --add top.qbm quiet").success();
    folder.ours("bitmap --disable top.qbm quiet").success();
    let marks = folder.ours("map --bitmap marks top.qbm").success().stdout;
    folder.ours("commit --merge-bitmaps top.qbm").success();
    assert_eq!(folder.ours("map --bitmap marks mid.qbm").success().stdout, marks);
    let info = folder.ours("info --output json mid.qbm").success().json();
    let bitmaps = info["format-specific"]["data"]["bitmaps"].as_array().unwrap().clone();
    let quiet = bitmaps.iter().find(|it| it["name"] == "quiet").unwrap();
    assert_eq!(quiet["flags"], serde_json::json!([]), "disabled, as it was");

    let folder = chain();
    folder.ours("commit --merge-bitmaps -b base.raw top.qbm").code(1);
}

/// Whatever is put behind it, the disk and its marks are the same, and only what differs is copied.
#[test]
fn a_rebase_changes_nothing_that_can_be_seen() {
    let folder = chain();
    folder.disk("other.raw", 5 * MIB, &[(0, MIB, 1), (4 * MIB, MIB, 7)]);
    let marks = folder.ours("map --bitmap marks top.qbm").success().stdout;
    let steps = [
        ("-b base.raw -F raw", (64 + 4 * 64 + 64) * KIB),
        ("-b other.raw -F raw", (64 + 4 * 64 + 64 + 64) * KIB),
        ("-b mid.qbm -F qbm", (64 + 4 * 64 + 64 + 64) * KIB),
    ];
    for (rebase, expected) in steps {
        assert_eq!(folder.ours(&format!("rebase {rebase} top.qbm")).success().stdout, "");
        assert_is_disk(&folder, "top.qbm");
        assert_eq!(own(&folder, "top.qbm"), expected, "{rebase}");
        assert_eq!(folder.ours("map --bitmap marks top.qbm").success().stdout, marks);
    }
    for refused in ["-b missing.raw -F raw", "-b other.raw", "-b top.qbm -F qbm"] {
        folder.ours(&format!("rebase {refused} top.qbm")).code(1);
        assert_is_disk(&folder, "top.qbm");
    }
    folder.ours("create -q alone.qbm 1M").success();
    folder.ours("rebase -b base.raw -F raw alone.qbm").code(1);
}

/// With `-u` only the name changes, whether there is such an image or not.
#[test]
fn an_unchecked_rebase_only_names_another_image() {
    let folder = chain();
    fs::rename(folder.path("mid.qbm"), folder.path("moved.qbm")).unwrap();
    folder.ours("map top.qbm").code(1);
    folder.ours("rebase -u -b moved.qbm -F qbm top.qbm").success();
    assert_is_disk(&folder, "top.qbm");
    folder.ours("rebase -u -b nowhere.qbm -F qbm top.qbm").success();
    let info = folder.ours("info --output json top.qbm").success().json();
    assert_eq!(info["backing-filename"], "nowhere.qbm");
    folder.ours("map top.qbm").code(1);
}

/// After a stream nothing is behind it, and its disk is the same.
#[test]
fn a_stream_leaves_an_image_that_stands_alone() {
    let folder = chain();
    folder.ours("stream top.qbm").success();
    for name in ["base.raw", "mid.qbm", "mid.raw"] {
        fs::remove_file(folder.path(name)).unwrap();
    }
    assert_is_disk(&folder, "top.qbm");
    let info = folder.ours("info --output json top.qbm").success().json();
    assert!(info.get("backing-filename").is_none());
    assert!(folder.space("top.raw") < 2 * MIB, "what is zero takes no space");
}
