//! Backups of a disk while its guest writes: each is the disk of an instant.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use iotests::{Served, folder_with_image, rounds, tool};
use qbm_qmp::Client;
use serde_json::{Value, json};

use super::{GRANULE, MIB, in_folder, ours, qemu_io};

const SIZE: u64 = 64 * MIB;
const GATE: &str = "nbd+unix:///?socket=qbm.sock";

/// A monitor of the server in `folder`.
fn monitor(folder: &Path) -> Client {
    Client::connect(&folder.join("vm.qbm.qmp"), &[]).unwrap()
}

/// Begins a point of `nightly`, exports it as `point`, and tells its id.
fn begin_point(monitor: &mut Client, limit: Option<u64>) -> String {
    let mut arguments = json!({ "node": "vm.qbm", "bitmap": "nightly" });
    if let Some(limit) = limit {
        arguments["fleece-limit"] = json!(limit);
    }
    let begun = monitor.execute("x-point-begin", &arguments).unwrap();
    let export = json!({
        "type": "nbd",
        "id": "pull",
        "node-name": begun["node-name"],
        "name": "point",
        "bitmaps": ["nightly"],
    });
    monitor.execute("block-export-add", &export).unwrap();
    begun["id"].as_str().unwrap().to_owned()
}

fn settle(monitor: &mut Client, verb: &str, id: &str) -> Result<Value, String> {
    let arguments = json!({ "node": "vm.qbm", "bitmap": "nightly", "id": id });
    let settled = monitor.execute(&format!("x-point-{verb}"), &arguments);
    settled.map_err(|error| error.to_string())
}

/// The granules that the export `point` shows as dirty.
fn dirty_granules(folder: &Path) -> Vec<u64> {
    let uri = "nbd+unix:///point?socket=qbm.sock";
    let map = ["--map=qemu:dirty-bitmap:nightly", "--json", uri];
    let map = in_folder(folder, "nbdinfo", &map).success().json();
    let number = |extent: &Value, name: &str| extent[name].as_u64().unwrap();
    let dirty = map.as_array().unwrap().iter().filter(|extent| extent["type"] == 1);
    let granules = dirty.flat_map(|extent| {
        let (start, length) = (number(extent, "offset"), number(extent, "length"));
        start / GRANULE..(start + length).div_ceil(GRANULE)
    });
    granules.collect()
}

/// The point is pulled by nbdcopy and by qemu-img after the guest has written over all of it.
#[test]
fn a_point_that_is_pulled_is_the_disk_of_before_whatever_is_written_since() {
    let folder = folder_with_image(SIZE);
    let folder = folder.path();
    let served = Served::start(folder, &["vm.qbm"]);
    qemu_io(folder, GATE, &["write -P 1 0 1M", "write -P 2 9M 300k", "write -P 3 63M 1M", "flush"]);
    fs::copy(folder.join("vm.raw"), folder.join("before.raw")).unwrap();
    let mut monitor = monitor(folder);
    let id = begin_point(&mut monitor, None);
    let writes =
        ["write -P 9 512k 1M", "write -z 9M 1M", "discard 63M 1M", "write -P 8 30M 1", "flush"];
    qemu_io(folder, GATE, &writes);
    let uri = "nbd+unix:///point?socket=qbm.sock";
    in_folder(folder, "nbdcopy", &["--connections=4", uri, "pulled.raw"]).success();
    in_folder(folder, "cmp", &["before.raw", "pulled.raw"]).success();
    let convert = ["convert", "-f", "raw", "-O", "raw", uri, "converted.raw"];
    in_folder(folder, "qemu-img", &convert).success();
    in_folder(folder, "cmp", &["before.raw", "converted.raw"]).success();
    let mib = |mib: u64| mib * 16..(mib + 1) * 16;
    let expected: Vec<u64> = mib(0).chain(144..149).chain(mib(63)).collect();
    assert_eq!(dirty_granules(folder), expected, "what was written before the point");
    let uri = "nbd+unix:///point?socket=qbm.sock";
    in_folder(folder, "qemu-io", &["-f", "raw", "-c", "write 0 512", uri]).code(1);

    // The next one has what was written since, and nothing else.
    settle(&mut monitor, "commit", &id).unwrap();
    let second = begin_point(&mut monitor, None);
    let expected: Vec<u64> = (8..24).chain(mib(9)).chain(480..481).chain(mib(63)).collect();
    assert_eq!(dirty_granules(folder), expected, "what was written since");
    settle(&mut monitor, "abort", &second).unwrap();
    let again = settle(&mut monitor, "abort", &second).unwrap_err();
    assert!(again.contains("has no segment that began at point"), "{again}");
    let (status, _) = served.stop();
    assert!(status.success());
}

