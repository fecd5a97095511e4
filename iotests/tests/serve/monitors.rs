//! Monitors that others have written, and many at once.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use futures_executor::block_on;
use iotests::{Served, folder_with_image, run, tool};
use qapi_qmp::{QapiCapabilities, QmpMessageAny};
use qbm_core::{Access, Buffer, Persist, Storage};
use qbm_nbd::{NbdStorage, NbdUri};
use qbm_qmp::Client;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{MIB, ours, python_package};

const SERVER: [&str; 2] = ["--nbd-server", "addr.type=unix,addr.path=nbd.sock"];

/// A daemon with the nodes `a` and `b`, both exported, on the images of [`two_images`], and a monitor at
/// `own.qmp`.
fn daemon(folder: &Path) -> Served {
    let mut options: Vec<String> = SERVER.map(str::to_owned).into();
    for (node, file) in [("a", "vm.qbm"), ("b", "b.qbm")] {
        let blockdev = format!("qbm,node-name={node},file.driver=file,file.filename={file}");
        let export = format!("nbd,id={node},node-name={node},writable=on");
        options.extend(["--blockdev".to_owned(), blockdev, "--export".to_owned(), export]);
    }
    let chardev = "socket,id=c,path=own.qmp,server=on,wait=off";
    options.extend(["--chardev", chardev, "--monitor", "c"].map(str::to_owned));
    Served::daemon(folder, &options.iter().map(String::as_str).collect::<Vec<_>>())
}

fn two_images() -> tempfile::TempDir {
    let folder = folder_with_image(8 * MIB);
    let path = folder.path();
    std::fs::File::create(path.join("b.raw")).unwrap().set_len(8 * MIB).unwrap();
    ours(path, &["create", "--data-file", "b.raw", "b.qbm"]).success();
    folder
}

/// A monitor that speaks in lines, and lets somebody else's types read every one of them.
struct Typed(BufReader<UnixStream>);

impl Typed {
    fn connect(path: &Path) -> Self {
        let mut monitor = Self(BufReader::new(UnixStream::connect(path).unwrap()));
        let greeting: QapiCapabilities = serde_json::from_str(&monitor.line()).unwrap();
        assert_eq!(greeting.QMP.version.qemu.major, 10);
        let _: Value = monitor.ask("qmp_capabilities", &json!({}));
        monitor
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    /// Does a command; every message up to its reply must be one.
    fn ask<T: DeserializeOwned>(&mut self, command: &str, arguments: &Value) -> T {
        let request = json!({ "execute": command, "arguments": arguments, "id": command });
        writeln!(self.0.get_mut(), "{request}").unwrap();
        loop {
            let line = self.line();
            match serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}")) {
                QmpMessageAny::Event(_) => {}
                QmpMessageAny::Response(reply) => {
                    assert_eq!(reply.id(), Some(&json!(command)));
                    let value = reply.result().unwrap_or_else(|error| panic!("{command}: {error}"));
                    return serde_json::from_value(value)
                        .unwrap_or_else(|error| panic!("{line}: {error}"));
                }
            }
        }
    }

    /// Waits for the event that `wanted` knows.
    fn event(&mut self, wanted: impl Fn(&qapi_qmp::Event) -> bool) {
        loop {
            let line = self.line();
            match serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}")) {
                QmpMessageAny::Event(event) if wanted(&event) => return,
                QmpMessageAny::Event(_) => {}
                QmpMessageAny::Response(_) => panic!("nothing was asked: {line}"),
            }
        }
    }
}

#[test]
fn replies_and_events_are_those_of_somebody_elses_types() {
    let folder = two_images();
    let folder = folder.path();
    let _daemon = daemon(folder);
    let mut monitor = Typed::connect(&folder.join("own.qmp"));
    let nodes: Vec<qapi_qmp::BlockDeviceInfo> = monitor.ask("query-named-block-nodes", &json!({}));
    let node = nodes.iter().find(|node| node.node_name.as_deref() == Some("a")).unwrap();
    let bitmap = &node.dirty_bitmaps.as_ref().unwrap()[0];
    assert_eq!((bitmap.name.as_deref(), bitmap.persistent), (Some("nightly"), true));
    let _: Vec<qapi_qmp::BlockInfo> = monitor.ask("query-block", &json!({}));
    let exports: Vec<qapi_qmp::BlockExportInfo> = monitor.ask("query-block-exports", &json!({}));
    assert_eq!(exports.len(), 2);
    let commands: Vec<qapi_qmp::CommandInfo> = monitor.ask("query-commands", &json!({}));
    assert!(commands.len() > 20);
    let _: qapi_qmp::VersionInfo = monitor.ask("query-version", &json!({}));

    let backup = json!({
        "job-id": "j", "device": "a", "target": folder.join("points"), "sync": "full",
        "bitmap": "nightly", "auto-dismiss": false,
    });
    let _: Value = monitor.ask("blockdev-backup", &backup);
    monitor.event(|event| matches!(event, qapi_qmp::Event::BLOCK_JOB_COMPLETED { .. }));
    monitor.event(|event| {
        matches!(event, qapi_qmp::Event::JOB_STATUS_CHANGE { data, .. }
        if data.status == qapi_qmp::JobStatus::concluded)
    });
    let jobs: Vec<qapi_qmp::JobInfo> = monitor.ask("query-jobs", &json!({}));
    assert_eq!(jobs.len(), 1);
    let _: Value = monitor.ask("job-dismiss", &json!({ "id": "j" }));
    let _: Value = monitor.ask("block-export-del", &json!({ "id": "a" }));
}

