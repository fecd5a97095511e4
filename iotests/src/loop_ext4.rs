//! A real file system whose power can be cut: ext4 in a file, behind a loop device.
//!
//! The cut is the file system's own shutdown without a flush of its log: from then on nothing
//! reaches the disk, and every operation fails. Unmounted and mounted again, it has what was synced
//! and may lack all else, as after a power cut. This drops unsynced data as a whole; subsets and
//! torn pages are for the simulated medium.
//!
//! # Invariants
//!
//! * Nothing outlives the value but what a killed test could not tidy up, and that is tidied up by
//!   the next: the disk's file has no name, the loop device frees itself at its last close, and a
//!   mount left behind has the process id in its path.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use crate::program::{run, tool};

/// How the folders begin that the file systems are mounted on; the process id follows.
const PREFIX: &str = "qbm-power-cut-";

/// How long a file may stay open after a cut. A program that another thread is just starting has
/// all our files, until it is loaded: nothing else should be in the way.
const GRACE: Duration = Duration::from_secs(5);

/// An ext4 file system on a loop device, mounted.
#[derive(Debug)]
pub struct LoopExt4 {
    /// Where it is mounted.
    folder: TempDir,
    device: PathBuf,
    /// Keeps the device attached while nothing is mounted.
    _open_device: File,
}

impl LoopExt4 {
    /// Makes and mounts a file system of `bytes` bytes, at least 16 MiB.
    ///
    /// # Panics
    ///
    /// If anything of that fails, such as for lack of root's rights.
    pub fn create(bytes: u64) -> Self {
        assert!(rustix::process::geteuid().is_root(), "only root can mount a file system");
        remove_leftovers();
        let prefix = format!("{PREFIX}{}-", process::id());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a folder");
        let (device, open_device) = attach_disk(bytes);
        let disk = Self { folder, device, _open_device: open_device };
        disk.mount();
        disk
    }

    /// The root of the file system.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Cuts the power: nothing that was not synced before reaches the disk, and whatever still
    /// uses the file system gets errors.
    ///
    /// # Panics
    ///
    /// If the file system refuses, or `xfs_io` is missing.
    pub fn cut_power(&self) {
        // Without `-f` this is the shutdown that does not flush the log, also for ext4.
        run(tool("xfs_io").args(["-x", "-c", "shutdown"]).arg(self.path())).success();
    }

    /// Turns the power on again: mounts anew, which replays the journal.
    ///
    /// # Panics
    ///
    /// If a file is still open: what a power cut would have killed must be gone. Or if the file
    /// system does not recover.
    pub fn restart(&mut self) {
        let deadline = Instant::now() + GRACE;
        while let Err(error) = unmount(self.path(), UnmountFlags::empty()) {
            let may_pass = error == Errno::BUSY && Instant::now() < deadline;
            assert!(may_pass, "{}: cannot be unmounted: {error}", self.path().display());
            thread::sleep(Duration::from_millis(1));
        }
        self.mount();
    }

    fn mount(&self) {
        let mounted = mount(&self.device, self.path(), "ext4", MountFlags::empty(), None);
        mounted.unwrap_or_else(|error| panic!("{}: not mounted: {error}", self.device.display()));
    }
}

impl Drop for LoopExt4 {
    fn drop(&mut self) {
        // Lazily, since a panic may leave files open; the device goes with the last of them.
        detach_mount(self.path());
    }
}

/// Makes a file system in a nameless file, and attaches it to a loop device.
fn attach_disk(bytes: u64) -> (PathBuf, File) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.as_file().set_len(bytes).expect("room for a sparse file");
    // Pages and blocks of one size, as on a disk of usual size; a small journal is replayed soon.
    let options =
        ["-q", "-F", "-t", "ext4", "-b", "4096", "-J", "size=4", "-E", "lazy_itable_init=0"];
    run(tool("mke2fs").args(options).arg(file.path())).success();
    let attached = run(tool("losetup").args(["--find", "--show"]).arg(file.path())).success();
    let device = PathBuf::from(attached.stdout.trim());
    let open_device = File::open(&device).expect("the loop device");
    // Detached while open, it stays until its last close, which also the end of a killed process is.
    run(tool("losetup").arg("--detach").arg(&device)).success();
    (device, open_device)
}

/// Unmounts what killed processes have left mounted.
fn remove_leftovers() {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("the kernel lists the mounts");
    for folder in mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new) {
        if owner_of(folder).is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            detach_mount(folder);
            // Others may be at it too; whoever comes last finds it gone.
            let _gone = fs::remove_dir(folder);
        }
    }
}

/// The id of the process that mounted something on `folder`, if that is one of ours.
fn owner_of(folder: &Path) -> Option<&str> {
    let (owner, _) = folder.file_name()?.to_str()?.strip_prefix(PREFIX)?.split_once('-')?;
    Some(owner)
}

fn detach_mount(folder: &Path) {
    if let Err(error) = unmount(folder, UnmountFlags::DETACH) {
        eprintln!("{}: left mounted: {error}", folder.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_folders_have_an_owner() {
        assert_eq!(owner_of(Path::new("/tmp/qbm-power-cut-123-abc")), Some("123"));
        for other in ["/", "/tmp/qbm-power-cut-", "/mnt/other-123-abc"] {
            assert_eq!(owner_of(Path::new(other)), None, "{other}");
        }
    }
}
