//! Every client sees the disk that was written, and what it can do.

use std::fs;

use iotests::{Served, folder_with_image};
use serde_json::json;

use super::{MIB, in_folder, marked, nbdsh, ours, qemu_io};

/// `qemu-io` writes in every way that it knows (over extended headers, with a QEMU that has them); the
/// file is what it makes of a plain one.
#[test]
fn what_qemu_io_writes_is_on_the_disk() {
    ["threads", "io_uring"].into_iter().for_each(write_by_qemu_io);
}

fn write_by_qemu_io(aio: &str) {
    let folder = folder_with_image(16 * MIB);
    let folder = folder.path();
    fs::File::create(folder.join("plain.raw")).unwrap().set_len(16 * MIB).unwrap();
    let commands = [
        "write -P 1 0 64k",
        "write -P 2 -f 1M 3k",
        "write -P 3 5000 7",
        "aio_write -P 4 2M 1M",
        "aio_write -P 5 3M 2M",
        "aio_flush",
        "write -z 2560k 1000k",
        "write -z -u 4M 64k",
        "write -z -n 4200k 64k",
        "discard 8M 1M",
        "writev -P 6 10M 4k 8k 512",
        "flush",
        "read -P 1 0 5000",
        "read -P 0 12M 4M",
    ];
    let served = Served::start(folder, &["--aio", aio, "vm.qbm"]);
    // The slow zeroes that `-n` asks for are refused, by both or by ours alone.
    let quick = commands.iter().filter(|command| !command.contains("-n")).copied();
    let quick: Vec<_> = quick.collect();
    qemu_io(folder, served.uri(), &quick);
    qemu_io(folder, "plain.raw", &quick);
    let (status, complaints) = served.stop();
    assert!(status.success() && complaints.is_empty(), "{status} {complaints}");
    in_folder(folder, "cmp", &["vm.raw", "plain.raw"]).success();
    let mib = |mib: u64| mib * 16..(mib + 1) * 16;
    let mut expected = vec![0, 16];
    expected.extend((2..5).chain(8..9).flat_map(mib));
    expected.push(160);
    assert_eq!(marked(folder), expected, "the granules written, and no others");
}

#[test]
fn nbdinfo_tells_what_the_export_can_do() {
    let folder = folder_with_image(16 * MIB);
    let folder = folder.path();
    let arguments = ["-B", "nightly", "-x", "vm", "-D", "a disk", "vm.qbm"];
    let served = Served::start(folder, &arguments);
    assert_eq!(served.uri(), "nbd+unix:///vm?socket=qbm.sock");
    let told = in_folder(folder, "nbdinfo", &["--json", served.uri()]).success().json();
    let export = &told["exports"][0];
    for (member, value) in [
        ("export-name", json!("vm")),
        ("description", json!("a disk")),
        ("export-size", json!(16 * MIB)),
        ("is_read_only", json!(false)),
        ("can_multi_conn", json!(true)),
        ("can_fua", json!(true)),
        ("can_df", json!(true)),
        ("can_cache", json!(true)),
        ("can_trim", json!(true)),
        ("can_zero", json!(true)),
        ("block_size_minimum", json!(1)),
        ("block_size_preferred", json!(4096)),
        ("block_size_maximum", json!(32 * MIB)),
        (
            "contexts",
            json!(["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:nightly"]),
        ),
    ] {
        assert_eq!(export[member], value, "{member}: {told}");
    }
    let list = in_folder(folder, "nbdinfo", &["--list", "--json", served.uri()]).success().json();
    assert_eq!(list["exports"].as_array().unwrap().len(), 1, "{list}");
    let socket = folder.join("qbm.sock");
    let arguments = ["--list", "-k", socket.to_str().unwrap()];
    let listed = in_folder(folder, "qemu-nbd", &arguments).success().stdout;
    for expected in
        ["'vm'", "description: a disk", "qemu:dirty-bitmap:nightly", "max block: 33554432"]
    {
        assert!(listed.contains(expected), "{expected:?} is not in: {listed}");
    }
}

#[test]
fn copies_are_the_disk() {
    let folder = folder_with_image(64 * MIB);
    let folder = folder.path();
    let served = Served::start(folder, &["vm.qbm"]);
    let uri = served.uri();
    qemu_io(folder, uri, &["write -P 1 0 1M", "write -P 2 30M 5M", "write -P 3 64511k 1k"]);
    // Several connections at once, as multi-conn allows.
    in_folder(folder, "nbdcopy", &["--connections=4", uri, "copy.raw"]).success();
    in_folder(folder, "cmp", &["vm.raw", "copy.raw"]).success();
    in_folder(folder, "qemu-img", &["compare", "-f", "raw", "-F", "raw", uri, "copy.raw"])
        .success();
    in_folder(folder, "qemu-img", &["convert", "-f", "raw", "-O", "raw", uri, "out.raw"]).success();
    in_folder(folder, "cmp", &["vm.raw", "out.raw"]).success();
    // And back, over what is there.
    in_folder(folder, "truncate", &["-s", "64M", "new.raw"]).success();
    qemu_io(folder, "new.raw", &["write -P 9 5M 2M"]);
    in_folder(folder, "nbdcopy", &["--connections=4", "--flush", "new.raw", uri]).success();
    in_folder(folder, "cmp", &["vm.raw", "new.raw"]).success();
    in_folder(folder, "qemu-img", &["convert", "-n", "-f", "raw", "-O", "raw", "copy.raw", uri])
        .success();
    in_folder(folder, "cmp", &["vm.raw", "copy.raw"]).success();
    in_folder(folder, "qemu-img", &["bench", "-w", "-f", "raw", "-c", "500", "-d", "32", uri])
        .success();
}