const MONITORS: usize = 8;

/// How often a monitor asks what there is after each of its changes.
const LOOKS: usize = 4;

/// What one of many monitors does; everything it has made is gone again at the end. Returns how many commands
/// were answered.
fn live(monitor: &mut Client, own: &str) -> usize {
    let bitmap = |node: &str| json!({ "node": node, "name": own });
    let set = |persistent: bool| json!({ "node": "a", "name": own, "persistent": persistent });
    let both = |kind: &str| {
        let action = |node: &str| json!({ "type": kind, "data": bitmap(node) });
        json!({ "actions": [action("a"), action("b")] })
    };
    let export = json!({ "type": "nbd", "id": own, "node-name": "b", "name": own });
    let asked = [
        ("transaction", both("block-dirty-bitmap-add")),
        ("block-dirty-bitmap-set-persistent", set(true)),
        ("block-export-add", export),
        ("block-dirty-bitmap-clear", bitmap("a")),
        ("block-dirty-bitmap-set-persistent", set(false)),
        ("block-export-del", json!({ "id": own })),
        ("transaction", both("block-dirty-bitmap-remove")),
    ];
    for (command, arguments) in &asked {
        if let Err(error) = monitor.execute(command, arguments) {
            panic!("{own}: {command} {arguments}: {error}");
        }
        for _ in 0..LOOKS {
            let nodes = monitor.execute("query-named-block-nodes", &json!({})).unwrap();
            assert_eq!(nodes.as_array().unwrap().len(), 4);
        }
    }
    asked.len() * (1 + LOOKS)
}

/// How many commands a monitor sends before it reads the first reply, and how often it does so.
const AHEAD: usize = 25;
const BATCHES: usize = 50;

/// Sends many commands at a time; the reply of each comes with its id, in order. Returns how many.
fn hurry(monitor: &mut Typed, own: &str) -> usize {
    let bitmap = json!({ "node": "b", "name": own });
    let nothing = json!({});
    for batch in 0..BATCHES {
        let more = ["clear", "disable", "enable"].map(|verb| format!("block-dirty-bitmap-{verb}"));
        let mut asked = vec![("block-dirty-bitmap-add", &bitmap)];
        asked.extend(more.iter().map(|command| (command.as_str(), &bitmap)));
        asked.extend([("query-named-block-nodes", &nothing), ("query-block-exports", &nothing)]);
        asked.resize(AHEAD - 1, ("query-jobs", &nothing));
        asked.push(("block-dirty-bitmap-remove", &bitmap));
        let id = |number: usize| json!([own, batch, number]);
        for (number, (command, arguments)) in asked.iter().enumerate() {
            let request = json!({ "execute": command, "arguments": arguments, "id": id(number) });
            writeln!(monitor.0.get_mut(), "{request}").unwrap();
        }
        for number in 0..AHEAD {
            let mut reply = Value::from(());
            // What others have ended is told in between.
            while reply.get("event").is_some() || reply.is_null() {
                reply = serde_json::from_str(&monitor.line()).unwrap();
            }
            assert!(reply.get("return").is_some(), "{own}: {reply}");
            assert_eq!(reply["id"], id(number), "{own}: {reply}");
        }
    }
    AHEAD * BATCHES
}

