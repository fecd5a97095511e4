//! Bitmaps that a monitor adds and removes, over the end of the server.

use std::path::Path;

use iotests::{Served, folder_with_image, persistence, rounds};
use qbm_qmp::Client;
use serde_json::{Value, json};

use super::{MIB, ours, qemu_io};

const GATE: &str = "nbd+unix:///?socket=qbm.sock";

/// How a server ends.
type End = fn(Served, &mut Client);

/// The dirty bytes of each bitmap, by name, as a running server tells them.
fn counts(monitor: &mut Client) -> Vec<(String, u64)> {
    let nodes = monitor.execute("query-named-block-nodes", &json!({})).unwrap();
    let bitmaps = nodes[0]["dirty-bitmaps"].as_array().unwrap();
    let count =
        |it: &Value| (it["name"].as_str().unwrap().to_owned(), it["count"].as_u64().unwrap());
    let mut counts: Vec<_> = bitmaps.iter().map(count).collect();
    counts.sort();
    counts
}

fn start(folder: &Path) -> (Served, Client) {
    let served = Served::start(folder, &["vm.qbm"]);
    let monitor = Client::connect(&folder.join("vm.qbm.qmp"), &[]).unwrap();
    (served, monitor)
}

/// From the reply on what was made persistent is there with all its marks, and what was made persistent no
/// more is gone; before it either is right. `cargo xtask kill` goes on.
#[test]
fn what_was_made_persistent_or_not_is_so_from_the_reply_on() {
    rounds(1, |seed| {
        let kills = persistence::kill(12, seed);
        assert!(kills.acknowledged > 0 && kills.there > 0, "{kills:?}");
    });
}

/// 141: what a monitor has added records, and is there with its marks when the next server starts,
/// however the last one ended; what it has removed is not.
#[test]
fn bitmaps_of_a_monitor_outlive_the_server_however_it_ends() {
    let ends: [(&str, End); 3] = [
        ("quit", |served, monitor| {
            monitor.execute("quit", &json!({})).unwrap();
            assert!(served.wait().0.success());
        }),
        ("stopped", |served, _| assert!(served.stop().0.success())),
        ("killed", |served, _| served.kill()),
    ];
    for (end, ended) in ends {
        let folder = folder_with_image(4 * MIB);
        let folder = folder.path();
        let (served, mut monitor) = start(folder);
        let named = |name: &str| json!({ "node": "vm.qbm", "name": name });
        for name in ["kept", "gone"] {
            let mut add = named(name);
            add["persistent"] = json!(true);
            monitor.execute("block-dirty-bitmap-add", &add).unwrap();
        }
        monitor.execute("block-dirty-bitmap-add", &named("fleeting")).unwrap();
        qemu_io(folder, GATE, &["write -P 1 64k 64k", "write -P 2 1M 1", "flush"]);
        monitor.execute("block-dirty-bitmap-remove", &named("gone")).unwrap();
        monitor.execute("block-dirty-bitmap-disable", &named("nightly")).unwrap();
        ended(served, &mut monitor);

        let granule = 64 << 10;
        let (served, mut monitor) = start(folder);
        let wanted = [("kept".to_owned(), 2 * granule), ("nightly".to_owned(), 2 * granule)];
        assert_eq!(counts(&mut monitor), wanted, "{end}");
        qemu_io(folder, GATE, &["write -P 3 3M 1", "flush"]);
        let wanted = [("kept".to_owned(), 3 * granule), ("nightly".to_owned(), 2 * granule)];
        assert_eq!(counts(&mut monitor), wanted, "{end}: only what is enabled records");
        assert!(served.stop().0.success());
        ours(folder, &["check", "vm.qbm"]).success();
    }
}