/// The guest writes a number at one end of the disk, and then at the other, again and again. So at any
/// instant they are the same, or the first is one ahead.
#[test]
fn a_backup_under_writes_is_the_disk_of_an_instant() {
    let folder = folder_with_image(SIZE);
    let folder = folder.path();
    let served = Served::start(folder, &["vm.qbm"]);
    qemu_io(folder, GATE, &["write -P 1 0 64M"]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 1_u64;
            while !done.load(Ordering::Relaxed) {
                let turn = |number: u64| {
                    let byte = number % 250 + 1;
                    [format!("write -P {byte} 0 4k"), format!("write -P {byte} 60M 4k")]
                };
                let commands: Vec<String> = (number..number + 10).flat_map(turn).collect();
                number += 10;
                let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
                qemu_io(folder, GATE, &commands);
            }
        });
        let mut ends = Vec::new();
        for target in ["one", "two"] {
            ours(folder, &["backup", "--full", "vm.qbm", target]).success();
            ours(folder, &["restore", target, &format!("{target}.raw")]).success();
            let disk = fs::read(folder.join(format!("{target}.raw"))).unwrap();
            let at = |mib: u64| disk[usize::try_from(mib * MIB).unwrap()];
            ends.push((at(0), at(60)));
        }
        done.store(true, Ordering::Relaxed);
        for (first, last) in ends {
            assert!(
                first == last || first == last % 250 + 1,
                "{first} at one end, {last} at the other"
            );
        }
    });
    ours(folder, &["backup", "vm.qbm", "one"]).success();
    let told = ours(folder, &["backup", "--output", "json", "vm.qbm", "one"]).success().json();
    assert_eq!((&told["type"], &told["dirty"]), (&json!("incremental"), &json!(0)));
    let (status, _) = served.stop();
    assert!(status.success());
    ours(folder, &["restore", "one", "restored.raw"]).success();
    in_folder(folder, "cmp", &["vm.raw", "restored.raw"]).success();
}

/// A fleecing space that is full is the backup's affair.
#[test]
fn a_full_fleece_fails_the_backup_and_never_the_guest() {
    let folder = folder_with_image(SIZE);
    let folder = folder.path();
    let served = Served::start(folder, &["vm.qbm"]);
    qemu_io(folder, GATE, &["write -P 1 0 8M", "flush"]);
    let mut monitor = monitor(folder);
    let id = begin_point(&mut monitor, Some(MIB));
    qemu_io(folder, GATE, &["write -P 2 0 1M", "write -P 3 1M 4M", "flush"]);
    let uri = "nbd+unix:///point?socket=qbm.sock";
    let read = in_folder(folder, "qemu-io", &["-r", "-f", "raw", "-c", "read 0 64k", uri]);
    assert!(!read.status.success(), "{}", read.stdout);
    settle(&mut monitor, "abort", &id).unwrap();
    ours(folder, &["backup", "--bitmap", "nightly", "vm.qbm", "points"]).success();
    let (_, complaints) = served.stop();
    assert!(complaints.contains("its fleecing space of 1048576 bytes is full"), "{complaints}");
    ours(folder, &["restore", "points", "restored.raw"]).success();
    in_folder(folder, "cmp", &["vm.raw", "restored.raw"]).success();
}

/// A process that is killed at the latest when this is dropped.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended already.
        let _killed = self.0.kill();
        let _status = self.0.wait();
    }
}

/// The server is killed at some moment of a backup under writes: the next backup just works.
#[test]
fn a_server_killed_in_a_live_backup_loses_no_mark() {
    rounds(4, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed.0);
        let folder = folder_with_image(SIZE);
        let folder = folder.path();
        let served = Served::start(folder, &["vm.qbm"]);
        qemu_io(folder, GATE, &["write -P 1 0 32M", "flush"]);
        ours(folder, &["backup", "vm.qbm", "points"]).success();
        let writes: Vec<String> = (0..200)
            .map(|_| {
                format!("write -P {} {}k {}k", rng.u8(1..), rng.u32(..60_000), rng.u32(1..900))
            })
            .collect();
        let mut command = tool("qemu-io");
        command.current_dir(folder).args(["-f", "raw"]).args(writes.iter().flat_map(|w| ["-c", w]));
        let guest = Guest(command.arg(GATE).stdout(std::process::Stdio::null()).spawn().unwrap());
        let mut monitor = monitor(folder);
        let target = folder.join("points");
        let backup = json!({
            "device": "vm.qbm",
            "target": target.to_str().unwrap(),
            "sync": "incremental",
            "auto-dismiss": false,
        });
        monitor.execute("blockdev-backup", &backup).unwrap();
        // Some events come one after the other: the kill is at another moment each time.
        for _ in 0..rng.u8(..8) {
            monitor.next_event(Duration::from_millis(20)).unwrap();
        }
        served.kill();
        drop(guest);
        let served = Served::start(folder, &["vm.qbm"]);
        qemu_io(folder, GATE, &["write -P 77 1M 3M", "flush"]);
        ours(folder, &["backup", "vm.qbm", "points"]).success();
        let (status, _) = served.stop();
        assert!(status.success());
        ours(folder, &["restore", "points", "restored.raw"]).success();
        in_folder(folder, "cmp", &["vm.raw", "restored.raw"]).success();
    });
}

/// What a client has pulled before the server was killed can be committed after it, by its id.
#[test]
fn a_point_is_committed_by_id_after_the_server_was_killed() {
    let folder = folder_with_image(SIZE);
    let folder = folder.path();
    let served = Served::start(folder, &["vm.qbm"]);
    qemu_io(folder, GATE, &["write -P 1 0 1M", "flush"]);
    let id = begin_point(&mut monitor(folder), None);
    qemu_io(folder, GATE, &["write -P 2 5M 64k", "flush"]);
    served.kill();
    let served = Served::start(folder, &["vm.qbm"]);
    let mut monitor = monitor(folder);
    let nodes = monitor.execute("query-named-block-nodes", &json!({})).unwrap();
    assert_eq!(nodes[0]["dirty-bitmaps"][0]["x-points"], json!([id]));
    settle(&mut monitor, "commit", &id).unwrap();
    let second = begin_point(&mut monitor, None);
    assert_eq!(dirty_granules(folder), [80], "what was written since the first point");
    settle(&mut monitor, "abort", &second).unwrap();
    let (status, _) = served.stop();
    assert!(status.success());
}
