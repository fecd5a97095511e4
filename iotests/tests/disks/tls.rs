//! Disks that are reached through TLS.

use std::fs::File;
use std::path::Path;

use iotests::{Finished, Served, make_certificates, qbm, run};

use super::servers::Server;

fn ours(folder: &Path, arguments: &[&str]) -> Finished {
    run(qbm().current_dir(folder).args(arguments))
}

/// That an image over the disk at `uri` is written and read.
#[track_caller]
fn is_used(folder: &Path, uri: &str, image: &str) {
    ours(folder, &["create", "--data-file", uri, image]).success();
    let io = |command: &str| ours(folder, &["io", "-c", command, "--data-file", uri, image]);
    io("write -P 7 60k 300k").success();
    io("read -P 7 60k 300k").success();
}

#[test]
fn a_disk_is_reached_through_tls_and_only_where_the_server_is_who_it_should_be() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    make_certificates(folder);
    let pki = folder.join("pki");
    File::create(folder.join("disk.raw")).unwrap().set_len(1 << 20).unwrap();

    let creds =
        format!("tls-creds-x509,id=tls,endpoint=server,verify-peer=yes,dir={}", pki.display());
    let tls = ["--object", &creds, "--tls-creds", "tls"];
    let raw = ["--format=raw", "disk.raw"];
    let server = Server::qemu_nbd(folder, &[&tls[..], &raw].concat());
    is_used(folder, &server.secret_uri(&pki), "qemu.qbm");
    drop(server);

    let certificates = format!("--tls-certificates={}", pki.display());
    let tls = ["--tls=require", &certificates, "--tls-verify-peer"];
    let server = Server::nbdkit(folder, &[&tls[..], &["memory", "1M"]].concat());
    let uri = server.secret_uri(&pki);
    is_used(folder, &uri, "nbdkit.qbm");
    for (uri, why) in [
        (server.uri(), "TLS is required"),
        (format!("{uri}&tls-hostname=elsewhere"), "certificate not valid for name"),
        (server.secret_uri(folder), "ca-cert.pem: No such file"),
    ] {
        let refused = ours(folder, &["create", "--data-file", &uri, "other.qbm"]).code(1);
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
    }
    drop(server);

    // Our own, on a port.
    ours(folder, &["create", "--data-file", "disk.raw", "vm.qbm"]).success();
    let mut command = qbm();
    command.current_dir(folder).args(["serve", "--port", "0", "--tls-certificates", "pki"]);
    let served = Served::spawn(command.arg("vm.qbm"), 1);
    let port = served.uri().replace("127.0.0.1", "localhost");
    is_used(folder, &format!("{port}?tls-certificates={}", pki.display()), "ours.qbm");
    assert!(served.stop().0.success());
}
