//! A folder with disks, and the two programs in it.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use iotests::{Finished, qbm, run, tool};

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;

/// A folder that is gone when this is dropped.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A folder with the disk `vm.raw` of 8 MiB, parts of which are written, and the image `vm.qbm`
    /// around it.
    pub(crate) fn with_image() -> Self {
        let folder = Self::new();
        folder.disk("vm.raw", 8 * MIB, &[(0, MIB, 1), (3 * MIB, 64 * KIB, 2), (5 * MIB, 512, 3)]);
        folder.ours("create --data-file vm.raw vm.qbm").success();
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A sparse disk of `length` bytes with `parts` of it written: offset, length and byte.
    pub(crate) fn disk(&self, name: &str, length: u64, parts: &[(u64, u64, u8)]) {
        let disk = fs::File::create(self.path(name)).unwrap();
        disk.set_len(length).unwrap();
        for (offset, length, byte) in parts {
            disk.write_all_at(&vec![*byte; usize::try_from(*length).unwrap()], *offset).unwrap();
        }
    }

    /// Runs `qbm` with the words of `arguments`.
    #[track_caller]
    pub(crate) fn ours(&self, arguments: &str) -> Finished {
        run(qbm().current_dir(self.0.path()).args(arguments.split_whitespace()))
    }

    /// Runs `qemu-img` with the words of `arguments`.
    #[track_caller]
    pub(crate) fn theirs(&self, arguments: &str) -> Finished {
        run(tool("qemu-img").current_dir(self.0.path()).args(arguments.split_whitespace()))
    }

    /// Runs commands of `qbm io` on `image`; all of them must succeed.
    #[track_caller]
    pub(crate) fn io(&self, image: &str, commands: &[&str]) {
        let commands = commands.iter().flat_map(|command| ["-c", command]);
        run(qbm().current_dir(self.0.path()).arg("io").args(commands).arg(image)).success();
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Whether the two files have the same bytes. Without a word about the bytes where not.
    #[track_caller]
    pub(crate) fn assert_same(&self, a: &str, b: &str) {
        assert!(self.bytes(a) == self.bytes(b), "{a} and {b} differ");
    }

    /// Bytes that the file takes on disk.
    pub(crate) fn space(&self, name: &str) -> u64 {
        fs::metadata(self.path(name)).unwrap().blocks() * 512
    }

    /// The names of all files, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}
