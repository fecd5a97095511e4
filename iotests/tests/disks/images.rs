//! Images whose data is behind a server: writes, marks, backups, and every kind of kill.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use iotests::{Finished, Served, qbm, rounds, run, tool};

use super::servers::Server;

const GRANULE: u64 = 64 << 10;

fn ours(folder: &Path, arguments: &[&str]) -> Finished {
    run(qbm().current_dir(folder).args(arguments))
}

/// An image over `server`, with the bitmap `nightly`.
fn make_image(folder: &Path, server: &Server) {
    let uri = server.uri();
    ours(folder, &["create", "--data-file", &uri, "vm.qbm"]).success();
    ours(folder, &["bitmap", "--add", "--data-file", &uri, "vm.qbm", "nightly"]).success();
}

/// The granules that the bitmap marks.
fn marked(folder: &Path, uri: &str) -> Vec<u64> {
    let map = ["map", "--data-file", uri, "--bitmap", "nightly", "--output", "json", "vm.qbm"];
    let map = ours(folder, &map).success().json();
    let dirty = map.as_array().unwrap().iter().filter(|extent| extent["dirty"] == true);
    let extents = dirty.map(|extent| (extent["start"].as_u64(), extent["length"].as_u64()));
    let granules = extents.flat_map(|(start, length)| {
        let (start, length) = (start.unwrap(), length.unwrap());
        start / GRANULE..(start + length).div_ceil(GRANULE)
    });
    granules.collect()
}

/// A disk in a qcow2 file, which only QEMU reads: written, backed up and restored.
#[test]
fn an_image_over_a_qcow2_file_is_tracked_backed_up_and_restored() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let qemu_img = |arguments: &[&str]| run(tool("qemu-img").current_dir(folder).args(arguments));
    qemu_img(&["create", "-f", "qcow2", "disk.qcow2", "64M"]).success();
    let server = Server::qemu_nbd(folder, &["--format=qcow2", "disk.qcow2"]);
    make_image(folder, &server);
    let uri = server.uri();
    let with = ["--data-file", &uri, "vm.qbm"];
    let io = |command: &str| ours(folder, &[&["io", "-c", command][..], &with].concat()).success();
    io("write -P 7 1M 200k");
    io("write -z 2M 64k");
    assert_eq!(marked(folder, &uri), [16, 17, 18, 19, 32]);
    let backup = || {
        let options = ["backup", "--bitmap", "nightly", "--data-file", &uri, "vm.qbm", "points"];
        ours(folder, &options).success();
    };
    backup();
    io("write -P 9 5M 1k");
    assert_eq!(marked(folder, &uri), [80]);
    backup();
    ours(folder, &["restore", "points", "restored.raw"]).success();
    qemu_img(&["compare", "-f", "raw", "-F", "raw", "restored.raw", &uri]).success();
    let reads = ["-f", "raw", "-r", "-c", "read -P 7 1M 200k", "-c", "read -P 9 5M 1k"];
    run(tool("qemu-io").current_dir(folder).args(reads).arg("restored.raw")).success();
}

/// Bad inputs, 44: a descriptor opens no connection by itself, and does so where the operator allows it.
#[test]
fn a_descriptor_alone_opens_no_connection() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let server = Server::nbdkit(folder, &["memory", "1M"]);
    make_image(folder, &server);
    let uri = server.uri();
    let read = ["io", "-c", "read 0 4k", "vm.qbm"];
    let refused = ours(folder, &read).code(1);
    assert!(
        refused.stderr.contains("a descriptor alone opens no connection"),
        "{}",
        refused.stderr
    );
    let other = format!("{uri}x");
    ours(folder, &[&["io", "--allow-path", &other][..], &read[1..]].concat()).code(1);
    ours(folder, &[&["io", "--allow-path", &uri][..], &read[1..]].concat()).success();
    let allowed = folder.join("config/qbm/allow");
    fs::create_dir_all(allowed.parent().unwrap()).unwrap();
    fs::write(&allowed, format!("# The disk of this machine\n{uri}\n")).unwrap();
    let config = folder.join("config");
    run(qbm().current_dir(folder).env("XDG_CONFIG_HOME", config).args(read)).success();
}

