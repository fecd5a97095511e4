//! TLS under the protocol: whom each end trusts, and as whom it speaks.

mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

pub(crate) use self::wire::TlsWire;

/// The certificate authority that the other end is checked by.
const AUTHORITY: &str = "ca-cert.pem";
/// What that authority has taken back; need not be there.
const REVOKED: &str = "ca-crl.pem";
/// The certificate of each end, with those between it and its authority, and its key.
const SERVER: [&str; 2] = ["server-cert.pem", "server-key.pem"];
const CLIENT: [&str; 2] = ["client-cert.pem", "client-key.pem"];

/// Who may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Those whose certificate is from the authority in `ca-cert.pem`, and not in `ca-crl.pem`.
    Verified,
    /// Everybody: what is said is secret, and with whom is not known.
    Anybody,
}

/// What a server needs to speak TLS. A server that has it speaks nothing else.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ServerConfig>,
}

/// Why a folder of certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", file.display())]
pub struct TlsError {
    /// The file concerned.
    pub file: PathBuf,
    /// What is the matter with it.
    pub what: String,
}

impl Tls {
    /// Reads the certificates in `folder`, by the names that QEMU and libvirt give them:
    /// `server-cert.pem`, `server-key.pem`, and for [`Clients::Verified`] also `ca-cert.pem` and, if
    /// it is there, `ca-crl.pem`.
    ///
    /// # Errors
    ///
    /// If one cannot be read, or they do not belong together.
    pub fn from_folder(folder: &Path, clients: Clients) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring has what TLS 1.2 and 1.3 need");
        let builder = match clients {
            Clients::Anybody => builder.with_no_client_auth(),
            Clients::Verified => {
                let roots = Arc::new(authorities(&folder.join(AUTHORITY))?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .with_crls(revoked(&folder.join(REVOKED))?)
                    // An authority between ours and the client need not have a list.
                    .allow_unknown_revocation_status();
                let verifier = verifier.build().map_err(trouble(&folder.join(AUTHORITY)))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let (chain, key) = identity(folder, SERVER)?;
        let config = builder.with_single_cert(chain, key);
        let mut config = config.map_err(trouble(&folder.join(SERVER[0])))?;
        // Disks stay connected for weeks: there is nothing to gain by resuming a session.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config) })
    }
}

/// What a client needs to speak TLS. It speaks to no server that does not.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    server: ServerName<'static>,
}

impl ClientTls {
    /// Reads the certificates in `folder`, by the names that QEMU and libvirt give them: `ca-cert.pem`,
    /// and if they are there, `ca-crl.pem`, and `client-cert.pem` with `client-key.pem`. The server has
    /// to have a certificate of the host `server`.
    ///
    /// # Errors
    ///
    /// If one cannot be read, they do not belong together, or `server` is not the name of a host.
    pub fn from_folder(folder: &Path, server: &str) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let authority = folder.join(AUTHORITY);
        let verifier = WebPkiServerVerifier::builder_with_provider(
            Arc::new(authorities(&authority)?),
            Arc::clone(&provider),
        );
        let verifier = verifier
            .with_crls(revoked(&folder.join(REVOKED))?)
            .allow_unknown_revocation_status()
            .build()
            .map_err(trouble(&authority))?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has what TLS 1.2 and 1.3 need")
            .with_webpki_verifier(verifier);
        let certificate = folder.join(CLIENT[0]);
        let mut config = match fs::exists(&certificate) {
            Ok(false) => builder.with_no_client_auth(),
            _ => {
                let (chain, key) = identity(folder, CLIENT)?;
                let config = builder.with_client_auth_cert(chain, key);
                config.map_err(trouble(&certificate))?
            }
        };
        config.resumption = Resumption::disabled();
        let server = ServerName::try_from(server.to_owned()).map_err(trouble(folder))?;
        Ok(Self { config: Arc::new(config), server })
    }
}

/// As whom an end speaks: its certificate and its key, in the files of `names`.
fn identity(
    folder: &Path,
    names: [&str; 2],
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let [certificate, key_file] = names.map(|name| folder.join(name));
    let chain = all::<CertificateDer<'_>>(&certificate)?;
    let key = PrivateKeyDer::from_pem_file(&key_file).map_err(unreadable(&key_file))?;
    if ring::sign::any_supported_type(&key).is_err() {
        // Half of the elliptic keys that certtool writes are among them.
        let what = "it is not an RSA, ECDSA or Ed25519 key, or not in the usual form; \
                    `openssl pkcs8 -topk8 -nocrypt` writes that form";
        return Err(TlsError { file: key_file, what: what.to_owned() });
    }
    Ok((chain, key))
}

fn authorities(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in all::<CertificateDer<'_>>(file)? {
        roots.add(certificate).map_err(trouble(file))?;
    }
    Ok(roots)
}

fn revoked(file: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    match fs::exists(file) {
        Ok(false) => Ok(Vec::new()),
        // A list that cannot be read must not be taken for an empty one.
        _ => all(file),
    }
}

/// All items of a kind in `file`, of which there is at least one.
fn all<T: PemObject>(file: &Path) -> Result<Vec<T>, TlsError> {
    let items = T::pem_file_iter(file).map_err(unreadable(file))?;
    let items: Vec<T> = items.collect::<Result<_, _>>().map_err(unreadable(file))?;
    if items.is_empty() {
        return Err(unreadable(file)(pem::Error::NoItemsFound));
    }
    Ok(items)
}

fn unreadable(file: &Path) -> impl Fn(pem::Error) -> TlsError {
    move |error| {
        let what = match error {
            pem::Error::Io(error) => error.to_string(),
            pem::Error::NoItemsFound => "there is nothing of its kind in it".to_owned(),
            error => format!("it is not PEM: {error:?}"),
        };
        TlsError { file: file.to_owned(), what }
    }
}

fn trouble<E: std::fmt::Display>(file: &Path) -> impl Fn(E) -> TlsError {
    move |error| TlsError { file: file.to_owned(), what: error.to_string() }
}
