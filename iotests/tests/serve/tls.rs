//! TLS with the clients that people use.

use std::fs;

use iotests::{Served, folder_with_image, make_certificates, qbm};

use super::{MIB, in_folder, marked, ours};

/// QEMU's options for a client on the socket, with the certificates in `pki`.
fn qemu_options<'a>(pki: &'a str, command: &'a str) -> Vec<&'a str> {
    let image =
        "driver=nbd,server.type=unix,server.path=qbm.sock,tls-creds=tls,tls-hostname=localhost";
    vec!["--object", pki, "--image-opts", image, "-c", command]
}

#[test]
fn clients_speak_tls_over_sockets_and_ports() {
    let folder = folder_with_image(64 * MIB);
    let folder = folder.path();
    make_certificates(folder);
    let mut command = qbm();
    command.current_dir(folder).args(["serve", "--socket", "qbm.sock", "--port", "0"]);
    let served = Served::spawn(command.args(["--tls-certificates", "pki", "vm.qbm"]), 2);
    let pki = "tls-creds-x509,id=tls,endpoint=client,dir=pki";
    let io = in_folder(folder, "qemu-io", &qemu_options(pki, "write -P 5 5M 20M"));
    assert!(io.success().stdout.contains("wrote 20971520/20971520"));
    let with = format!("tls-certificates={}/pki&tls-hostname=localhost", folder.display());
    // The name that the server's certificate has.
    let port = served.uris()[1].replace("127.0.0.1", "localhost");
    let uris = [format!("{}&{with}", served.uris()[0]), format!("{port}?{with}")];
    for uri in &uris {
        let told = in_folder(folder, "nbdinfo", &["--json", uri]).success().json();
        assert_eq!((&told["protocol"], &told["TLS"]), (&"newstyle-fixed".into(), &true.into()));
        in_folder(folder, "nbdcopy", &["--connections=4", uri, "copy.raw"]).success();
        in_folder(folder, "cmp", &["vm.raw", "copy.raw"]).success();
    }
    // Without TLS, and without a certificate.
    let plain = format!("nbd+unix:///?socket={}/qbm.sock", folder.display());
    let refused = in_folder(folder, "qemu-img", &["info", &plain]).code(1);
    assert!(refused.stderr.contains("TLS negotiation required"), "{}", refused.stderr);
    in_folder(folder, "nbdinfo", &[&plain]).code(1);
    fs::remove_file(folder.join("pki/client-cert.pem")).unwrap();
    in_folder(folder, "qemu-io", &qemu_options(pki, "read 0 1M")).code(1);
    assert!(served.stop().0.success());
    let expected: Vec<_> = (80..400).collect();
    assert_eq!(marked(folder), expected);

    // Everybody, if it has to be.
    let everybody = ["--tls-certificates", "pki", "--tls-verify-peer", "off", "vm.qbm"];
    let served = Served::start(folder, &everybody);
    in_folder(folder, "qemu-io", &qemu_options(pki, "read -P 5 5M 20M")).success();
    drop(served);
    fs::remove_file(folder.join("pki/ca-cert.pem")).unwrap();
    let socket = ["serve", "--socket", "qbm.sock", "--tls-certificates", "pki", "vm.qbm"];
    let refused = ours(folder, &socket).code(1);
    assert_eq!(refused.stderr, "qbm: pki/ca-cert.pem: No such file or directory (os error 2)\n");
}
