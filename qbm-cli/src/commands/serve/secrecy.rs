//! Whether clients speak TLS, and which of them are let in.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use qbm_nbd::{Clients, Tls};

/// How strangers are kept out.
#[derive(Args, Debug)]
pub(super) struct Secrecy {
    /// Serve only those who speak TLS, with the certificates in DIR, named as QEMU has them:
    /// server-cert.pem, server-key.pem, ca-cert.pem and, if it is there, ca-crl.pem
    #[arg(long, value_name = "DIR")]
    tls_certificates: Option<PathBuf>,
    /// Serve only those who have a certificate from ca-cert.pem
    #[arg(long, value_enum, value_name = "ON|OFF", default_value = "on")]
    #[arg(requires = "tls_certificates", hide_possible_values = true)]
    tls_verify_peer: Switch,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Switch {
    On,
    Off,
}

impl Secrecy {
    /// The certificates; `None` if everybody is served.
    ///
    /// # Errors
    ///
    /// If they cannot be used.
    pub(super) fn read(&self) -> anyhow::Result<Option<Tls>> {
        let clients = match self.tls_verify_peer {
            Switch::On => Clients::Verified,
            Switch::Off => Clients::Anybody,
        };
        let read = |folder: &PathBuf| Ok(Tls::from_folder(folder, clients)?);
        self.tls_certificates.as_ref().map(read).transpose()
    }
}
