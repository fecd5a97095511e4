//! The contract of the core, over a block device. Needs root, for a loop device.

#![expect(clippy::unwrap_used, reason = "a test that panics says where")]

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use futures_executor::block_on;
use qbm_core::{Access, Lock, Storage, conformance};
use qbm_io_std::{GatePolicy, StdDirectory, StdFile};
use tempfile::NamedTempFile;

/// A loop device over a file of its own.
struct LoopDevice {
    path: String,
    _file: NamedTempFile,
}

impl LoopDevice {
    fn new(length: u64) -> Self {
        let file = NamedTempFile::new().unwrap();
        file.as_file().set_len(length).unwrap();
        let mut losetup = Command::new("losetup");
        let output = losetup.args(["--find", "--show"]).arg(file.path()).output();
        let output = output.expect("this test needs losetup");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "this test needs root, for a loop device: {text}");
        let path = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        Self { path, _file: file }
    }

    fn open(&self, access: Access) -> StdFile {
        StdFile::open_operator(Path::new(&self.path), access).unwrap()
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        Command::new("losetup").args(["--detach", &self.path]).status().unwrap();
    }
}

#[test]
fn a_block_device_keeps_the_contract() {
    let device = LoopDevice::new(conformance::STORAGE_LENGTH);
    block_on(conformance::check_storage(async || device.open(Access::Write)));
}

#[test]
fn a_block_device_has_its_length_and_keeps_it() {
    let device = LoopDevice::new(3 << 20);
    let file = device.open(Access::Write);
    assert!(file.is_block_device());
    assert_eq!(block_on(file.len()).unwrap(), 3 << 20);
    block_on(file.set_len(3 << 20)).unwrap();
    let error = block_on(file.set_len(1 << 20)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
}

#[test]
fn a_block_device_is_known_by_its_number() {
    let device = LoopDevice::new(1 << 20);
    let identity = block_on(device.open(Access::Read).identity()).unwrap().unwrap();
    assert_eq!(identity.device, fs::metadata(&device.path).unwrap().rdev());
    assert_eq!((identity.inode, identity.size, identity.modified_ns), (0, 1 << 20, None));
}

#[test]
fn qemu_cannot_write_a_block_device_that_we_have_locked() {
    let device = LoopDevice::new(1 << 20);
    let held = device.open(Access::Write);
    block_on(held.lock(Lock::Write)).unwrap();
    let mut command = Command::new("qemu-io");
    command.args(["-f", "raw", "-c", "write 0 512", &device.path]);
    let output = command.output().expect("this test needs qemu-io");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("Failed to get \"write\" lock"), "{text}");
}

#[test]
fn a_descriptor_may_name_a_block_device_that_the_operator_allows() {
    use qbm_core::Directory;

    let device = LoopDevice::new(1 << 20);
    let folder = tempfile::tempdir().unwrap();
    // As LVM names its volumes.
    let link = folder.path().join("volume");
    std::os::unix::fs::symlink(&device.path, &link).unwrap();
    let link = link.to_str().unwrap();

    let closed = StdDirectory::open(folder.path(), GatePolicy::closed()).unwrap();
    let error = block_on(closed.open(link, Access::Write)).unwrap_err();
    let advice = format!("--allow-path '{link}' would allow it");
    assert_eq!(error.to_string(), format!("it is not in the image's directory; {advice}"));

    let mut policy = GatePolicy::closed();
    policy.allow(Path::new(link)).unwrap();
    policy.allow(Path::new("/dev")).unwrap();
    let open = StdDirectory::open(folder.path(), policy).unwrap();
    for name in [link, &device.path] {
        assert!(block_on(open.open(name, Access::Write)).unwrap().is_block_device());
    }
}
