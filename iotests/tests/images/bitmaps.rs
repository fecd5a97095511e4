//! `bitmap` from one image to another.

use crate::scene::{Folder, KIB, MIB};

/// Marks are merged from a bitmap of another image of the same size, whatever the granularities.
#[test]
fn marks_are_merged_from_another_image() {
    let folder = Folder::with_image();
    folder.ours("create other.qbm 8M").success();
    folder.ours("bitmap --add -g 16k other.qbm theirs").success();
    folder.io("other.qbm", &["write -q 1M 16k"]);
    folder.ours("bitmap --add -g 64k vm.qbm ours").success();
    folder.io("vm.qbm", &["write -q 0 1"]);
    folder.ours("bitmap --merge theirs -b other.qbm -F qbm -f qbm vm.qbm ours").success();
    let marks = folder.ours("map --bitmap ours --output json vm.qbm").success().json();
    let dirty: Vec<_> =
        marks.as_array().unwrap().iter().filter(|range| range["dirty"] == true).collect();
    assert_eq!((dirty.len(), &dirty[0]["start"], &dirty[1]["start"]), (2, &0.into(), &MIB.into()));
    assert_eq!(dirty[1]["length"], 64 * KIB);

    folder.ours("bitmap --add -b other.qbm vm.qbm x").code(1);
    folder.ours("bitmap --merge missing -b other.qbm vm.qbm ours").code(1);
    folder.ours("create small.qbm 1M").success();
    folder.ours("bitmap --add small.qbm theirs").success();
    folder.ours("bitmap --merge theirs -b small.qbm vm.qbm ours").code(1);
}

/// What an action of a call made and a later one replaced leaves no file.
#[test]
fn a_call_with_several_actions_leaves_no_orphan() {
    let folder = Folder::with_image();
    folder.ours("bitmap --add vm.qbm a").success();
    folder.ours("bitmap --add --merge a --clear --merge a vm.qbm b").success();
    folder.ours("check vm.qbm").success();
}
