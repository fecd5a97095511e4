//! Commit, rebase and convert of chains.

use std::fs;

use super::{CLUSTER, GIB, KIB, MIB, PLACES, io_at_places};
use crate::graph::own;
use crate::scene::Folder;

/// At each of `places` the base has three clusters, mid the second one of them, and top the third.
fn three_layers(folder: &Folder, size: u64, places: &[u64]) {
    let parts: Vec<_> = places.iter().map(|place| (*place, 3 * CLUSTER, 1)).collect();
    folder.disk("base.raw", size, &parts);
    for (image, behind, first, byte) in
        [("mid.qbm", "base.raw -F raw", 1, 2), ("top.qbm", "mid.qbm -F qbm", 2, 3)]
    {
        folder.ours(&format!("create -q -b {behind} {image}")).success();
        for place in places {
            let offset = place + first * CLUSTER;
            folder.io(image, &[&format!("write -q -P {byte} {offset} {CLUSTER}")]);
        }
    }
}

/// The three clusters at `place` have these bytes.
fn reads(place: u64, bytes: [u8; 3]) -> Vec<String> {
    let read =
        |(at, byte): (u64, u8)| format!("read -q -P {byte} {} {CLUSTER}", place + at * CLUSTER);
    (0..).zip(bytes).map(read).collect()
}

/// 018: after a commit the image behind has all, past 4 GiB too.
#[test]
fn a_commit_moves_all_that_was_written() {
    let folder = Folder::new();
    three_layers(&folder, 5 * GIB, &PLACES);
    folder.ours("commit -q top.qbm").success();
    for image in ["mid.qbm", "top.qbm"] {
        io_at_places(&folder, image, &|place| reads(place, [1, 2, 3]));
    }
    assert_eq!((own(&folder, "mid.qbm"), own(&folder, "top.qbm")), (4 * CLUSTER, 0));
}

/// 019: a copy over the same image has its own clusters and no others, past 4 GiB too.
#[test]
fn a_copy_over_the_same_image_has_only_the_clusters_of_the_source() {
    let folder = Folder::new();
    three_layers(&folder, 5 * GIB, &PLACES);
    folder.ours("convert -O qbm -B base.raw -F raw mid.qbm copy.qbm").success();
    io_at_places(&folder, "copy.qbm", &|place| reads(place, [1, 2, 1]));
    assert_eq!(own(&folder, "copy.qbm"), own(&folder, "mid.qbm"));
}

/// 020: a commit needs something behind, which nobody else uses, and says which it is.
#[test]
fn a_commit_that_cannot_be_done_changes_nothing() {
    let folder = Folder::new();
    three_layers(&folder, MIB, &[0]);
    folder.ours("create -q alone.qbm 1M").success();
    folder.ours("create -q -b base.raw -F raw orphan.qbm").success();
    folder.ours("rebase -u -b missing.raw -F raw orphan.qbm").success();
    for (image, complaint) in [
        ("alone.qbm", "alone.qbm: Image does not have a backing file"),
        ("missing.qbm", "missing.qbm"),
        ("orphan.qbm", "missing.raw"),
    ] {
        let refused = folder.ours(&format!("commit {image}")).code(1);
        assert!(refused.stderr.contains(complaint), "{}", refused.stderr);
    }
    let user = qbm_io_std::StdFile::open_operator(&folder.path("mid.raw"), qbm_core::Access::Read);
    let user = user.unwrap();
    let lock = qbm_core::Storage::lock(&user, qbm_core::Lock::Read);
    futures_executor::block_on(lock).unwrap();
    let refused = folder.ours("commit top.qbm").code(1);
    assert!(refused.stderr.contains("mid.raw: lock: in use by "), "{}", refused.stderr);
    drop(user);
    folder.io("top.qbm", &["read -q -P 3 128k 64k"]);
    assert_eq!(own(&folder, "top.qbm"), CLUSTER);
}

