//! An image that `qbm serve` exports, or what `qbm daemon` has.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};

use crate::qbm::qbm;

/// A server, which is killed at the latest when this is dropped.
#[derive(Debug)]
pub struct Served {
    child: Child,
    /// The addresses that it serves.
    uris: Vec<String>,
    /// Reads what it complains about, all the while.
    complaints: Option<JoinHandle<String>>,
}

impl Served {
    /// Runs `qbm serve` in `folder`, on the Unix socket `qbm.sock` there, and waits until clients can
    /// connect.
    ///
    /// # Panics
    ///
    /// If it ends instead.
    #[track_caller]
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = qbm();
        command.current_dir(folder).args(["serve", "--socket", "qbm.sock"]).args(arguments);
        Self::spawn(&mut command, 1)
    }

    /// Runs `qbm daemon` in `folder`, and waits until it is ready.
    ///
    /// # Panics
    ///
    /// If it ends instead.
    #[track_caller]
    pub fn daemon(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = qbm();
        command.current_dir(folder).arg("daemon").args(arguments);
        Self::spawn_until(&mut command, 1, "ready")
    }

    /// Runs `command`, which serves `places`.
    ///
    /// # Panics
    ///
    /// If it ends instead.
    #[track_caller]
    pub fn spawn(command: &mut Command, places: usize) -> Self {
        Self::spawn_until(command, places, "serving ")
    }

    /// Runs `command`, and waits for so many `lines` that begin with `said`; what follows is kept.
    #[track_caller]
    fn spawn_until(command: &mut Command, lines: usize, said: &str) -> Self {
        let places = lines;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("{command:?} cannot be started: {error}"),
        };
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let complaints = child.stderr.take().expect("a pipe");
        let complaints = Some(thread::spawn(move || read_all(complaints)));
        let mut served = Self { child, uris: Vec::new(), complaints };
        for _ in 0..places {
            let line = lines.next().and_then(Result::ok).unwrap_or_default();
            match line.strip_prefix(said) {
                Some(uri) => served.uris.push(uri.to_owned()),
                None => panic!("{command:?}: {line}{}", served.end().1),
            }
        }
        served
    }

    /// The address of the first place, as libnbd and QEMU take it, if they run in the same folder.
    pub fn uri(&self) -> &str {
        &self.uris[0]
    }

    /// All of them.
    pub fn uris(&self) -> &[String] {
        &self.uris
    }

    /// The most memory that it has had so far, in bytes.
    ///
    /// # Panics
    ///
    /// If it is gone.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("it still runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        number.expect("a number of KiB") << 10
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// If it is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), signal).expect("it still runs");
    }

    /// Asks it to stop, and waits: how it ended, and what it complained about.
    ///
    /// # Panics
    ///
    /// If it is gone.
    pub fn stop(self) -> (ExitStatus, String) {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits until it ends: how it did, and what it complained about.
    ///
    /// # Panics
    ///
    /// If it cannot be waited for.
    pub fn wait(mut self) -> (ExitStatus, String) {
        self.end()
    }

    /// Kills it.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        self.end();
    }

    fn end(&mut self) -> (ExitStatus, String) {
        let status = self.child.wait().expect("a child can be waited for");
        let complaints = self.complaints.take().map(JoinHandle::join);
        (status, complaints.and_then(Result::ok).unwrap_or_default())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have been stopped already.
        let _killed = self.child.kill();
        let _status = self.child.wait();
    }
}

fn read_all(mut complaints: ChildStderr) -> String {
    let mut text = String::new();
    // What cannot be read is not there to be shown.
    let _read = complaints.read_to_string(&mut text);
    text
}

/// A folder with a disk of `size` bytes, its image `vm.qbm`, and the bitmap `nightly`.
///
/// # Panics
///
/// If it cannot be made.
pub fn folder_with_image(size: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let disk: PathBuf = folder.path().join("vm.raw");
    let made = std::fs::File::create(disk).and_then(|disk| disk.set_len(size));
    made.expect("a sparse file");
    let run = |arguments: &[&str]| {
        crate::run(qbm().current_dir(folder.path()).args(arguments)).success();
    };
    run(&["create", "--data-file", "vm.raw", "vm.qbm"]);
    run(&["bitmap", "--add", "vm.qbm", "nightly"]);
    folder
}
