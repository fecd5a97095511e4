//! The contract of storages, over the servers that people have.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use futures_executor::block_on;
use iotests::{run, tool};
use qbm_core::conformance::{self, STORAGE_LENGTH};
use qbm_core::image::{self, CreateOptions, OpenOptions};
use qbm_core::{Access, Buffer, ByteRange, Image, Persist, Storage};
use qbm_io_std::{GatePolicy, StdDirectory, StdHost};
use qbm_nbd::{Export, Limits, Listener, NbdStorage, Stop};

use super::servers::Server;

fn check(server: &Server) {
    let open = async || server.connect(Access::Write).unwrap();
    block_on(conformance::check_contents(&open));
}

#[test]
fn nbdkit_in_memory_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    check(&Server::nbdkit(folder.path(), &["memory", &STORAGE_LENGTH.to_string()]));
}

fn make_disk(folder: &Path, format: &str) -> String {
    let length = STORAGE_LENGTH.to_string();
    run(tool("qemu-img").current_dir(folder).args(["create", "-f", format, "disk", &length]))
        .success();
    folder.join("disk").display().to_string()
}

#[test]
fn nbdkit_on_a_file_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let disk = make_disk(folder.path(), "raw");
    check(&Server::nbdkit(folder.path(), &["file", &disk]));
}

/// Every request that is not of whole blocks is made one of whole blocks, and no longer than the server
/// takes.
#[test]
fn a_server_with_blocks_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let blocks = ["blocksize-minimum=4096", "blocksize-preferred=8192", "blocksize-maximum=64K"];
    let arguments = ["--filter=blocksize-policy", "memory", &STORAGE_LENGTH.to_string()];
    let policy = ["blocksize-error-policy=error"];
    let server = Server::nbdkit(folder.path(), &[&arguments[..], &blocks, &policy].concat());
    let limits = server.connect(Access::Read).unwrap().limits();
    assert_eq!((limits.alignment, limits.max_transfer), (8192, 64 << 10));
    check(&server);
}

/// Without structured replies, and so without block status, and without zeroes.
#[test]
fn a_server_that_can_do_little_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let filters = ["--no-sr", "--filter=nozero", "--filter=noparallel"];
    let disk = ["memory", &STORAGE_LENGTH.to_string(), "zeromode=none"];
    check(&Server::nbdkit(folder.path(), &[&filters[..], &disk].concat()));
}

#[test]
fn qemu_on_a_raw_file_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let disk = make_disk(folder.path(), "raw");
    check(&Server::qemu_nbd(folder.path(), &["--format=raw", &disk]));
}

#[test]
fn qemu_on_qcow2_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let disk = make_disk(folder.path(), "qcow2");
    check(&Server::qemu_nbd(folder.path(), &["--format=qcow2", &disk]));
}

/// Our own server, over TCP, with extended headers and four connections.
#[test]
fn our_server_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let directory = StdDirectory::open(folder.path(), GatePolicy::closed()).unwrap();
    let options = CreateOptions {
        file: "disk.raw".to_owned(),
        data: None,
        size: STORAGE_LENGTH,
        durability: qbm_core::descriptor::Durability::Exact,
    };
    block_on(image::create(&directory, "disk.qbm", options, &StdHost)).unwrap();
    let opened =
        Image::open(directory, "disk.qbm", OpenOptions::new(Access::Write), Arc::new(StdHost));
    let export = Export {
        name: "a disk".to_owned(),
        description: String::new(),
        disk: Arc::new(block_on(opened).unwrap()),
        access: Access::Write,
        bitmaps: Vec::new(),
    };
    let server = qbm_nbd::Server::new(vec![export], Limits::default(), |_| {});
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("nbd://{}/a%20disk", listener.local_addr().unwrap());
    let (stopper, stop) = Stop::new().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| server.serve(&[Listener::Tcp(listener)], &stop).unwrap());
        let open = async || NbdStorage::connect(&uri.parse().unwrap(), Access::Write).unwrap();
        block_on(conformance::check_contents(&open));
        stopper.stop();
    });
    let statistics = server.statistics();
    assert_eq!((statistics.bad_requests.get(), statistics.panics.get()), (0, 0));
    assert!(statistics.block_status.get() > 10 && statistics.connections.get() >= 8);
}

#[test]
fn the_length_of_a_servers_disk_stays() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::nbdkit(folder.path(), &["memory", "1M"]);
    let disk = server.connect(Access::Write).unwrap();
    let kind = |result: std::io::Result<()>| result.unwrap_err().kind();
    assert_eq!(block_on(disk.len()).unwrap(), 1 << 20);
    block_on(disk.set_len(1 << 20)).unwrap();
    assert_eq!(kind(block_on(disk.set_len(2 << 20))), std::io::ErrorKind::Unsupported);
    let past = block_on(disk.write_at((1 << 20) - 1, Buffer::zeroed(2), Persist::Later));
    assert_eq!(kind(past.map(drop)), std::io::ErrorKind::StorageFull);
    block_on(disk.discard(ByteRange::new(0, 8 << 20))).unwrap();
}

#[test]
fn a_server_that_cannot_hold_a_disk_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::nbdkit(folder.path(), &["-r", "memory", "1M"]);
    let why = |access| server.connect(access).map(drop).unwrap_err().to_string();
    assert_eq!(why(Access::Write), "the server exports it read-only");
    server.connect(Access::Read).unwrap();
    drop(server);
    let server = Server::nbdkit(folder.path(), &["--mask-handshake=0", "memory", "1M"]);
    let why = server.connect(Access::Read).map(drop).unwrap_err().to_string();
    assert!(why.starts_with("the server is too old"), "{why}");
    drop(server);
    let server = Server::nbdkit(
        folder.path(),
        &["--filter=exportname", "memory", "1M", "exportname=a", "exportname-strict=true"],
    );
    let why = server.connect(Access::Read).map(drop).unwrap_err().to_string();
    assert!(why.starts_with("the server says: "), "{why}");
    let uri = format!("nbd+unix:///a?socket={}", folder.path().join("disk.sock").display());
    NbdStorage::connect(&uri.parse().unwrap(), Access::Write).unwrap();
}