/// 024: a rebase pulls the clusters in which the two differ and the top has nothing, and no others.
#[test]
fn a_rebase_pulls_what_differs_and_no_more() {
    let folder = Folder::new();
    // Every combination of nothing, one byte and another, in the old, the new and the top.
    let cluster = |number: u64| number * CLUSTER;
    let digit = |number: u64, place: u32| u8::try_from(number / 3_u64.pow(place) % 3).unwrap();
    for (image, place) in [("old", 0), ("new", 1)] {
        folder.disk(&format!("empty-{image}.raw"), cluster(27), &[]);
        folder.ours(&format!("create -q -b empty-{image}.raw -F raw {image}.qbm")).success();
        write_digits(&folder, &format!("{image}.qbm"), |number| digit(number, place));
    }
    folder.ours("create -q -b old.qbm -F qbm top.qbm").success();
    write_digits(&folder, "top.qbm", |number| digit(number, 2) * 10);
    folder.ours("convert top.qbm before.raw").success();
    folder.ours("rebase -b new.qbm -F qbm top.qbm").success();
    folder.ours("compare -F raw top.qbm before.raw").success();
    // 18 of its own; and of the 9 others the 6 in which the digits differ.
    assert_eq!(own(&folder, "top.qbm"), cluster(18 + 6));
    // Nothing shows through from the old one.
    fs::remove_file(folder.path("old.qbm")).unwrap();
    folder.ours("compare -F raw top.qbm before.raw").success();
}

/// Fills the cluster of each number with its digit, if that is not 0.
fn write_digits(folder: &Folder, image: &str, digit: impl Fn(u64) -> u8) {
    let numbers = (0..27).filter(|number| digit(*number) != 0);
    let write = |number| format!("write -q -P {} {} {CLUSTER}", digit(number), number * CLUSTER);
    let writes: Vec<String> = numbers.map(write).collect();
    folder.io(image, &writes.iter().map(String::as_str).collect::<Vec<_>>());
}

/// 025: what is added by a resize is zeroes, and can be written; what a smaller disk lost stays lost.
#[test]
fn what_a_resize_adds_is_zeroes() {
    let folder = Folder::new();
    folder.disk("base.raw", MIB, &[(0, MIB, 6)]);
    folder.ours("create -q -b base.raw -F raw top.qbm 131584").success();
    for (size, read) in [
        ("+64k", "read -q -P 0 131584 64k"),
        ("256k", "read -q -P 0 131584 130560"),
        ("--shrink 70000", "read -q -P 6 0 70000"),
        ("1M", "read -q -P 0 70144 978432"),
    ] {
        let words: Vec<&str> = size.split(' ').collect();
        let (size, flags) = words.split_last().unwrap();
        folder.ours(&format!("resize -q {} top.qbm {size}", flags.join(" "))).success();
        folder.io("top.qbm", &[read]);
    }
    folder.io(
        "top.qbm",
        &["read -q -P 6 0 69632", "write -q -P 7 1023k 1k", "read -q -P 7 1023k 1k"],
    );
    folder.ours("check top.qbm").success();
}

/// 050: zeroes that were written stay zeroes over another image.
#[test]
fn zeroes_that_were_written_survive_a_rebase() {
    let folder = Folder::new();
    folder.disk("old.raw", MIB, &[]);
    folder.disk("new.raw", MIB, &[(0, MIB, 9)]);
    folder.ours("create -q -b old.raw -F raw top.qbm").success();
    folder.io("top.qbm", &["write -q -z 0 256k", "write -q -P 1 512k 64k"]);
    folder.ours("rebase -b new.raw -F raw top.qbm").success();
    let shows = ["read -q -P 0 0 512k", "read -q -P 1 512k 64k", "read -q -P 0 576k 448k"];
    folder.io("top.qbm", &shows);
}

