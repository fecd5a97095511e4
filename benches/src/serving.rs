//! The server with a bitmap beside servers of a plain file: `nbdkit`, and `qemu-storage-daemon`.
//!
//! `qemu-img bench` is the client of all three, in turn. What it has written is compared afterwards:
//! the disk is all that it wrote, and every granule of it is marked.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use benches::compare;

use crate::Row;

const SIZE: u64 = 64 << 20;

/// What a client does.
struct Load {
    what: &'static str,
    /// Requests in a round, in flight, and bytes of each.
    count: u32,
    depth: u32,
    length: u32,
    writes: bool,
}

const LOADS: [Load; 10] = [
    Load { what: "4 KiB reads", count: 4000, depth: 1, length: 4096, writes: false },
    Load { what: "4 KiB writes", count: 4000, depth: 1, length: 4096, writes: true },
    Load { what: "4 KiB reads", count: 20_000, depth: 32, length: 4096, writes: false },
    Load { what: "4 KiB writes", count: 20_000, depth: 32, length: 4096, writes: true },
    Load { what: "64 KiB reads", count: 4000, depth: 1, length: 64 << 10, writes: false },
    Load { what: "64 KiB writes", count: 4000, depth: 1, length: 64 << 10, writes: true },
    Load { what: "64 KiB reads", count: 4000, depth: 8, length: 64 << 10, writes: false },
    Load { what: "64 KiB writes", count: 4000, depth: 8, length: 64 << 10, writes: true },
    Load { what: "1 MiB reads", count: 300, depth: 1, length: 1 << 20, writes: false },
    Load { what: "1 MiB writes", count: 300, depth: 1, length: 1 << 20, writes: true },
];

/// A server, which is killed when this is dropped.
pub(crate) struct Served {
    child: Child,
    pub(crate) uri: String,
}

impl Served {
    /// Runs `command`, which serves on `socket`, and waits until that is there.
    fn start(command: &mut Command, socket: &Path) -> anyhow::Result<Self> {
        if socket.exists() {
            // Of a server that was killed.
            std::fs::remove_file(socket)?;
        }
        let child =
            command.stdout(Stdio::null()).spawn().with_context(|| format!("{command:?}"))?;
        let uri = format!("nbd+unix:///?socket={}", socket.display());
        let mut served = Self { child, uri };
        let begun = Instant::now();
        while !socket.exists() {
            ensure!(served.child.try_wait()?.is_none(), "{command:?} has ended");
            ensure!(begun.elapsed() < Duration::from_secs(10), "{command:?} does not serve");
            std::thread::yield_now();
        }
        Ok(served)
    }

    /// How long `load` takes, as the client says.
    fn run(&self, load: &Load) -> anyhow::Result<Duration> {
        let number = |number: u32| number.to_string();
        let mut command = Command::new("qemu-img");
        command.args(["bench", "-f", "raw", "-t", "none", "-c", &number(load.count)]);
        command.args(["-d", &number(load.depth), "-s", &number(load.length)]);
        // Blocks of 4 KiB not one after the other, and none across the end of the disk.
        let step = if load.length == 4096 { 17 * 4096 } else { load.length };
        command.args(["-S", &number(step)]);
        if load.writes {
            command.args(["-w", "--pattern=7"]);
        }
        let output = command.arg(&self.uri).output().context("qemu-img")?;
        let said = String::from_utf8(output.stdout)?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let seconds = said.split("completed in ").nth(1).and_then(|rest| rest.split(' ').next());
        Ok(Duration::from_secs_f64(seconds.context("no time in its output")?.parse()?))
    }
}

impl Served {
    /// How long `fio` takes for 32 Ki requests of 4 KiB, 32 in flight, over so many connections.
    fn run_over(&self, connections: u32, verb: &str) -> anyhow::Result<Duration> {
        let mut command = Command::new("fio");
        command.args(["--name=bench", "--ioengine=nbd", "--bs=4k", "--output-format=json"]);
        command.args([
            "--group_reporting",
            &format!("--uri={}", self.uri),
            &format!("--rw={verb}"),
        ]);
        command.args(["--buffer_pattern=0x07", &format!("--size={SIZE}")]);
        let each = |all: u64| all / u64::from(connections);
        command.arg(format!("--numjobs={connections}")).arg(format!("--iodepth={}", each(32)));
        let output =
            command.arg(format!("--io_size={}", each(128 << 20))).output().context("fio")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout)?;
        // The engine says first that it is connected.
        let begin = said.find('{').context("no JSON in its output")?;
        let told: serde_json::Value = serde_json::from_str(&said[begin..])?;
        let way = verb.trim_start_matches("rand");
        let milliseconds = told["jobs"][0][way]["runtime"].as_u64().context("no time")?;
        Ok(Duration::from_millis(milliseconds))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // A server that has ended already was noticed by its client.
        let _killed = self.child.kill();
        let _status = self.child.wait();
    }
}

/// A disk that has data everywhere.
fn make_disk(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join(name);
    let file = File::create(&path)?;
    for offset in (0..SIZE).step_by(1 << 20) {
        file.write_all_at(&[5; 1 << 20], offset)?;
    }
    Ok(path)
}

/// `qbm` in a folder.
pub(crate) struct Qbm<'f> {
    program: PathBuf,
    folder: &'f Path,
}

