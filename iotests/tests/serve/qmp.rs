//! The control of a server by QMP, beside that of QEMU.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use iotests::{Served, folder_with_image, run, tool};
use qbm_qmp::{Client, ClientError};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{MIB, in_folder, ours, qemu_io};

const GATE: &str = "nbd+unix:///?socket=qbm.sock";

fn refusal(error: ClientError) -> (String, String) {
    match error {
        ClientError::Refused { class, what } => (class, what),
        other => panic!("{other}"),
    }
}

/// QEMU's server of an empty disk of the same size as the node `vm.qbm`.
struct Rival(Pid);

impl Rival {
    fn start(folder: &Path) -> Self {
        in_folder(folder, "qemu-img", &["create", "-f", "qcow2", "r.qcow2", "1M"]).success();
        let mut command = tool("qemu-storage-daemon");
        command.current_dir(folder).args(["--daemonize", "--pidfile", "rival.pid"]);
        command.args(["--chardev", "socket,path=rival.qmp,server=on,wait=off,id=c"]);
        command.args(["--monitor", "chardev=c"]);
        command.args(["--blockdev", "driver=file,filename=r.qcow2,node-name=f"]);
        command.args(["--blockdev", "driver=qcow2,file=f,node-name=vm.qbm"]);
        run(&mut command).success();
        let pid = fs::read_to_string(folder.join("rival.pid")).unwrap();
        Self(Pid::from_raw(pid.trim().parse().unwrap()).unwrap())
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        // It may have ended already.
        let _killed = kill_process(self.0, Signal::KILL);
    }
}

/// Commands that a server of bitmaps understands, or refuses.
fn commands() -> Vec<(&'static str, Value)> {
    let bitmap = |name: &str| json!({ "node": "vm.qbm", "name": name });
    let add = |name: &str| json!({ "node": "vm.qbm", "name": name, "persistent": true });
    let with = |mut arguments: Value, name: &str, value: Value| {
        arguments[name] = value;
        arguments
    };
    let action = |kind: &str, data: Value| json!({ "type": kind, "data": data });
    let merge = |source: Value| json!({ "node": "vm.qbm", "target": "a", "bitmaps": [source] });
    vec![
        ("nothing", json!({})),
        ("query-version", json!({ "x": 1 })),
        ("block-dirty-bitmap-add", add("a")),
        ("block-dirty-bitmap-add", add("a")),
        ("block-dirty-bitmap-add", with(add("b"), "granularity", json!(4096))),
        ("block-dirty-bitmap-add", with(add("c"), "granularity", json!(3))),
        ("block-dirty-bitmap-add", with(add("c"), "granularity", json!(256))),
        ("block-dirty-bitmap-add", with(add("c"), "node", json!("other"))),
        ("block-dirty-bitmap-add", with(add("c"), "node", json!(5))),
        ("block-dirty-bitmap-add", with(add("c"), "disabled", json!(1))),
        ("block-dirty-bitmap-add", json!({ "node": "vm.qbm" })),
        ("block-dirty-bitmap-add", with(add("c"), "colour", json!("blue"))),
        ("block-dirty-bitmap-disable", bitmap("b")),
        ("block-dirty-bitmap-clear", bitmap("a")),
        ("block-dirty-bitmap-clear", bitmap("none")),
        ("block-dirty-bitmap-merge", merge(json!("b"))),
        ("block-dirty-bitmap-merge", merge(bitmap("b"))),
        ("block-dirty-bitmap-merge", merge(json!("none"))),
        ("block-dirty-bitmap-merge", merge(json!("a"))),
        ("block-dirty-bitmap-enable", bitmap("b")),
        ("block-dirty-bitmap-remove", bitmap("b")),
        ("block-dirty-bitmap-remove", bitmap("b")),
        ("block-dirty-bitmap-add", bitmap("memory")),
        ("block-dirty-bitmap-add", with(bitmap("memory"), "persistent", json!(1))),
        ("x-debug-block-dirty-bitmap-sha256", bitmap("a")),
        ("x-debug-block-dirty-bitmap-sha256", bitmap("none")),
        ("transaction", json!({ "actions": [] })),
        (
            "transaction",
            json!({ "actions": [
                action("block-dirty-bitmap-add", add("d")),
                action("abort", json!({})),
            ] }),
        ),
        (
            "transaction",
            json!({ "actions": [
                action("block-dirty-bitmap-add", add("e")),
                action("block-dirty-bitmap-clear", bitmap("a")),
                action("block-dirty-bitmap-disable", bitmap("a")),
            ] }),
        ),
        (
            "transaction",
            json!({ "actions": [action("block-dirty-bitmap-clear", json!({ "node": "vm.qbm" }))] }),
        ),
        ("job-cancel", json!({ "id": "none" })),
        ("job-dismiss", json!({ "id": "none" })),
        ("block-job-cancel", json!({ "device": "none" })),
        ("block-export-del", json!({ "id": "none" })),
        ("nbd-server-remove", json!({ "name": "none" })),
        ("query-jobs", json!({})),
        ("query-block-jobs", json!({})),
    ]
}

