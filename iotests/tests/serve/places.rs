//! Where clients connect, how the server ends, and what it says of itself.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use iotests::{Served, folder_with_image, qbm, tool};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use super::{MIB, in_folder, nbdsh, ours, qemu_io};

/// A Unix socket and a TCP port at once; both are gone afterwards, and the image is closed cleanly.
#[test]
fn a_socket_and_a_port_serve_the_same_disk() {
    for signal in [Signal::TERM, Signal::INT] {
        let folder = folder_with_image(MIB);
        let folder = folder.path();
        let mut command = qbm();
        command.current_dir(folder).args(["serve", "--socket", "a b.sock", "--port", "0"]);
        let served = Served::spawn(command.args(["--pid-file", "pid", "vm.qbm"]), 2);
        let uris = served.uris().to_vec();
        assert_eq!(uris[0], "nbd+unix:///?socket=a%20b.sock");
        assert!(uris[1].starts_with("nbd://127.0.0.1:"), "{uris:?}");
        qemu_io(folder, &uris[0], &["write -P 7 0 4k"]);
        qemu_io(folder, &uris[1], &["read -P 7 0 4k"]);
        let pid = fs::read_to_string(folder.join("pid")).unwrap();
        assert!(fs::exists(format!("/proc/{}", pid.trim())).unwrap());
        // A client that has connected and waits does not hold it up.
        let _idle = UnixStream::connect(folder.join("a b.sock")).unwrap();
        let begun = Instant::now();
        served.signal(signal);
        let (status, complaints) = served.wait();
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert!(status.success() && complaints.is_empty(), "{status} {complaints}");
        assert!(!folder.join("a b.sock").exists() && !folder.join("pid").exists());
        let info = ours(folder, &["info", "--output", "json", "vm.qbm"]).success().stdout;
        assert!(!info.contains("in-use"), "{info}");
        let descriptor = fs::read_to_string(folder.join("vm.qbm")).unwrap();
        assert!(!descriptor.contains("ext-hard-"), "closed cleanly: {descriptor}");
    }
}

/// When the command returns, clients can connect; the server is nobody's child, and stops as ever.
#[test]
fn a_server_in_the_background_serves_when_the_command_returns() {
    let folder = folder_with_image(MIB);
    let folder = folder.path();
    let arguments =
        ["serve", "--fork", "--pid-file", "pid", "--socket", "s", "-x=--fork", "vm.qbm"];
    let told = ours(folder, &arguments).success();
    assert_eq!(
        (told.stdout.as_str(), told.stderr.as_str()),
        ("serving nbd+unix:///--fork?socket=s\n", "")
    );
    qemu_io(folder, "nbd+unix:///?socket=s", &["write -P 7 0 4k", "read -P 7 0 4k"]);
    let pid = fs::read_to_string(folder.join("pid")).unwrap();
    let process = format!("/proc/{}", pid.trim());
    let status = fs::read_to_string(format!("{process}/stat")).unwrap();
    let fields: Vec<_> = status.rsplit_once(')').unwrap().1.split_whitespace().collect();
    assert_eq!(fields[3], pid.trim(), "it leads a session of its own");
    in_folder(folder, "kill", &[pid.trim()]).success();
    // Whoever has inherited it may not have looked at how it ended.
    let runs =
        || fs::read_to_string(format!("{process}/stat")).is_ok_and(|it| !it.contains(") Z "));
    let begun = Instant::now();
    while runs() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it does not end");
        std::thread::yield_now();
    }
    assert!(!folder.join("s").exists());
    let descriptor = fs::read_to_string(folder.join("vm.qbm")).unwrap();
    assert!(!descriptor.contains("ext-hard-"), "closed cleanly: {descriptor}");
    let refused =
        ours(folder, &["serve", "--socket", "s", "vm.qbm", "--fork", "-B", "none"]).code(1);
    assert!(refused.stderr.contains("'none' not found"), "{}", refused.stderr);
}

/// A socket from systemd is served, without any on the command line.
#[test]
fn sockets_that_are_handed_over_are_served() {
    let folder = folder_with_image(MIB);
    let folder = folder.path();
    let handed = UnixListener::bind(folder.join("handed.sock")).unwrap();
    // The shell moves the socket to where systemd puts it.
    let script = "exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";
    let mut command = tool("sh");
    command.args(["-c", script, "sh"]).arg(qbm().get_program());
    command.current_dir(folder).args(["serve", "vm.qbm"]).stdin(Stdio::from(OwnedFd::from(handed)));
    let served = Served::spawn(&mut command, 1);
    qemu_io(folder, "nbd+unix:///?socket=handed.sock", &["write -P 7 0 4k", "read -P 7 0 4k"]);
    assert!(served.stop().0.success());
    assert!(folder.join("handed.sock").exists(), "it is not ours to remove");
}

