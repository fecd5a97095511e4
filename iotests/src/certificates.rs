//! Certificates for both ends of TLS, as an operator makes them.

use std::fs;
use std::path::Path;

use crate::program::{run, tool};

/// Makes a certificate authority in `folder`, and in its subfolder `pki` what a server and a client need
/// of it.
///
/// # Panics
///
/// If they cannot be made.
pub fn make_certificates(folder: &Path) {
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("a file");
    fs::create_dir(folder.join("pki")).expect("a folder");
    let certtool =
        |arguments: &[&str]| run(tool("certtool").current_dir(folder).args(arguments)).success();
    // QEMU wants keys that may encipher others, which of these only those of RSA may.
    let key = |kind: &str, name: &str| {
        certtool(&["--generate-privkey", "--key-type", kind, "--outfile", name]);
    };
    key("ed25519", "ca-key.pem");
    write("ca", "cn = authority\nca\ncert_signing_key\nexpiration_days = 2\n");
    let sign = ["--generate-self-signed", "--load-privkey", "ca-key.pem", "--template", "ca"];
    certtool(&[&sign[..], &["--outfile", "pki/ca-cert.pem"]].concat());
    for end in ["server", "client"] {
        let file = format!("pki/{end}-key.pem");
        key("rsa", &file);
        let usage = format!("signing_key\nencryption_key\ntls_www_{end}\n");
        let template = format!("cn = {end}\ndns_name = localhost\n{usage}expiration_days = 2\n");
        write(end, &template);
        let sign = ["--generate-certificate", "--load-privkey", &file, "--template", end];
        let by = ["--load-ca-certificate", "pki/ca-cert.pem", "--load-ca-privkey", "ca-key.pem"];
        let certificate = format!("pki/{end}-cert.pem");
        certtool(&[&sign[..], &by, &["--outfile", &certificate]].concat());
    }
}
