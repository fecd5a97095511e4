//! What an overlay shows, and what a write to a part of a cluster leaves of the rest.

use super::{CLUSTER, GIB, KIB, MIB, PLACES, io_at_places};
use crate::scene::Folder;

/// 017: what is behind shows where nothing was written, within clusters and past 4 GiB.
#[test]
fn what_is_behind_shows_where_nothing_was_written() {
    let folder = Folder::new();
    let parts = PLACES.map(|place| (0..8).map(move |at| (place + 2 * at * CLUSTER, CLUSTER, 7)));
    folder.disk("base.raw", 6 * GIB, &parts.into_iter().flatten().collect::<Vec<_>>());
    folder.ours("create -q -b base.raw -F raw top.qbm").success();
    // From the middle of each cluster behind to the middle of the hole after it.
    let each = |place: u64, command: &dyn Fn(u64) -> Vec<String>| {
        (0..8).flat_map(|at| command(place + 2 * at * CLUSTER)).collect::<Vec<_>>()
    };
    let half = CLUSTER / 2;
    io_at_places(&folder, "top.qbm", &|place| {
        each(place, &|at| vec![format!("write -q -P 9 {} {CLUSTER}", at + half)])
    });
    io_at_places(&folder, "top.qbm", &|place| {
        each(place, &|at| {
            vec![
                format!("read -q -P 7 {at} {half}"),
                format!("read -q -P 9 {} {CLUSTER}", at + half),
                format!("read -q -P 0 {} {half}", at + half + CLUSTER),
            ]
        })
    });
}

/// 027: a write to a part of a new cluster leaves zeroes around it, where nothing is behind.
#[test]
fn around_a_write_to_a_new_cluster_there_are_zeroes() {
    let folder = Folder::new();
    folder.disk("base.raw", 0, &[]);
    folder.ours("create -q -b base.raw -F raw top.qbm 1M").success();
    folder.io("top.qbm", &["write -q -P 5 66k 3k", "write -q -P 6 200k 512"]);
    folder.io(
        "top.qbm",
        &[
            "read -q -P 0 0 66k",
            "read -q -P 5 66k 3k",
            "read -q -P 0 69k 131k",
            "read -q -P 6 200k 512",
            "read -q -P 0 205312 843264",
        ],
    );
}

/// 028: a disk goes on where what is behind it ends, in the middle of a cluster; and so it does in
/// that image once it was committed.
#[test]
fn a_disk_goes_on_where_what_is_behind_it_ends() {
    let folder = Folder::new();
    let end = 4 * GIB + 3584;
    folder.disk("base.raw", end, &[(4 * GIB - CLUSTER, CLUSTER + 3584, 4)]);
    folder.ours("create -q -b base.raw -F raw top.qbm 5G").success();
    let shows = [
        format!("read -q -P 4 {} {}", 4 * GIB - CLUSTER, CLUSTER + 3584),
        format!("read -q -P 0 {end} 60k"),
    ];
    folder.io("top.qbm", &shows.each_ref().map(String::as_str));
    // Within the cluster in which it ends, past its end.
    folder.io("top.qbm", &[&format!("write -q -P 8 {} 1k", end + 2048)]);
    let shows = [
        shows[0].clone(),
        format!("read -q -P 0 {end} 2k"),
        format!("read -q -P 8 {} 1k", end + 2048),
        format!("read -q -P 0 {} 50k", end + 3072),
    ];
    folder.io("top.qbm", &shows.each_ref().map(String::as_str));
    folder.ours("commit -q top.qbm").success();
    folder.ours("create -q -b base.raw -F raw again.qbm").success();
    folder.io("again.qbm", &shows.each_ref().map(String::as_str));
}

/// 034: zeroes hide what is behind, whatever their ends, and no more than that.
#[test]
fn zeroes_hide_what_is_behind_and_nothing_else() {
    let folder = Folder::new();
    folder.disk("base.raw", 2 * MIB, &[(0, MIB, 3)]);
    folder.ours("create -q -b base.raw -F raw top.qbm").success();
    let mut expected = folder.bytes("base.raw");
    // Aligned; one end, the other, both within a cluster; within one; where it is zero; where it was
    // written; with the cluster given up and without.
    let zeroes = [
        (0, 2 * CLUSTER, "-u"),
        (3 * CLUSTER, CLUSTER + 512, ""),
        (6 * CLUSTER - 1024, CLUSTER + 1024, "-u"),
        (8 * CLUSTER + 512, CLUSTER, ""),
        (11 * CLUSTER + 4096, 4096, "-u"),
        (20 * CLUSTER + 512, 3 * CLUSTER, ""),
        (13 * CLUSTER + 100 * 512, 300 * 512, "-u"),
    ];
    folder.io("top.qbm", &["write -q -P 9 832k 64k"]);
    expected[832 << 10..896 << 10].fill(9);
    for (offset, length, flag) in zeroes {
        folder.io("top.qbm", &[&format!("write -q -z {flag} {offset} {length}")]);
        expected[usize::try_from(offset).unwrap()..][..usize::try_from(length).unwrap()].fill(0);
    }
    folder.ours("convert top.qbm top.out").success();
    assert!(folder.bytes("top.out") == expected);
    folder.ours("check top.qbm").success();
}

/// Writes of parts of clusters of 4 KiB, each two sectors long, at each sector of a cluster; around
/// them is what is behind.
fn copies_around(write: &str) {
    let folder = Folder::new();
    let parts: Vec<_> = (0..=255).map(|at: u8| (u64::from(at) * 512, 512, at % 199 + 1)).collect();
    folder.disk("base.raw", 128 * KIB, &parts);
    let mut expected = folder.bytes("base.raw");
    folder.ours("create -q --cluster-size 4k -b base.raw -F raw top.qbm").success();
    // Two clusters and a sector apart.
    let places: Vec<usize> = (0..15).map(|at| at * 17 * 512).collect();
    let mut commands: Vec<String> =
        places.iter().map(|place| format!("{write} -q -P 250 {place} 1k")).collect();
    commands.push("aio_flush".to_owned());
    folder.io("top.qbm", &commands.iter().map(String::as_str).collect::<Vec<_>>());
    for place in places {
        expected[place..][..1024].fill(250);
    }
    folder.ours("convert top.qbm top.out").success();
    assert!(folder.bytes("top.out") == expected);
}

/// 037: what is around a write comes from behind.
#[test]
fn what_is_around_a_write_comes_from_behind() {
    copies_around("write");
}

/// 038: so it does where many are under way.
#[test]
fn what_is_around_writes_under_way_comes_from_behind() {
    copies_around("aio_write");
}