#[test]
fn libnbd_in_python_reads_writes_and_is_told_of_errors() {
    const SCRIPT: &str = r#"
h.add_meta_context("base:allocation")
h.connect_uri(uri)
assert h.get_structured_replies_negotiated()
h.pwrite(b"x" * 100000, 12345, nbd.CMD_FLAG_FUA)
assert h.pread(100002, 12344) == b"\0" + b"x" * 100000 + b"\0"
chunks = []
note = lambda data, offset, status, error: chunks.append((offset, len(data), status))
h.pread_structured(200000, 1 << 20, note)
assert [status for _, _, status in chunks] == [nbd.READ_HOLE], chunks
chunks.clear()
h.pread_structured(200000, 0, note, nbd.CMD_FLAG_DF)
assert chunks == [(0, 200000, nbd.READ_DATA)], chunks
h.zero(100, 12345, nbd.CMD_FLAG_NO_HOLE)
assert h.pread(101, 12345) == b"\0" * 100 + b"x"
h.zero(100, 12345, nbd.CMD_FLAG_FAST_ZERO)
assert h.pread(1, 12345) == b"\0"
h.cache(1 << 20, 0)
h.trim(65536, 65536)
h.flush()
h.set_strict_mode(0)
for call, errno in [
    (lambda: h.pread(1, h.get_size()), "EINVAL"),
    (lambda: h.pwrite(b"x", h.get_size()), "ENOSPC"),
    (lambda: h.pwrite(b"", 1 << 63), "ENOSPC"),
    (lambda: h.trim(2, h.get_size() - 1), "EINVAL"),
    (lambda: h.block_status(0, 0, lambda *_: 0), "EINVAL"),
    (lambda: h.flush(0x40), "EINVAL"),
]:
    try:
        call()
        assert False, errno
    except nbd.Error as error:
        assert error.errno == errno, error
many = [h.aio_pread(nbd.Buffer(4096), number * 4096) for number in range(64)]
while h.aio_in_flight() > 0:
    h.poll(-1)
assert all(h.aio_command_completed(cookie) for cookie in many)
h.shutdown()
print("all well")
"#;
    let folder = folder_with_image(16 * MIB);
    let served = Served::start(folder.path(), &["vm.qbm"]);
    assert_eq!(nbdsh(folder.path(), served.uri(), SCRIPT).stdout, "all well\n");
}

/// Zeroes that would have to be written are refused where fast ones are asked for, and nothing is marked.
#[test]
fn zeroes_that_are_not_fast_are_refused_and_mark_nothing() {
    const SCRIPT: &str = r#"
h.connect_uri(uri)
try:
    h.zero(1 << 20, 65536, nbd.CMD_FLAG_FAST_ZERO)
    assert False
except nbd.Error as error:
    assert error.errno == "ENOTSUP", error
h.pwrite(b"x" * 65536, 0)
h.zero(65536, 0, nbd.CMD_FLAG_FAST_ZERO)
assert h.pread(65536, 0) == b"\0" * 65536
"#;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // What is over another image has to have clusters before it can be zeroed.
    ours(folder, &["create", "base.qbm", "2M"]).success();
    ours(folder, &["create", "-b", "base.qbm", "-F", "qbm", "vm.qbm", "2M"]).success();
    ours(folder, &["bitmap", "--add", "vm.qbm", "nightly"]).success();
    let served = Served::start(folder, &["vm.qbm"]);
    nbdsh(folder, served.uri(), SCRIPT);
    assert!(served.stop().0.success());
    assert_eq!(marked(folder), [0]);
}

#[test]
fn a_read_only_export_is_not_written() {
    let folder = folder_with_image(MIB);
    let folder = folder.path();
    let served = Served::start(folder, &["--read-only", "-B", "nightly", "vm.qbm"]);
    let told = in_folder(folder, "nbdinfo", &["--json", served.uri()]).success().json();
    assert_eq!(told["exports"][0]["is_read_only"], true);
    // Others may read it too, and nobody may write it.
    ours(folder, &["info", "vm.qbm"]).success();
    in_folder(folder, "qemu-io", &["-f", "raw", "-c", "write 0 1k", served.uri()]).code(1);
    in_folder(folder, "qemu-io", &["-f", "raw", "-c", "write 0 1k", "vm.raw"]).code(1);
    assert!(served.stop().0.success());
    assert!(marked(folder).is_empty());
}
