//! What a descriptor may name: bad names and files, each with the exact answer.
//!
//! Needs root, to make device nodes, to give files away and to mount.

#![expect(clippy::unwrap_used, reason = "a test that panics says where")]

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use futures_executor::block_on;
use qbm_core::{Access, Directory, Storage, directory::read_whole};
use qbm_io_std::{GatePolicy, StdDirectory, StdFile, split};
use tempfile::TempDir;

const SYMLINK: &str = "a symbolic link is part of the name, and none is followed; write the \
                       absolute name that it leads to and allow that";
const PARENT: &str = "`..` leads out of the image's directory; an absolute name is possible where \
                      the operator allows it";
const NOT_PLAIN: &str = "a part of the name is empty or `.`";
const CONTROL: &str = "the name has control characters";
const HARD_LINKS: &str = "the file has 2 names (hard links), and writing to it would change the \
                          others; copy it, or name it on the command line";

/// An image's directory, and beside it what belongs to somebody else.
struct Scene {
    folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(scene.path("image/sub")).unwrap();
        fs::create_dir(scene.path("other")).unwrap();
        fs::write(scene.path("image/disk.raw"), "disk").unwrap();
        fs::write(scene.path("image/sub/disk.raw"), "below").unwrap();
        fs::write(scene.path("other/secret"), "secret").unwrap();
        scene
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn directory(&self, policy: GatePolicy) -> StdDirectory {
        StdDirectory::open(&self.path("image"), policy).unwrap()
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    let status = status.unwrap_or_else(|error| panic!("this test needs {program}: {error}"));
    assert!(status.success(), "this test needs root: {program} {arguments:?}");
}

fn contents(directory: &StdDirectory, name: &str) -> String {
    let file = block_on(directory.open(name, Access::Read)).unwrap();
    String::from_utf8(block_on(read_whole(&file, 100)).unwrap()).unwrap()
}

fn assert_refused(directory: &StdDirectory, name: &str, accesses: &[Access], text: &str) {
    for access in accesses {
        let error = block_on(directory.open(name, *access)).expect_err(name);
        assert_eq!(error.to_string(), text, "{name:?}");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{name:?}");
    }
}

const BOTH: &[Access] = &[Access::Read, Access::Write];

#[test]
fn names_that_are_no_plain_names_are_refused() {
    let scene = Scene::new();
    let directory = scene.directory(GatePolicy::closed());
    let protocol = |word: &str| format!("`{word}:` would be a protocol, and only files are opened");
    let long = "a".repeat(4097);
    let cases = [
        ("", "the name is empty".to_owned()),
        ("../../etc/shadow", PARENT.to_owned()),
        ("sub/../disk.raw", PARENT.to_owned()),
        ("..", PARENT.to_owned()),
        (".", NOT_PLAIN.to_owned()),
        ("./disk.raw", NOT_PLAIN.to_owned()),
        ("sub//disk.raw", NOT_PLAIN.to_owned()),
        ("sub/", NOT_PLAIN.to_owned()),
        ("/", NOT_PLAIN.to_owned()),
        ("/etc/../etc/shadow", "`..` is not followed; write the name without it".to_owned()),
        ("disk\0.raw", CONTROL.to_owned()),
        ("disk\n.raw", CONTROL.to_owned()),
        ("\u{1b}[2Jdisk.raw", CONTROL.to_owned()),
        (r#"json:{"driver":"file","filename":"/etc/shadow"}"#, protocol("json")),
        ("nbd://127.0.0.1", protocol("nbd")),
        ("nbd+unix:///disk?socket=/run/nbd", protocol("nbd+unix")),
        ("fd:3", protocol("fd")),
        ("host_device:/dev/sda", protocol("host_device")),
        (&long, "a name of 4097 bytes; at most 4095 are possible".to_owned()),
    ];
    for (name, text) in cases {
        assert_refused(&directory, name, BOTH, &text);
        for changed in [
            block_on(directory.create(name)).map(drop),
            block_on(directory.rename(name, "new")),
            block_on(directory.rename("disk.raw", name)),
            block_on(directory.remove(name)),
        ] {
            assert_eq!(changed.unwrap_err().to_string(), text, "{name:?}");
        }
    }
    assert_eq!(contents(&directory, "disk.raw"), "disk");
}

#[test]
fn absolute_names_are_refused_with_what_would_allow_them() {
    let scene = Scene::new();
    let mut policy = GatePolicy::closed();
    policy.read_allow_file(Path::new("/nowhere/qbm/allow")).unwrap();
    policy.read_allow_file(&scene.path("allow")).unwrap();
    let (closed, with_files) = (scene.directory(GatePolicy::closed()), scene.directory(policy));
    let inside = scene.text("image/disk.raw");
    for name in ["/etc/shadow", "/proc/self/mem", "/proc/self/fd/0", "/dev/fd/0", &inside] {
        let text =
            format!("it is not in the image's directory; --allow-path '{name}' would allow it");
        assert_refused(&closed, name, BOTH, &text);
        let allow = scene.text("allow");
        let text = format!("{text}, or the line `{name}` in /nowhere/qbm/allow or {allow}");
        assert_refused(&with_files, name, BOTH, &text);
        let why = "only names in the image's directory are created, renamed or removed";
        assert_eq!(block_on(closed.create(name)).unwrap_err().to_string(), why);
        assert_eq!(block_on(closed.remove(name)).unwrap_err().to_string(), why);
    }
}

#[test]
fn symbolic_links_are_not_followed() {
    let scene = Scene::new();
    symlink(scene.path("other/secret"), scene.path("image/link.raw")).unwrap();
    symlink("disk.raw", scene.path("image/near.raw")).unwrap();
    symlink(scene.path("other"), scene.path("image/folder")).unwrap();
    symlink("/proc/self/fd/0", scene.path("image/magic.raw")).unwrap();
    symlink("nowhere", scene.path("image/dangling.raw")).unwrap();
    let directory = scene.directory(GatePolicy::closed());
    for name in ["link.raw", "near.raw", "folder/secret", "magic.raw", "dangling.raw"] {
        assert_refused(&directory, name, BOTH, SYMLINK);
    }
    assert_eq!(block_on(directory.create("folder/new")).unwrap_err().to_string(), SYMLINK);
    assert_eq!(block_on(directory.remove("folder/secret")).unwrap_err().to_string(), SYMLINK);
    let moved = block_on(directory.rename("disk.raw", "folder/secret"));
    assert_eq!(moved.unwrap_err().to_string(), SYMLINK);
    let taken = block_on(directory.create("dangling.raw")).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    // A link is a name like any: removing it takes the link and not what it leads to.
    block_on(directory.remove("link.raw")).unwrap();
    assert_eq!(fs::read_to_string(scene.path("other/secret")).unwrap(), "secret");
}

#[test]
fn what_is_not_a_file_is_refused_at_once() {
    let scene = Scene::new();
    let _socket = UnixListener::bind(scene.path("image/socket")).unwrap();
    run("mkfifo", &[&scene.text("image/fifo")]);
    run("mknod", &[&scene.text("image/zero"), "c", "1", "5"]);
    run("mknod", &[&scene.text("image/tty"), "c", "5", "0"]);
    run("mknod", &[&scene.text("image/block"), "b", "7", "0"]);
    let directory = scene.directory(GatePolicy::closed());
    let cases = [
        ("fifo", "it is a FIFO, not a file or block device"),
        ("socket", "it is a socket, not a file or block device"),
        ("sub", "it is a directory, not a file or block device"),
        ("zero", "it is a character device, not a file or block device"),
        ("tty", "it is a character device, not a file or block device"),
        ("block", "it is a block device; its absolute name is possible where that is allowed"),
    ];
    for (name, text) in cases {
        assert_refused(&directory, name, BOTH, text);
    }
    for (name, text) in &cases[..5] {
        let path = scene.path("image").join(name);
        for access in BOTH {
            let error = StdFile::open_operator(&path, *access).unwrap_err();
            assert_eq!(error.to_string(), *text, "the operator gets the same answer");
        }
    }
}

#[test]
fn devices_and_links_of_the_kernel_are_refused_where_all_is_allowed() {
    let scene = Scene::new();
    let mut policy = GatePolicy::closed();
    policy.allow(Path::new("/")).unwrap();
    let directory = scene.directory(policy);
    let character = "it is a character device, not a file or block device";
    for (name, text) in [
        ("/dev/null", character),
        ("/dev/zero", character),
        ("/dev/tty", character),
        ("/proc/self/mem", SYMLINK),
        ("/proc/self/fd/0", SYMLINK),
        ("/dev/fd/0", SYMLINK),
    ] {
        assert_refused(&directory, name, BOTH, text);
    }
    let magic = format!("/proc/{}/fd/0", std::process::id());
    assert_refused(&directory, &magic, BOTH, SYMLINK);
    assert_eq!(contents(&directory, &scene.text("other/secret")), "secret");
}

#[test]
fn a_file_with_another_name_elsewhere_is_not_written() {
    let scene = Scene::new();
    fs::hard_link(scene.path("other/secret"), scene.path("image/hard.raw")).unwrap();
    let mut policy = GatePolicy::closed();
    policy.allow(&scene.path("image")).unwrap();
    policy.allow(&scene.path("other/secret")).unwrap();
    let directory = scene.directory(policy);
    assert_refused(&directory, "hard.raw", &[Access::Write], HARD_LINKS);
    assert_refused(&directory, &scene.text("image/hard.raw"), &[Access::Write], HARD_LINKS);
    assert_eq!(contents(&directory, "hard.raw"), "secret");
    // Whoever allows the very file means it.
    block_on(directory.open(&scene.text("other/secret"), Access::Write)).unwrap();
    StdFile::open_operator(&scene.path("image/hard.raw"), Access::Write).unwrap();
}

#[test]
fn names_are_taken_as_they_are_written() {
    let scene = Scene::new();
    let directory = scene.directory(GatePolicy::closed());
    fs::write(scene.path("image/DISK.raw"), "upper").unwrap();
    fs::write(scene.path("image/\u{e9}"), "composed").unwrap();
    fs::write(scene.path("image/e\u{301}"), "decomposed").unwrap();
    fs::write(scene.path("image/2026-10-01T01:00:00Z.raw"), "time").unwrap();
    for (name, text) in [
        ("disk.raw", "disk"),
        ("DISK.raw", "upper"),
        ("\u{e9}", "composed"),
        ("e\u{301}", "decomposed"),
        ("sub/disk.raw", "below"),
        ("2026-10-01T01:00:00Z.raw", "time"),
    ] {
        assert_eq!(contents(&directory, name), text);
    }
    for name in ["disk%2eraw", "%2e%2e/secret", "Disk.raw"] {
        let error = block_on(directory.open(name, Access::Read)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{name}");
    }
    let error = block_on(directory.open(&"a".repeat(256), Access::Read)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidFilename);
}

#[test]
fn what_is_mounted_below_is_below() {
    let scene = Scene::new();
    run("mount", &["-t", "tmpfs", "tmpfs", &scene.text("image/sub")]);
    fs::write(scene.path("image/sub/disk.raw"), "mounted").unwrap();
    let found = contents(&scene.directory(GatePolicy::closed()), "sub/disk.raw");
    run("umount", &[&scene.text("image/sub")]);
    assert_eq!(found, "mounted");
}

#[test]
fn the_operator_may_allow_files_and_directories() {
    let scene = Scene::new();
    fs::create_dir(scene.path("bases")).unwrap();
    fs::write(scene.path("bases/base.raw"), "base").unwrap();
    symlink(scene.path("other/secret"), scene.path("bases/trap.raw")).unwrap();
    symlink(scene.path("bases/base.raw"), scene.path("volume")).unwrap();
    let mut policy = GatePolicy::closed();
    policy.allow(&scene.path("bases")).unwrap();
    policy.allow(&scene.path("volume")).unwrap();
    let directory = scene.directory(policy);
    assert_eq!(contents(&directory, &scene.text("bases/base.raw")), "base");
    assert_eq!(contents(&directory, &scene.text("volume")), "base");
    assert_refused(&directory, &scene.text("bases/trap.raw"), BOTH, SYMLINK);
    let secret = scene.text("other/secret");
    let advice = format!("--allow-path '{secret}' would allow it");
    let text = format!("it is not in the image's directory; {advice}");
    assert_refused(&directory, &secret, BOTH, &text);
    let text = "it is a directory, not a file or block device";
    assert_refused(&directory, &scene.text("bases"), BOTH, text);
}

#[test]
fn an_allow_file_has_an_entry_on_each_line() {
    let scene = Scene::new();
    let (secret, allow) = (scene.text("other/secret"), scene.path("allow"));
    fs::write(&allow, format!("# bases\n\n  {secret}  \n/srv/images/\n")).unwrap();
    let mut policy = GatePolicy::closed();
    policy.read_allow_file(&allow).unwrap();
    assert_eq!(contents(&scene.directory(policy), &secret), "secret");
}

#[test]
fn an_allow_file_that_cannot_be_trusted_allows_nothing() {
    let scene = Scene::new();
    let (secret, allow) = (scene.text("other/secret"), scene.path("allow"));
    let check = |text: &str| {
        let mut policy = GatePolicy::closed();
        let error = policy.read_allow_file(&allow).unwrap_err();
        assert_eq!(error.to_string(), format!("{}: ignored: {text}", allow.display()));
        let refused = block_on(scene.directory(policy).open(&secret, Access::Read));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::PermissionDenied);
    };
    fs::write(&allow, format!("{secret}\n")).unwrap();
    for mode in [0o664, 0o646] {
        fs::set_permissions(&allow, Permissions::from_mode(mode)).unwrap();
        check("others than its owner can write it; chmod go-w");
    }
    fs::set_permissions(&allow, Permissions::from_mode(0o644)).unwrap();
    chown(&allow, Some(12_345), None).expect("this test needs root");
    check("it belongs to user 12345");
    chown(&allow, Some(0), None).unwrap();
    for line in ["images", "/srv/../etc", "/srv//images", "://host"] {
        fs::write(&allow, format!("{secret}\n# a line\n{line}\n")).unwrap();
        check("line 3 is not an absolute path");
    }
    fs::remove_file(&allow).unwrap();
    fs::create_dir(&allow).unwrap();
    check("it is not a regular file");
    fs::remove_dir(&allow).unwrap();
    run("mkfifo", &[allow.to_str().unwrap()]);
    check("it is not a regular file");
}

#[test]
fn a_path_is_split_where_the_descriptor_really_is() {
    let scene = Scene::new();
    symlink(scene.path("image/disk.raw"), scene.path("link")).unwrap();
    let real = scene.path("image").canonicalize().unwrap();
    assert_eq!(split(&scene.path("link")).unwrap(), (real, "disk.raw".to_owned()));
    let plain = |path: &str| split(Path::new(path)).map(|(p, n)| (p.display().to_string(), n));
    assert_eq!(plain("disk.qbm").unwrap(), (".".to_owned(), "disk.qbm".to_owned()));
    assert_eq!(plain("/disk.qbm").unwrap(), ("/".to_owned(), "disk.qbm".to_owned()));
    assert_eq!(plain("a/b.qbm").unwrap(), ("a".to_owned(), "b.qbm".to_owned()));
    for path in ["", "/", "..", "a/.."] {
        assert_eq!(plain(path).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{path}");
    }
}

#[test]
fn a_new_file_belongs_to_its_owner_alone() {
    let scene = Scene::new();
    let directory = scene.directory(GatePolicy::closed());
    for name in ["new", "sub/new"] {
        drop(block_on(directory.create(name)).unwrap());
        let mode = fs::metadata(scene.path("image").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    block_on(directory.rename("sub/new", "newer")).unwrap();
    block_on(directory.remove("newer")).unwrap();
    block_on(directory.sync()).unwrap();
}

#[test]
fn a_file_opened_by_name_waits_like_any_other() {
    // `O_NONBLOCK` is there for the opening alone.
    let scene = Scene::new();
    let file = block_on(scene.directory(GatePolicy::closed()).open("disk.raw", Access::Write));
    let file = file.unwrap();
    let identity = block_on(file.identity()).unwrap().unwrap();
    assert_eq!(identity.size, 4);
    for entry in fs::read_dir("/proc/self/fd").unwrap() {
        let number = entry.unwrap().file_name().into_string().unwrap();
        let link = fs::read_link(format!("/proc/self/fd/{number}")).unwrap_or_default();
        if link == scene.path("image/disk.raw") {
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
            assert_eq!(flags & 0o4000, 0, "{flags:o}");
            return;
        }
    }
    panic!("the file is open");
}