/// What both say to the same commands is the same: what is returned, and why not.
#[test]
fn commands_on_bitmaps_are_answered_as_qemu_does() {
    let folder = folder_with_image(MIB);
    let folder = folder.path();
    let _served = Served::start(folder, &["vm.qbm"]);
    ours(folder, &["bitmap", "--remove", "vm.qbm", "nightly"]).success();
    let _rival = Rival::start(folder);
    let mut monitors =
        ["vm.qbm.qmp", "rival.qmp"].map(|name| Client::connect(&folder.join(name), &[]).unwrap());
    for (command, arguments) in commands() {
        let [own, theirs] = monitors
            .each_mut()
            .map(|monitor| monitor.execute(command, &arguments).map_err(refusal));
        assert_eq!(own, theirs, "{command} {arguments}");
    }
    let bitmaps = monitors.each_mut().map(|monitor| {
        let nodes = monitor.execute("query-named-block-nodes", &json!({})).unwrap();
        let node = nodes.as_array().unwrap().iter().find(|node| node["node-name"] == "vm.qbm");
        let mut bitmaps = node.unwrap()["dirty-bitmaps"].as_array().unwrap().clone();
        bitmaps.sort_by_key(|bitmap| bitmap["name"].to_string());
        (bitmaps, node.unwrap().as_object().unwrap().len())
    });
    assert_eq!(bitmaps[0].0, bitmaps[1].0);
    assert!(bitmaps[0].1 >= bitmaps[1].1, "a member of QEMU's node is missing");
}

/// Merges of a bitmap into itself and of another granularity, removal and clearing while it is busy,
/// an id that is in use: case 71 of the bad inputs.
#[test]
fn a_bitmap_that_a_point_holds_is_left_alone() {
    let folder = folder_with_image(4 * MIB);
    let folder = folder.path();
    let _served = Served::start(folder, &["vm.qbm"]);
    let mut monitor = Client::connect(&folder.join("vm.qbm.qmp"), &[]).unwrap();
    let bitmap = json!({ "node": "vm.qbm", "bitmap": "nightly" });
    let begun = monitor.execute("x-point-begin", &bitmap).unwrap();
    let nightly = json!({ "node": "vm.qbm", "name": "nightly" });
    for verb in ["remove", "clear", "enable", "disable"] {
        let refused = monitor.execute(&format!("block-dirty-bitmap-{verb}"), &nightly);
        let (_, what) = refusal(refused.unwrap_err());
        assert!(what.contains("currently in use by another operation"), "{verb}: {what}");
    }
    let two = json!({ "actions": [
        { "type": "block-dirty-bitmap-add", "data": { "node": "vm.qbm", "name": "new" } },
        { "type": "block-dirty-bitmap-clear", "data": nightly },
    ] });
    refusal(monitor.execute("transaction", &two).unwrap_err());
    refusal(monitor.execute("x-point-begin", &bitmap).unwrap_err());
    let nodes = monitor.execute("query-named-block-nodes", &json!({})).unwrap();
    let bitmaps = nodes[0]["dirty-bitmaps"].as_array().unwrap();
    assert_eq!((bitmaps.len(), &bitmaps[0]["busy"]), (1, &json!(true)));
    let export = json!({ "type": "nbd", "id": "e", "node-name": begun["node-name"], "name": "p" });
    monitor.execute("block-export-add", &export).unwrap();
    let (_, what) = refusal(monitor.execute("block-export-add", &export).unwrap_err());
    assert_eq!(what, "Block export id 'e' is already in use");
    let writable = json!({
        "type": "nbd", "id": "w", "node-name": begun["node-name"], "name": "w", "writable": true,
    });
    refusal(monitor.execute("block-export-add", &writable).unwrap_err());
    monitor.execute("block-export-del", &json!({ "id": "e" })).unwrap();
    let settle = json!({ "node": "vm.qbm", "bitmap": "other", "id": begun["id"] });
    refusal(monitor.execute("x-point-commit", &settle).unwrap_err());
}

