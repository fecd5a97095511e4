//! The locks, beside the real QEMU programs: `qemu-io`, `qemu-img`, `qemu-storage-daemon`.

#![expect(clippy::unwrap_used, reason = "a test that panics says where")]

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use futures_executor::block_on;
use qbm_core::{Access, Lock, Storage};
use qbm_io_std::StdFile;
use tempfile::NamedTempFile;

fn image() -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    file
}

fn open(image: &NamedTempFile) -> StdFile {
    StdFile::open_operator(image.path(), Access::Write).unwrap()
}

fn locked(image: &NamedTempFile, lock: Lock) -> StdFile {
    let file = open(image);
    block_on(file.lock(lock)).unwrap();
    file
}

fn qemu_io(image: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("qemu-io");
    command.args(["-f", "raw"]).args(arguments).arg(image);
    command.output().expect("this test needs qemu-io")
}

/// A `qemu-io` that keeps the image open until its input is closed.
struct OpenInQemu(Child);

impl OpenInQemu {
    fn start(image: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new("qemu-io")
            .args(["-f", "raw"])
            .args(arguments)
            .arg(image)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs qemu-io");
        // Its answer shows that the image is open.
        child.stdin.as_mut().unwrap().write_all(b"length\n").unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("1 MiB"), "{line}");
        Self(child)
    }
}

impl Drop for OpenInQemu {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// The number of a process that is ended with the test.
struct Daemon(String);

impl Drop for Daemon {
    fn drop(&mut self) {
        Command::new("kill").arg(&self.0).status().unwrap();
    }
}

fn refusal(image: &NamedTempFile, lock: Lock) -> String {
    let error = block_on(open(image).lock(lock)).expect_err("the lock is taken");
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    error.to_string()
}

#[test]
fn qemu_cannot_write_what_we_have_locked_for_writing() {
    let image = image();
    let held = locked(&image, Lock::Write);
    let output = qemu_io(image.path(), &["-c", "write 0 512"]);
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("Failed to get \"write\" lock"), "{text}");
    drop(held);
    assert!(qemu_io(image.path(), &["-c", "write 0 512"]).status.success());
}

#[test]
fn qemu_cannot_write_what_we_have_locked_for_reading() {
    let image = image();
    let _held = locked(&image, Lock::Read);
    let output = qemu_io(image.path(), &["-c", "write 0 512"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("Failed to get \"write\" lock"), "{text}");
}

#[test]
fn qemu_img_cannot_resize_what_we_have_locked() {
    for lock in [Lock::Read, Lock::Write] {
        let image = image();
        let _held = locked(&image, lock);
        let mut command = Command::new("qemu-img");
        let output = command.args(["resize", "-f", "raw"]).arg(image.path()).arg("2M").output();
        let output = output.expect("this test needs qemu-img");
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("lock"));
    }
}

/// As between two programs of QEMU: a copy wants the image to stand still, `-U` does not care.
#[test]
fn qemu_img_copies_what_we_write_only_when_told_to() {
    let image = image();
    let folder = tempfile::tempdir().unwrap();
    let convert = |options: &[&str]| {
        let mut command = Command::new("qemu-img");
        command.arg("convert").args(options).args(["-f", "raw", "-O", "raw"]);
        command.arg(image.path()).arg(folder.path().join("copy"));
        command.output().expect("this test needs qemu-img")
    };
    let held = locked(&image, Lock::Write);
    let output = convert(&[]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("Failed to get shared \"write\" lock"), "{text}");
    assert!(convert(&["-U"]).status.success());
    block_on(held.lock(Lock::Read)).unwrap();
    assert!(convert(&[]).status.success());
}

#[test]
fn readers_coexist_with_qemu_and_with_each_other() {
    let image = image();
    let _first = locked(&image, Lock::Read);
    let _second = locked(&image, Lock::Read);
    let _qemu = OpenInQemu::start(image.path(), &["-r"]);
    let _third = locked(&image, Lock::Read);
    assert!(qemu_io(image.path(), &["-r", "-c", "read 0 512"]).status.success());
}

#[test]
fn a_writer_of_qemu_keeps_us_out_and_is_named() {
    let image = image();
    let qemu = OpenInQemu::start(image.path(), &[]);
    for lock in [Lock::Read, Lock::Write] {
        let text = refusal(&image, lock);
        let start = format!("in use by process {} (qemu-io), running since 2", qemu.0.id());
        assert!(text.starts_with(&start), "{text}");
    }
    drop(qemu);
    locked(&image, Lock::Write);
}

#[test]
fn a_storage_daemon_keeps_us_out_and_is_named() {
    let image = image();
    let node = format!("driver=raw,node-name=disk,file.driver=file,file.filename={}", {
        image.path().display()
    });
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("nbd");
    let pid_file = folder.path().join("pid");
    let status = Command::new("qemu-storage-daemon")
        .args(["--blockdev", &node, "--daemonize", "--pidfile"])
        .arg(&pid_file)
        .args(["--nbd-server", &format!("addr.type=unix,addr.path={}", socket.display())])
        .args(["--export", "type=nbd,id=disk,node-name=disk,writable=on"])
        .status()
        .expect("this test needs qemu-storage-daemon");
    assert!(status.success());
    let daemon = Daemon(std::fs::read_to_string(pid_file).unwrap().trim().to_owned());
    let text = refusal(&image, Lock::Write);
    let pid = &daemon.0;
    assert!(text.contains(&format!("process {pid} (qemu-storage-da), running since ")), "{text}");
}

#[test]
fn another_handle_of_this_process_is_named_too() {
    let image = image();
    let held = locked(&image, Lock::Write);
    let own = format!("in use by process {} (", std::process::id());
    for lock in [Lock::Read, Lock::Write] {
        assert!(refusal(&image, lock).starts_with(&own));
    }
    // A refused handle leaves nothing behind: the holder can still change its lock.
    block_on(held.lock(Lock::Read)).unwrap();
    locked(&image, Lock::Read);
}

#[test]
fn a_refused_change_keeps_the_old_lock() {
    let image = image();
    let first = locked(&image, Lock::Read);
    let second = locked(&image, Lock::Read);
    let error = block_on(first.lock(Lock::Write)).expect_err("another reader is there");
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    drop(second);
    refusal(&image, Lock::Write);
    locked(&image, Lock::Read);
    block_on(first.lock(Lock::Write)).unwrap();
    refusal(&image, Lock::Read);
}