/// 069: an image whose backing is gone is refused by the name of what is missing, and can be mended.
#[test]
fn an_image_whose_backing_is_gone_names_what_is_missing() {
    let folder = Folder::new();
    three_layers(&folder, MIB, &[0]);
    fs::rename(folder.path("base.raw"), folder.path("moved.raw")).unwrap();
    for image in ["mid.qbm", "top.qbm"] {
        let refused = folder.ours(&format!("map {image}")).code(1);
        assert!(refused.stderr.starts_with("qbm: base.raw: open: "), "{}", refused.stderr);
        folder.ours(&format!("info {image}")).success();
    }
    folder.ours("rebase -u -b moved.raw -F raw mid.qbm").success();
    folder.io("top.qbm", &["read -q -P 3 128k 64k", "read -q -P 1 0 64k"]);
}

/// 095: a top that is larger than the base of its chain is committed to that, which gets its size.
#[test]
fn a_chain_of_growing_disks_is_committed_to_its_base() {
    let folder = Folder::new();
    folder.disk("base.raw", 5 * MIB, &[(0, MIB, 1)]);
    folder.ours("create -q -b base.raw -F raw mid.qbm 7M").success();
    folder.ours("create -q -b mid.qbm -F qbm top.qbm 9M").success();
    folder.io("mid.qbm", &["write -q -P 2 6M 64k"]);
    folder.io("top.qbm", &["write -q -P 3 8M 64k"]);
    folder.ours("commit -q -b base.raw top.qbm").success();
    assert_eq!(fs::metadata(folder.path("base.raw")).unwrap().len(), 9 * MIB);
    folder.ours("compare -F raw top.qbm base.raw").success();
    folder.ours("rebase -u -b base.raw -F raw top.qbm").success();
    folder.ours("compare -F raw top.qbm base.raw").success();
}

/// 097: a commit across the boundary of 2 GiB, in four passes: into the next image, which empties the
/// top; so with -d, which does not; into the next by its name; into the base.
#[test]
fn a_commit_through_a_chain_crosses_two_gib() {
    let boundary = 2 * GIB - CLUSTER;
    for (pass, of_top, of_base) in [
        ("commit -q top.qbm", 0, [1, 1, 1]),
        ("commit -q -d top.qbm", 2, [1, 1, 1]),
        ("commit -q -b mid.qbm top.qbm", 2, [1, 1, 1]),
        ("commit -q -b base.raw top.qbm", 2, [1, 2, 3]),
    ] {
        let folder = Folder::new();
        three_layers(&folder, 2100 * MIB, &[0, boundary]);
        folder.ours(pass).success();
        assert_eq!(own(&folder, "top.qbm"), of_top * CLUSTER, "{pass}");
        folder.ours("create -q -b base.raw -F raw lowest.qbm").success();
        for place in [0, boundary] {
            for (image, bytes) in
                [("top.qbm", [1, 2, 3]), ("mid.qbm", [1, 2, 3]), ("lowest.qbm", of_base)]
            {
                let reads = reads(place, bytes);
                folder.io(image, &reads.iter().map(String::as_str).collect::<Vec<_>>());
            }
        }
    }
}

/// 110: what is behind an image is found from the folder of that image, whatever the folder of the
/// process, and of the image above it.
#[test]
fn what_is_behind_is_found_from_the_folder_of_the_image() {
    let folder = Folder::new();
    for name in ["a", "a/b"] {
        fs::create_dir(folder.path(name)).unwrap();
    }
    folder.disk("a/b/base.raw", MIB, &[(0, 64 * KIB, 1)]);
    folder.ours("create -q -b b/base.raw -F raw a/mid.qbm").success();
    folder.ours("create -q -b mid.qbm -F qbm a/top.qbm").success();
    folder.io("a/top.qbm", &["read -q -P 1 0 64k"]);
    let info = folder.ours("info --backing-chain --output json a/top.qbm").success().json();
    let named = |at: usize, what: &str| info[at][what].as_str().unwrap().to_owned();
    assert_eq!(
        (named(0, "backing-filename"), named(1, "backing-filename")),
        ("mid.qbm".into(), "b/base.raw".into())
    );
    let below = info[2]["filename"].as_str().unwrap();
    assert!(below.ends_with("a/b/base.raw"), "{below}");
}