/// The life of a job, as its events tell it to every monitor.
#[test]
fn a_backup_tells_its_life_in_events() {
    let folder = folder_with_image(4 * MIB);
    let folder = folder.path();
    let _served = Served::start(folder, &["vm.qbm"]);
    qemu_io(folder, GATE, &["write -P 1 0 1M"]);
    let connect = || Client::connect(&folder.join("vm.qbm.qmp"), &[]).unwrap();
    let mut monitors = [connect(), connect()];
    let target = folder.join("points");
    let backup = json!({
        "job-id": "j", "device": "vm.qbm", "target": target.to_str().unwrap(),
        "sync": "bitmap", "bitmap": "nightly", "bitmap-mode": "on-success",
    });
    monitors[0].execute("blockdev-backup", &backup).unwrap();
    for monitor in &mut monitors {
        let mut life = Vec::new();
        while life.last().is_none_or(|last| last != "null") {
            let event = monitor.next_event(Duration::from_secs(60)).unwrap().unwrap();
            life.push(match event.name.as_str() {
                "JOB_STATUS_CHANGE" => event.data["status"].as_str().unwrap().to_owned(),
                _ => {
                    assert_eq!(
                        (&event.data["device"], &event.data["type"]),
                        (&json!("j"), &json!("backup"))
                    );
                    assert_eq!(event.data["x-point"]["stored"], json!(MIB));
                    event.name
                }
            });
        }
        let expected = [
            "created",
            "running",
            "waiting",
            "pending",
            "BLOCK_JOB_COMPLETED",
            "concluded",
            "null",
        ];
        assert_eq!(life, expected);
    }
    let mut failing = backup.clone();
    failing["target"] = json!("points");
    let (_, what) = refusal(monitors[0].execute("blockdev-backup", &failing).unwrap_err());
    assert_eq!(what, "points: the target must be an absolute path");
}

/// The socket is this user's alone, and is gone with the server; `quit` stops it as a signal does.
#[test]
fn the_control_is_private_and_ends_with_the_server() {
    let folder = folder_with_image(MIB);
    let folder = folder.path();
    let served = Served::start(folder, &["--qmp", "control.sock", "vm.qbm"]);
    let socket = folder.join("control.sock");
    let metadata = fs::metadata(&socket).unwrap();
    assert!(metadata.file_type().is_socket() && metadata.permissions().mode() & 0o777 == 0o600);
    let mut monitor = Client::connect(&socket, &[]).unwrap();
    assert_eq!(monitor.execute("quit", &json!({})).unwrap(), json!({}));
    let (status, complaints) = served.wait();
    assert!(status.success(), "{complaints}");
    assert!(complaints.contains(": quit {}"), "who has done what is told: {complaints}");
    assert!(!socket.exists());
    ours(folder, &["check", "vm.qbm"]).success();
    // Nobody is there any more.
    ours(folder, &["bitmap", "--qmp", "control.sock", "--clear", "vm.qbm", "nightly"]).code(1);
}

/// `qbm bitmap` says the same, whether a server has the image or nobody.
#[test]
fn bitmap_does_the_same_by_a_server() {
    let folder = folder_with_image(MIB);
    let folder = folder.path();
    let served = Served::start(folder, &["vm.qbm"]);
    let cases: [(&[&str], i32, &str); 4] = [
        (&["--add", "-g", "4k", "vm.qbm", "a"], 0, ""),
        (&["--add", "--disable", "vm.qbm", "a"], 1, "qbm: vm.qbm: Bitmap already exists: a\n"),
        (&["--clear", "--merge", "nightly", "vm.qbm", "a"], 0, ""),
        (&["--remove", "vm.qbm", "none"], 1, "qbm: vm.qbm: Dirty bitmap 'none' not found\n"),
    ];
    let run_all = || {
        for (arguments, code, complaint) in cases {
            let mut line = vec!["bitmap"];
            line.extend(arguments);
            assert_eq!(ours(folder, &line).code(code).stderr, complaint, "{arguments:?}");
        }
    };
    run_all();
    let (status, _) = served.stop();
    assert!(status.success());
    ours(folder, &["bitmap", "--remove", "vm.qbm", "a"]).success();
    run_all();
}
