//! Servers of other programs, each on a Unix socket in a folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use iotests::{run, tool};
use qbm_core::Access;
use qbm_nbd::NbdStorage;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// A server in the background, which is killed when this is dropped.
pub(crate) struct Server {
    socket: PathBuf,
    pid: Pid,
}

impl Server {
    /// Runs `nbdkit ARGUMENTS`, and returns once clients can connect.
    pub(crate) fn nbdkit(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = tool("nbdkit");
        command.args(["--pidfile", "disk.pid", "--unix", "disk.sock"]);
        Self::start(folder, command.args(arguments))
    }

    /// Runs `qemu-nbd ARGUMENTS` for clients who come and go, and returns once they can.
    pub(crate) fn qemu_nbd(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = tool("qemu-nbd");
        command.args(["--persistent", "--shared=8", "--fork", "--discard=unmap"]);
        command.arg("--pid-file").arg(folder.join("disk.pid"));
        command.arg("--socket").arg(folder.join("disk.sock"));
        Self::start(folder, command.args(arguments))
    }

    fn start(folder: &Path, command: &mut Command) -> Self {
        let (socket, pid_file) = (folder.join("disk.sock"), folder.join("disk.pid"));
        // What a killed one has left.
        let _gone = (fs::remove_file(&socket), fs::remove_file(&pid_file));
        run(command.current_dir(folder)).success();
        // It is written, in one piece, once clients can connect.
        let begun = Instant::now();
        let pid = loop {
            match fs::read_to_string(&pid_file) {
                Ok(pid) if pid.ends_with('\n') => break pid,
                _ => assert!(begun.elapsed() < Duration::from_secs(60), "it does not start"),
            }
            std::thread::yield_now();
        };
        Self { socket, pid: Pid::from_raw(pid.trim().parse().unwrap()).unwrap() }
    }

    pub(crate) fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket.display())
    }

    /// The same through TLS, with the certificates in `pki`.
    pub(crate) fn secret_uri(&self, pki: &Path) -> String {
        let (socket, pki) = (self.socket.display(), pki.display());
        format!("nbds+unix:///?socket={socket}&tls-certificates={pki}")
    }

    pub(crate) fn connect(&self, access: Access) -> std::io::Result<NbdStorage> {
        NbdStorage::connect(&self.uri().parse().unwrap(), access)
    }

    /// Kills it, and waits until it is gone.
    pub(crate) fn kill(&self) {
        // It may be gone already.
        let _killed = kill_process(self.pid, Signal::KILL);
        while test_kill_process(self.pid).is_ok() && !is_zombie(self.pid) {
            std::thread::yield_now();
        }
    }
}

/// Whether nobody but its parent knows it any more: its first thread, and no other, which could still
/// hold its connections open.
fn is_zombie(pid: Pid) -> bool {
    let process = format!("/proc/{}", pid.as_raw_nonzero());
    let status = fs::read_to_string(format!("{process}/stat"));
    let threads = fs::read_dir(format!("{process}/task")).map_or(0, Iterator::count);
    let is_over = |status: String| {
        threads <= 1 && status.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"))
    };
    status.map_or(true, is_over)
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
