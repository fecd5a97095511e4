//! Whatever a descriptor names, nothing outside its directory is opened or made, and nothing but files.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use futures_executor::block_on;
use qbm_core::{Access, Directory, Storage};
use qbm_io_std::{GatePolicy, StdDirectory};
use tempfile::TempDir;

use crate::input::Input;

/// Files of the image, by their names in its directory.
const INSIDE: &[&str] = &["disk.raw", "sub/disk.raw", "sub/sub/x", "a b", "..a", "%2e%2e"];

thread_local! {
    /// Made once, since that takes longer than a look at a name.
    static SCENE: Scene = Scene::new();
}

/// Opens a name that the bytes spell, and creates it if it is free.
///
/// # Panics
///
/// If that reaches what it must not.
pub fn gate(bytes: &[u8]) {
    let mut input = Input(bytes);
    let choice = input.byte().unwrap_or(0);
    let access = if choice & 1 == 0 { Access::Read } else { Access::Write };
    SCENE.with(|scene| {
        let name = scene.spell(input);
        scene.open(&name, access, choice & 2 != 0);
        scene.create(&name);
    });
}

/// A real directory of an image, in one that has what is not the image's.
struct Scene {
    folder: TempDir,
    closed: StdDirectory,
    /// With the folder `allowed` allowed.
    open: StdDirectory,
    /// What may be opened, by device and inode: files of the image, and those of `allowed`.
    inside: BTreeSet<(u64, u64)>,
    allowed: BTreeSet<(u64, u64)>,
    _socket: UnixListener,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = |name: &str| folder.path().join(name);
        for name in ["image/sub/sub", "image/empty", "outside/sub", "allowed/sub"] {
            fs::create_dir_all(path(name)).expect("a new folder");
        }
        let files = |within: &str, names: &[&str]| -> BTreeSet<(u64, u64)> {
            let make = |name: &&str| {
                let path = path(within).join(name);
                fs::write(&path, within).expect("a new file");
                identity(&path)
            };
            names.iter().map(make).collect()
        };
        let inside = files("image", INSIDE);
        let allowed = files("allowed", &["x", "sub/x"]);
        files("outside", &["secret", "sub/secret", "disk.raw"]);
        let link = |to: PathBuf, from: &str| symlink(to, path("image").join(from)).expect("a link");
        link(path("outside"), "out");
        link(path("outside/secret"), "secret");
        link("disk.raw".into(), "near");
        link("/proc/self/fd".into(), "fds");
        link("../outside".into(), "sub/out");
        symlink(path("outside/secret"), path("allowed/secret")).expect("a link");
        let hard = path("image/hard");
        fs::hard_link(path("outside/disk.raw"), hard).expect("another name");
        let socket = UnixListener::bind(path("image/socket")).expect("a socket");
        let mut policy = GatePolicy::closed();
        policy.allow(&path("allowed")).expect("a path");
        let directory = |policy| StdDirectory::open(&path("image"), policy).expect("a folder");
        let (closed, open) = (directory(GatePolicy::closed()), directory(policy));
        Self { closed, open, inside, allowed, _socket: socket, folder }
    }

    /// A name from bytes: parts of names, and characters as they are.
    fn spell(&self, mut input: Input<'_>) -> String {
        const PARTS: &[&str] = &[
            "/",
            "..",
            "../",
            "sub",
            "sub/",
            "disk.raw",
            "out/",
            "secret",
            "near",
            "fds/",
            "hard",
            "socket",
            "empty",
            "allowed/",
            "outside/",
            "image/",
            "x",
            "/proc/self/fd/",
            "0",
            "\0",
            "/dev/zero",
            "/etc/passwd",
            "new",
            ".",
            "a b",
            "\u{e4}",
        ];
        let mut name = String::new();
        while let Some(byte) = input.byte() {
            match PARTS.get(usize::from(byte)) {
                Some(part) => name += part,
                None if byte == 127 => name += self.folder.path().to_str().expect("plain"),
                None if byte < 127 => name.push(char::from(byte)),
                None => name += &"a".repeat(usize::from(byte)),
            }
        }
        name
    }

    fn open(&self, name: &str, access: Access, allowed: bool) {
        let directory = if allowed { &self.open } else { &self.closed };
        let Ok(file) = block_on(directory.open(name, access)) else { return };
        let identity = block_on(file.identity()).expect("an open file").expect("of the system");
        let which = (identity.device, identity.inode);
        let hard = access == Access::Read && which == identity_of_hard_link(&self.folder);
        let may = self.inside.contains(&which)
            || hard
            || allowed && name.starts_with('/') && self.allowed.contains(&which);
        assert!(may, "{name:?} opened what it must not, {access:?}");
    }

    fn create(&self, name: &str) {
        let before = self.outside();
        let Ok(file) = block_on(self.closed.create(name)) else {
            assert_eq!(before, self.outside(), "{name:?} was refused, and was made");
            return;
        };
        let identity = block_on(file.identity()).expect("an open file").expect("of the system");
        let made = self.folder.path().join("image").join(name);
        let real = made.canonicalize().expect("it was made");
        assert!(real.starts_with(self.folder.path().join("image")), "{name:?} was made outside");
        assert_eq!((identity.device, identity.inode), self::identity(&real), "{name:?}");
        block_on(self.closed.remove(name)).expect("it was just made");
        assert!(!made.exists(), "{name:?} stays");
    }

    /// Times of the folders that no name must lead to: they change with every name in them.
    fn outside(&self) -> Vec<(i64, i64)> {
        let time = |name: &&str| {
            let metadata = fs::metadata(self.folder.path().join(name)).expect("a folder");
            (metadata.mtime(), metadata.mtime_nsec())
        };
        ["", "outside", "outside/sub", "allowed"].iter().map(time).collect()
    }
}

fn identity(path: &Path) -> (u64, u64) {
    let metadata = File::open(path).and_then(|file| file.metadata()).expect("a file of the scene");
    (metadata.dev(), metadata.ino())
}

/// Has another name outside, and may be read but not written to.
fn identity_of_hard_link(folder: &TempDir) -> (u64, u64) {
    identity(&folder.path().join("outside/disk.raw"))
}