#[test]
fn statistics_are_told_when_they_are_asked_for() {
    let folder = folder_with_image(MIB);
    let folder = folder.path();
    let served = Served::start(folder, &["vm.qbm"]);
    qemu_io(folder, served.uri(), &["write 0 64k", "write 0 64k", "read 0 4k"]);
    served.signal(Signal::USR1);
    let (status, told) = served.stop();
    assert!(status.success());
    let count = |what: &str| {
        let line = told.lines().find(|line| line.starts_with(what));
        line.and_then(|line| line.split_whitespace().last()).map(str::to_owned)
    };
    assert_eq!(count("bytes read").as_deref(), Some("4096"), "{told}");
    assert_eq!(count("bytes of these").as_deref(), Some("131072"), "{told}");
    assert_eq!(count("connections ended by a bug").as_deref(), Some("0"), "{told}");
}

/// A killed server leaves its socket; the next one takes it. A socket in use is not taken.
#[test]
fn an_abandoned_socket_is_taken_and_no_other() {
    let folder = folder_with_image(MIB);
    let folder = folder.path();
    Served::start(folder, &["vm.qbm"]).kill();
    assert!(folder.join("qbm.sock").exists());
    let served = Served::start(folder, &["vm.qbm"]);
    ours(folder, &["create", "other.qbm", "1M"]).success();
    let refused = ours(folder, &["serve", "--socket", "qbm.sock", "other.qbm"]).code(1);
    assert!(refused.stderr.contains("qbm.sock"), "{}", refused.stderr);
    qemu_io(folder, served.uri(), &["read 0 4k"]);
    fs::write(folder.join("file"), "precious").unwrap();
    ours(folder, &["serve", "--socket", "file", "other.qbm"]).code(1);
    assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), "precious");
}

#[test]
fn what_cannot_be_served_is_told_in_a_line() {
    let folder = folder_with_image(MIB);
    let folder = folder.path();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = port.local_addr().unwrap().port().to_string();
    let long = "n".repeat(4097);
    for (arguments, expected) in [
        (&["vm.qbm"][..], "give --socket PATH or --port N"),
        (&["--socket", "s", "-B", "none", "vm.qbm"], "Dirty bitmap 'none' not found"),
        (&["--socket", "s", "none.qbm"], "none.qbm"),
        (&["--socket", "no/such/folder", "vm.qbm"], "no/such/folder"),
        (&["--port", &port, "vm.qbm"], &port),
        (&["--port", "0", "--bind", "192.0.2.1", "vm.qbm"], "192.0.2.1"),
        (&["--socket", "s", "--bind", "::1", "vm.qbm"], "--port"),
        (&["--socket", "s", "-e", "0", "vm.qbm"], "from 1 to 4096"),
        (&["--socket", "s", "-x", &long, "vm.qbm"], "longer than 4096 bytes"),
    ] {
        let arguments = [&["serve"], arguments].concat();
        let refused = ours(folder, &arguments).code(1);
        assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
        assert!(refused.stderr.contains(expected), "{arguments:?}: {}", refused.stderr);
        assert!(!folder.join("s").exists(), "it cleans up");
    }
    let served = Served::start(folder, &["vm.qbm"]);
    let refused = ours(folder, &["serve", "--socket", "s", "vm.qbm"]).code(1);
    assert!(refused.stderr.contains("lock"), "{}", refused.stderr);
    drop(served);
}

#[test]
fn more_clients_than_allowed_are_refused() {
    const SCRIPT: &str = r#"
import subprocess
h.connect_uri(uri)
info = ["nbdinfo", "--size", uri]
print(subprocess.run(info, capture_output=True).returncode)
h.shutdown()
print(subprocess.run(info, capture_output=True).returncode)
"#;
    let folder = folder_with_image(MIB);
    let served = Served::start(folder.path(), &["--max-connections", "1", "vm.qbm"]);
    assert_eq!(nbdsh(folder.path(), served.uri(), SCRIPT).stdout, "1\n0\n");
}

/// Opens `count` sockets that say nothing, sees that `nbdinfo` is answered `within` that time, and
/// stops the server.
fn serve_beside_stalled(folder: &Path, served: Served, count: usize, within: Duration) {
    let connect = |_| UnixStream::connect(folder.join("qbm.sock")).unwrap();
    let stalled: Vec<_> = (0..count).map(connect).collect();
    let begun = Instant::now();
    in_folder(folder, "nbdinfo", &["--size", served.uri()]).success();
    assert!(begun.elapsed() < within, "{:?}", begun.elapsed());
    assert_eq!(stalled.len(), count);
    assert!(served.stop().0.success());
}

/// 1,000 sockets that say nothing: `nbdinfo` is answered within a second.
#[test]
fn a_thousand_stalled_clients_do_not_keep_an_honest_one_from_being_served() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let folder = folder_with_image(MIB);
    let folder = folder.path();
    let served = Served::start(folder, &["vm.qbm"]);
    serve_beside_stalled(folder, served, 1000, Duration::from_secs(1));
}

/// There are more clients than file descriptors: the oldest that say nothing have to go.
#[test]
fn a_server_without_file_descriptors_serves_an_honest_client() {
    let folder = folder_with_image(MIB);
    let folder = folder.path();
    let mut command = tool("sh");
    command.args(["-c", "ulimit -n 24; exec \"$@\"", "sh"]).arg(qbm().get_program());
    command.current_dir(folder).args(["serve", "--socket", "qbm.sock", "vm.qbm"]);
    let served = Served::spawn(&mut command, 1);
    serve_beside_stalled(folder, served, 50, Duration::from_secs(5));
}