/// Every one of 10,000 commands is answered, whatever the others do, and guests go on all the while.
#[test]
fn many_monitors_at_once_are_all_answered_and_guests_go_on() {
    let folder = two_images();
    let folder = folder.path();
    let daemon = daemon(folder);
    let (over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for node in ["a", "b"] {
            let over = &over;
            let uri: NbdUri =
                format!("nbd+unix:///{node}?socket={}/nbd.sock", folder.display()).parse().unwrap();
            scope.spawn(move || {
                let disk = NbdStorage::connect(&uri, Access::Write).unwrap();
                for (count, granule) in (0..128).cycle().enumerate() {
                    let buffer = Buffer::from_slice(&[granule; 4096]);
                    let offset = u64::from(granule) << 16;
                    // As fast as the medium: what is measured is not the processor.
                    block_on(disk.write_at(offset, buffer, Persist::Now)).unwrap();
                    // It has been everywhere by then.
                    if over.load(Ordering::Relaxed) && count >= 128 {
                        return;
                    }
                }
            });
        }
        let monitors: Vec<_> = (0..MONITORS)
            .map(|number| {
                let answered = &answered;
                scope.spawn(move || {
                    let own = format!("m{number}");
                    let mut monitor = Client::connect(&folder.join("own.qmp"), &[]).unwrap();
                    let mut count = live(&mut monitor, &own);
                    let mut monitor = Typed::connect(&folder.join("own.qmp"));
                    count += hurry(&mut monitor, &own);
                    answered.fetch_add(count as u64, Ordering::Relaxed);
                })
            })
            .collect();
        let ended: Vec<_> = monitors.into_iter().map(thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok));
    });
    assert_eq!(answered.into_inner(), (MONITORS * (7 * (1 + LOOKS) + AHEAD * BATCHES)) as u64);
    assert!(daemon.stop().0.success());
    let marked = super::marked(folder);
    assert_eq!(marked, (0..128).collect::<Vec<u64>>(), "what the guest wrote");
    for image in ["vm.qbm", "b.qbm"] {
        ours(folder, &["check", image]).success();
    }
}

/// The first part of a life: nodes, bitmaps on both in one transaction, writes, backups, a refusal.
const LIFE: &str = r#"
import asyncio, os, subprocess, sys
from qemu.qmp import QMPClient, ExecuteError

async def backup(client, node, sync):
    with client.listener(("BLOCK_JOB_COMPLETED", "BLOCK_JOB_ERROR")) as listener:
        target = os.path.abspath("points-" + node)
        await client.execute("blockdev-backup", {
            "job-id": "b" + node, "device": node, "target": target, "sync": sync, "bitmap": "x"})
        event = await listener.get()
        assert event["event"] == "BLOCK_JOB_COMPLETED" and "error" not in event["data"], event

def write(node, *commands):
    options = [option for command in commands + ("flush",) for option in ("-c", command)]
    uri = "nbd+unix:///%s?socket=nbd.sock" % node
    subprocess.run(["qemu-io", "-f", "raw", *options, uri], check=True, stdout=sys.stderr)

def add(node, name):
    data = {"node": node, "name": name, "persistent": True}
    return {"type": "block-dirty-bitmap-add", "data": data}

async def first(client):
    await client.execute("transaction", {"actions": [add("a", "x"), add("b", "x")]})
    write("a", "write -P 1 1M 64k")
    write("b", "write -P 2 2M 64k")
    for node in ("a", "b"):
        await backup(client, node, "full")
    try:
        await client.execute("transaction", {"actions": [add("a", "y"), add("b", "x")]})
        assert False, "there is one already"
    except ExecuteError as error:
        assert str(error) == "Bitmap already exists: x", error
    write("a", "write -P 3 3M 128k")
    write("b", "write -P 4 64k 64k")

async def second(client):
    nodes = await client.execute("query-named-block-nodes")
    counts = {node["node-name"]: [(it["name"], it["count"]) for it in node["dirty-bitmaps"] if it["name"] in "xy"]
              for node in nodes if node["drv"] == "qbm"}
    assert counts == {"a": [("x", 128 << 10)], "b": [("x", 64 << 10)]}, counts
    for node in ("a", "b"):
        await backup(client, node, "incremental")
    await client.execute("quit")

def both(mode, more={}):
    def action(node):
        data = {"job-id": "b" + node, "device": node, "target": os.path.abspath("points-" + node),
                "sync": "incremental", "bitmap": "x", **more.get(node, {})}
        return {"type": "blockdev-backup", "data": data}
    return {"actions": [action("a"), action("b")], "properties": {"completion-mode": mode}}

async def counts(client):
    nodes = await client.execute("query-named-block-nodes")
    return {node["node-name"]: it["count"] >> 10 for node in nodes for it in node.get("dirty-bitmaps", [])
            if it["name"] == "x"}

async def wait(listener, wanted):
    while wanted:
        event = await listener.get()
        data = event["data"]
        wanted.discard((event["event"], data.get("id", data.get("device")), data.get("status", "error" in data)))