impl<'f> Qbm<'f> {
    pub(crate) fn within(folder: &'f Path) -> anyhow::Result<Self> {
        Ok(Self { program: std::env::current_exe()?.with_file_name("qbm"), folder })
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output =
            Command::new(&self.program).current_dir(self.folder).args(arguments).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Serves a new disk NAME.raw by the image NAME.qbm with a bitmap.
    pub(crate) fn serve(&self, name: &str, aio: &str) -> anyhow::Result<(Served, PathBuf)> {
        let disk = make_disk(self.folder, &format!("{name}.raw"))?;
        let image = format!("{name}.qbm");
        self.run(&["create", "--data-file", &format!("{name}.raw"), &image])?;
        self.run(&["bitmap", "--add", &image, "bench"])?;
        let socket = self.folder.join(format!("{name}.sock"));
        let mut command = Command::new(&self.program);
        command.current_dir(self.folder).args(["serve", "--aio", aio, "--bitmap", "bench", &image]);
        // Not who asked for each command.
        command.env("QBM_LOG", "error");
        Ok((Served::start(command.arg("--socket").arg(&socket), &socket)?, disk))
    }
}

/// `nbdkit` with a new disk.
fn nbdkit(folder: &Path) -> anyhow::Result<Served> {
    let (disk, socket) = (make_disk(folder, "nbdkit.raw")?, folder.join("nbdkit.sock"));
    let mut command = Command::new("nbdkit");
    Served::start(command.args(["-f", "-U"]).args([&socket, Path::new("file"), &disk]), &socket)
}

/// Writes all of each disk, so that every granule is marked.
pub(crate) fn fill(servers: &[&Served]) -> anyhow::Result<()> {
    let all = Load { what: "all", count: 64, depth: 1, length: 1 << 20, writes: true };
    servers.iter().try_for_each(|served| served.run(&all).map(drop))
}

/// All of it must be what was written.
fn check_disk(disk: &Path) -> anyhow::Result<()> {
    let file = File::open(disk)?;
    let mut piece = vec![0; 1 << 20];
    for offset in (0..SIZE).step_by(piece.len()) {
        file.read_exact_at(&mut piece, offset)?;
        ensure!(piece.iter().all(|byte| *byte == 7), "not all was written near {offset}");
    }
    Ok(())
}

/// `ours` beside `rival` under `load`.
fn row(
    (ours, how): (&Served, &str),
    (rival, name, goal): (&Served, &str, &'static str),
    load: &Load,
) -> anyhow::Result<Row> {
    let comparison = compare(5, || ours.run(load), || rival.run(load))?;
    Ok(Row {
        what: format!("serving {}, {} in flight, {how}", load.what, load.depth),
        ours: comparison.ours.to_string(),
        rival: format!("{name}: {}", comparison.theirs),
        figure: format!("{:.2} times", comparison.ratio),
        goal,
    })
}

/// Through the page cache, in a folder of the file system `place`.
pub(crate) fn rows(place: &str, folder: &Path) -> anyhow::Result<Vec<Row>> {
    let qbm = Qbm::within(folder)?;
    let (server, disk) = qbm.serve("ours", "threads")?;
    let kit = nbdkit(folder)?;
    let daemon_socket = folder.join("daemon.sock");
    let daemon_disk = make_disk(folder, "daemon.raw")?;
    let daemon = Served::start(&mut storage_daemon(&daemon_disk, &daemon_socket), &daemon_socket)?;
    fill(&[&server, &kit, &daemon])?;
    let mut rows = Vec::new();
    for load in &LOADS {
        for rival in [(&kit, "nbdkit", "1"), (&daemon, "qemu-storage-daemon", "0.5")] {
            rows.push(row((&server, place), rival, load)?);
        }
    }
    for verb in ["randread", "randwrite"] {
        let comparison = compare(5, || server.run_over(4, verb), || server.run_over(1, verb))?;
        rows.push(Row {
            what: format!("serving 4 KiB {verb} to 4 connections, 8 in flight each, {place}"),
            ours: comparison.ours.to_string(),
            rival: format!("1 connection, 32 in flight: {}", comparison.theirs),
            figure: format!("{:.2} times", comparison.ratio),
            goal: "0.67",
        });
    }
    check_disk(&disk)?;
    drop(server);
    let map = qbm.run(&["map", "--bitmap", "bench", "--output", "json", "ours.qbm"])?;
    let expected = format!("[{{ \"start\": 0, \"length\": {SIZE}, \"dirty\": true}}]");
    ensure!(map.trim() == expected, "not all is marked: {map}");
    Ok(rows)
}

/// `--aio=io_uring` on a disk, beside threads and nbdkit, which both use the page cache.
pub(crate) fn rings(folder: &Path) -> anyhow::Result<Vec<Row>> {
    let qbm = Qbm::within(folder)?;
    let (server, disk) = qbm.serve("rings", "io_uring")?;
    let (threads, _) = qbm.serve("threads", "threads")?;
    let kit = nbdkit(folder)?;
    fill(&[&server, &threads, &kit])?;
    let mut rows = Vec::new();
    for load in LOADS.iter().filter(|load| load.length == 4096) {
        let load = Load { count: load.count / 4, ..*load };
        for rival in [(&threads, "threads", "1"), (&kit, "nbdkit", "1")] {
            rows.push(row((&server, "rings, disk"), rival, &load)?);
        }
    }
    check_disk(&disk)?;
    Ok(rows)
}

fn storage_daemon(disk: &Path, socket: &Path) -> Command {
    let mut command = Command::new("qemu-storage-daemon");
    let file = format!("driver=file,node-name=file,filename={}", disk.display());
    let server = format!("addr.type=unix,addr.path={}", socket.display());
    command.args(["--blockdev", &file, "--blockdev", "driver=raw,node-name=raw,file=file"]);
    command.args(["--nbd-server", &server]);
    command.args(["--export", "type=nbd,id=it,node-name=raw,name=,writable=on"]);
    command
}