/// Ours is killed in the middle of writes: what has reached the server is marked.
#[test]
fn a_kill_of_ours_loses_no_mark() {
    const SIZE: u64 = 16 << 20;
    rounds(4, |seed| {
        let mut random = seed.random();
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::File::create(folder.join("disk")).unwrap().set_len(SIZE).unwrap();
        let server = Server::nbdkit(folder, &["file", "disk"]);
        make_image(folder, &server);
        let uri = server.uri();
        let served = Served::start(folder, &["--data-file", &uri, "vm.qbm"]);
        let mut writer = tool("qemu-io");
        writer.current_dir(folder).args(["-f", "raw", served.uri()]);
        for _ in 0..100 {
            let length = random.u64(1..100_000);
            let start = random.u64(0..SIZE - length);
            writer.args(["-c", &format!("aio_write -P 7 {start} {length}")]);
        }
        let mut writer = writer.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let changed = || -> Vec<u64> {
            let disk = fs::read(folder.join("disk")).unwrap();
            let granules = (0..).zip(disk.chunks(usize::try_from(GRANULE).unwrap()));
            granules.filter(|(_, bytes)| bytes.contains(&7)).map(|(number, _)| number).collect()
        };
        let enough = random.usize(1..60);
        while changed().len() < enough {
            std::thread::yield_now();
        }
        served.kill();
        // Its connection is gone, and whether it counts that as a failure is its affair.
        let _status = writer.wait().unwrap();
        let (changed, marked) = (changed(), marked(folder, &uri));
        assert!(changed.iter().all(|granule| marked.contains(granule)), "{changed:?} {marked:?}");
        // And it goes on from there.
        let io = ["io", "-c", "write -P 8 0 4k", "--data-file", &uri, "vm.qbm"];
        ours(folder, &io).success();
    });
}

/// The server is killed with writes that were not flushed: clients get errors from then on, and the next
/// open takes nothing for granted. With none it is started anew, and nobody notices.
#[test]
fn a_kill_of_the_server_is_survived_or_told() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("disk"), vec![0; 4 << 20]).unwrap();
    let mut server = Server::nbdkit(folder, &["file", "disk"]);
    make_image(folder, &server);
    let uri = server.uri();
    let served = Served::start(folder, &["--data-file", &uri, "vm.qbm"]);
    let io = |commands: &[&str]| {
        let commands = commands.iter().flat_map(|command| ["-c", command]);
        run(tool("nbdsh")
            .env("PATH", "/usr/bin:/bin")
            .current_dir(folder)
            .args(["-u", served.uri()])
            .args(commands))
    };
    io(&["h.pwrite(b'a' * 4096, 0)", "h.flush()"]).success();
    server.kill();
    server = Server::nbdkit(folder, &["file", "disk"]);
    io(&["assert h.pread(4096, 0) == b'a' * 4096", "h.pwrite(b'b' * 4096, 0)"]).success();
    server.kill();
    server = Server::nbdkit(folder, &["file", "disk"]);
    let error = io(&["h.flush()"]).code(1).stderr;
    assert!(error.contains("Input/output error"), "{error}");
    io(&["h.pread(4096, 0)"]).code(1);
    let (status, complaints) = served.stop();
    assert!(!status.success(), "it could not be closed cleanly: {complaints}");
    let told = ours(folder, &["info", "--data-file", &uri, "--output", "json", "vm.qbm"]).success();
    let told = told.json();
    let data = &told["format-specific"]["data"];
    ours(folder, &["io", "-c", "read 0 4k", "--data-file", &uri, "vm.qbm"]).success();
    let expected: Vec<u64> = (0..64).collect();
    assert_eq!(marked(folder, &uri), expected, "a failed flush makes everything doubtful: {data}");
    drop(server);
}