async def one_fails(client):
    write("b", "write -P 5 5M 64k")
    # What b still needs, and is written over, has no room; it goes no further until then.
    slow = {"b": {"speed": 1, "x-fleece-limit": 4096}}
    with client.listener(("JOB_STATUS_CHANGE", "BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED")) as listener:
        await client.execute("transaction", both("grouped", slow))
        jobs = {job["id"]: job["status"] for job in await client.execute("query-jobs")}
        assert jobs["bb"] == "running" and jobs["ba"] != "created", jobs
        await wait(listener, {("JOB_STATUS_CHANGE", "ba", "waiting")})
        write("b", "write -P 6 5M 64k")
        await client.execute("block-job-set-speed", {"device": "bb", "speed": 0})
        await wait(listener, {("BLOCK_JOB_CANCELLED", "ba", False), ("BLOCK_JOB_COMPLETED", "bb", True),
                              ("JOB_STATUS_CHANGE", "ba", "null"), ("JOB_STATUS_CHANGE", "bb", "null")})
    assert await counts(client) == {"a": 128, "b": 128}, await counts(client)
    for node in ("a", "b"):
        points = [name for name in os.listdir("points-" + node) if name.endswith(".qbm")]
        assert len(points) == 1, points
    write("a", "write -P 7 6M 64k")

async def refused(client, transaction, what):
    try:
        await client.execute("transaction", transaction)
        assert False, "it was to be refused"
    except ExecuteError as error:
        assert what in str(error), error
    assert await client.execute("query-jobs") == []
    assert await counts(client) == {"a": 192, "b": 128}, await counts(client)

async def all_succeed(client):
    again = both("individual")
    again["actions"][1]["data"]["device"] = "a"
    await refused(client, again, "two backups")
    await refused(client, both("individual", {"b": {"job-id": "ba"}}), "Job ID 'ba' already in use")
    await refused(client, both("individual", {"b": {"bitmap": "none"}}), "an incremental backup is not possible")
    late = both("individual")
    late["actions"].append({"type": "abort", "data": {}})
    await refused(client, late, "aborted")
    late["properties"]["completion-mode"] = "grouped"
    await refused(client, late, "does not support")
    with client.listener("BLOCK_JOB_COMPLETED") as listener:
        await client.execute("transaction", both("grouped"))
        await wait(listener, {("BLOCK_JOB_COMPLETED", "ba", False), ("BLOCK_JOB_COMPLETED", "bb", False)})
    await client.execute("quit")

async def main():
    client = QMPClient("life")
    await client.connect("own.qmp")
    await globals()[sys.argv[1]](client)
    try:
        await client.disconnect()
    except EOFError:
        assert sys.argv[1] in ("second", "all_succeed"), "only a server that quits may be the first to hang up"

asyncio.run(main())
"#;

/// A part of a life, led by the client of QEMU's own project.
fn lead(folder: &Path, part: &str) {
    let mut python = tool("python3");
    python.current_dir(folder).env("PYTHONPATH", python_package("qemu.qmp==0.0.6"));
    run(python.args(["-c", LIFE, part])).success();
}

/// The last points of both disks are the disks, to the byte.
fn assert_restored(folder: &Path) {
    for (points, disk) in [("points-a", "vm.raw"), ("points-b", "b.raw")] {
        ours(folder, &["restore", points, "restored.raw"]).success();
        let [restored, disk] = ["restored.raw", disk].map(|name| std::fs::read(folder.join(name)));
        assert!(restored.unwrap() == disk.unwrap(), "{points}");
        std::fs::remove_file(folder.join("restored.raw")).unwrap();
    }
}

/// The client of QEMU's own project leads a whole life: over a kill, to the byte.
#[test]
fn qemu_qmp_leads_a_whole_life_over_a_kill() {
    let folder = two_images();
    let folder = folder.path();
    let killed = daemon(folder);
    lead(folder, "first");
    killed.kill();
    let ended = daemon(folder);
    lead(folder, "second");
    assert!(ended.wait().0.success());
    assert_restored(folder);
}

/// 124: two disks are backed up in one transaction. Where one fails, both are taken back, and what
/// follows over a kill is right to the byte.
#[test]
fn backups_of_one_transaction_succeed_together_or_are_both_taken_back() {
    let folder = two_images();
    let folder = folder.path();
    let killed = daemon(folder);
    lead(folder, "first");
    lead(folder, "one_fails");
    killed.kill();
    let ended = daemon(folder);
    lead(folder, "all_succeed");
    assert!(ended.wait().0.success());
    assert_restored(folder);
}
