//! "TLS support": what counts before, at and after the switch, and who may come.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use qbm_nbd::{Clients, Limits, Server, Tls};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa,
    KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::client::{
    Ask, Client, FIXED, NO_ZEROES, NONE, cmd, export_request, meta_request, opt, option_header, rep,
};
use super::memory::{MemoryDisk, SIZE};
use super::stopping::Listening;

type Secret = StreamOwned<ClientConnection, UnixStream>;

/// A certificate authority, and the folder of a server that it vouches for.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub(crate) folder: tempfile::TempDir,
}

/// A certificate and its key.
pub(crate) struct Identity {
    pub(crate) certificate: rcgen::Certificate,
    pub(crate) key: KeyPair,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let authority = Self { issuer, folder };
        let server = authority.vouch("localhost", 1);
        authority.put("ca-cert.pem", &authority.issuer.pem());
        authority.put("server-cert.pem", &server.certificate.pem());
        authority.put("server-key.pem", &server.key.serialize_pem());
        authority
    }

    pub(crate) fn put(&self, name: &str, contents: &str) {
        fs::write(self.folder.path().join(name), contents).unwrap();
    }

    pub(crate) fn vouch(&self, name: &str, serial: u64) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        Identity { certificate: params.signed_by(&key, &self.issuer).unwrap(), key }
    }

    pub(crate) fn revoke(&self, serial: u64) {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: date_time_ymd(2021, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        self.put("ca-crl.pem", &list.signed_by(&self.issuer).unwrap().pem().unwrap());
    }

    fn tls(&self, clients: Clients) -> Tls {
        Tls::from_folder(self.folder.path(), clients).unwrap()
    }

    pub(crate) fn server(&self, clients: Clients) -> (Arc<MemoryDisk>, Arc<Server>) {
        let disk = MemoryDisk::new();
        let server = disk.server_with(self.tls(clients), Limits::default());
        (disk, server)
    }

    /// A client that trusts this authority, and is who `identity` says.
    fn client(&self, identity: Option<&Identity>, stream: UnixStream) -> Secret {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                config.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
        };
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        StreamOwned::new(session, stream)
    }
}

/// The options that are answered, all but the one to begin TLS and the one to go.
const OPTIONS: [u32; 8] = [
    opt::LIST,
    opt::INFO,
    opt::GO,
    opt::STRUCTURED_REPLY,
    opt::LIST_META_CONTEXT,
    opt::SET_META_CONTEXT,
    opt::EXTENDED_HEADERS,
    4711,
];

/// Up to the reply to STARTTLS, and then TLS.
fn secured(
    mut client: Client,
    authority: &Authority,
    identity: Option<&Identity>,
) -> Client<Secret> {
    assert_eq!(client.ask_option(opt::STARTTLS, b""), (rep::ACK, vec![]));
    client.over_its_stream(|stream| authority.client(identity, stream))
}

/// A client whose handshake is not accepted: it hears so before it hears anything of NBD.
#[track_caller]
fn assert_not_let_in(mut client: Client<Secret>) {
    let Secret { conn, sock } = &mut client.stream;
    while conn.is_handshaking() {
        if conn.complete_io(sock).is_err() {
            return;
        }
    }
    // In TLS 1.3 a client is done before the server has looked at its certificate. It asks for nothing: the
    // server may have hung up by now.
    let error = loop {
        assert!(conn.read_tls(sock).unwrap() > 0, "it was let in");
        if let Err(error) = conn.process_new_packets() {
            break error;
        }
    };
    assert!(error.to_string().contains("alert"), "{error}");
}

#[test]
fn before_tls_nothing_else_is_honoured() {
    let authority = Authority::new();
    let (_disk, server) = authority.server(Clients::Anybody);
    let mut client = Client::greeted(&server);
    for option in OPTIONS {
        for data in [vec![], b"x".to_vec(), export_request("disk", &[]), vec![0; 100_000]] {
            let (reply, why) = client.ask_option(option, &data);
            assert_eq!((reply, why.is_empty()), (rep::ERR_TLS_REQD, false), "option {option}");
        }
    }
    assert_eq!(client.ask_option(opt::ABORT, b""), (rep::ACK, vec![]));
    client.hung_up();
}

/// Bad inputs, 64.
#[test]
fn export_name_before_tls_is_hung_up_on() {
    let authority = Authority::new();
    let (_disk, server) = authority.server(Clients::Anybody);
    for flags in [FIXED | NO_ZEROES, 0] {
        let mut client = Client::connect(&server);
        client.greet(flags);
        client.option(opt::EXPORT_NAME, b"disk");
        client.hung_up();
    }
    assert_eq!(server.statistics().serving.get(), 0);
}

#[test]
fn all_goes_on_inside_tls() {
    let authority = Authority::new();
    let (disk, server) = authority.server(Clients::Anybody);
    disk.fill(1 << 20, &[5; 3 << 20]);
    let mut client = secured(Client::greeted(&server), &authority, None);
    assert_eq!(client.ask_option(opt::STRUCTURED_REPLY, b""), (rep::ACK, vec![]));
    client.option(opt::SET_META_CONTEXT, &meta_request("", &["qemu:dirty-bitmap:b1"]));
    assert_eq!(client.option_reply(opt::SET_META_CONTEXT).0, rep::META_CONTEXT);
    assert_eq!(client.option_reply(opt::SET_META_CONTEXT).0, rep::ACK);
    assert_eq!(client.go("disk").0, SIZE);
    // More than any buffer on the way has room for, in both directions.
    client.send(&Ask::new(cmd::WRITE, 5 << 20, 8 << 20).compact());
    client.send(&vec![9; 8 << 20]);
    assert_eq!(client.chunk().kind, NONE);
    assert_eq!(disk.contents(5 << 20, 8 << 20), vec![9; 8 << 20]);
    client.send(&Ask::new(cmd::READ, 0, 16 << 20).compact());
    let mut read = 0;
    while {
        let chunk = client.chunk();
        read += chunk.payload.len();
        chunk.flags == 0
    } {}
    assert!(read > 11 << 20, "{read} bytes");
    client.send(&Ask::new(cmd::BLOCK_STATUS, 0, SIZE).compact());
    assert!(client.chunk().payload.len() > 4);
    client.send(&Ask::new(cmd::DISC, 0, 0).compact());
    // A clean end of TLS, not only of the connection.
    assert_eq!(client.stream.read(&mut [0]).unwrap(), 0);
    client.hung_up();
}

/// CVE-2021-3716: what anybody has put before the switch is not there after it.
#[test]
fn nothing_of_before_is_kept_after_the_switch() {
    let authority = Authority::new();
    let (_disk, server) = authority.server(Clients::Anybody);
    let mut client = Client::greeted(&server);
    for option in [opt::STRUCTURED_REPLY, opt::EXTENDED_HEADERS] {
        assert_eq!(client.ask_option(option, b"").0, rep::ERR_TLS_REQD);
    }
    let mut client = secured(client, &authority, None);
    client.refused(opt::SET_META_CONTEXT, &meta_request("", &[]), rep::ERR_INVALID);
    client.refused(opt::STARTTLS, b"", rep::ERR_INVALID);
    assert_eq!(client.go("").1 & 1 << 7, 0, "no structured replies, hence no DF");
    client.disconnect();
}

/// Bad inputs, 63: plain bytes after STARTTLS, with it in one piece, or before TLS begins.
#[test]
fn plain_bytes_after_starttls_are_hung_up_on() {
    let authority = Authority::new();
    let (_disk, server) = authority.server(Clients::Anybody);
    let start = option_header(opt::STARTTLS, 0);
    let list = option_header(opt::LIST, 0);
    let mut client = Client::greeted(&server);
    client.send(&[start.clone(), list.clone()].concat());
    client.hung_up();
    let mut client = Client::greeted(&server);
    client.send(&start);
    assert_eq!(client.option_reply(opt::STARTTLS), (rep::ACK, vec![]));
    client.send(&list);
    // An alert of TLS, and no reply to the option.
    let mut said = Vec::new();
    client.stream.read_to_end(&mut said).unwrap();
    assert_eq!((said[0], said.len()), (21, 7), "{said:?}");
    client.hung_up();
}

#[test]
fn starttls_takes_no_data() {
    let authority = Authority::new();
    let (_disk, server) = authority.server(Clients::Anybody);
    let mut client = Client::greeted(&server);
    assert_eq!(client.ask_option(opt::STARTTLS, b"x").0, rep::ERR_INVALID);
    secured(client, &authority, None).go("");
}

#[test]
fn clients_come_in_by_the_right_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    let guest = authority.vouch("guest", 7);
    let stranger = other.vouch("guest", 7);
    let lost = authority.vouch("lost", 8);
    authority.revoke(8);
    let (_disk, server) = authority.server(Clients::Verified);
    secured(Client::greeted(&server), &authority, Some(&guest)).go("");
    for identity in [None, Some(&stranger), Some(&lost)] {
        assert_not_let_in(secured(Client::greeted(&server), &authority, identity));
    }
    let (_disk, server) = authority.server(Clients::Anybody);
    secured(Client::greeted(&server), &authority, Some(&stranger)).go("");
}

/// The time for a handshake is one for both, and ends one that has stopped anywhere.
#[test]
fn a_slow_tls_handshake_is_cut_off() {
    let authority = Authority::new();
    let disk = MemoryDisk::new();
    let limits = Limits { handshake: Duration::from_millis(100), ..Limits::default() };
    let server = disk.server_with(authority.tls(Clients::Anybody), limits);
    let listening = Listening::of(disk, server);
    for sent in [&[][..], &[22, 3, 1], &[22, 3, 1, 2, 0, 1, 0, 1]] {
        let mut client = Client::over(UnixStream::connect(&listening.socket).unwrap());
        client.greet(FIXED | NO_ZEROES);
        assert_eq!(client.ask_option(opt::STARTTLS, b""), (rep::ACK, vec![]));
        client.send(sent);
        client.hung_up();
    }
    assert_eq!(listening.server.statistics().evicted.get(), 3);
}

/// A reply that the client does not read yet keeps nobody from receiving its next request.
#[test]
fn a_client_that_reads_late_is_heard_inside_tls() {
    let authority = Authority::new();
    let (disk, server) = authority.server(Clients::Anybody);
    let mut client = secured(Client::greeted(&server), &authority, None);
    client.go("disk");
    let (read, write) = (Ask::new(cmd::READ, 0, 8 << 20), Ask::new(cmd::WRITE, 9 << 20, 1 << 20));
    client.send(&read.compact());
    assert_eq!(client.simple_reply(&read), 0);
    client.send(&write.compact());
    client.send(&[3; 1 << 20]);
    let sent = Instant::now();
    while disk.contents(9 << 20, 1 << 20) != [3; 1 << 20] {
        assert!(sent.elapsed() < Duration::from_secs(10), "the write was not received");
        thread::yield_now();
    }
    client.take(8 << 20);
    assert_eq!(client.simple_reply(&write), 0);
    client.disconnect();
}

#[test]
fn a_folder_that_lacks_something_is_told() {
    let authority = Authority::new();
    let told = |clients| {
        let error = Tls::from_folder(authority.folder.path(), clients).unwrap_err().to_string();
        error.split_once(&format!("{}/", authority.folder.path().display())).unwrap().1.to_owned()
    };
    fs::write(authority.folder.path().join("ca-crl.pem"), "what?").unwrap();
    assert_eq!(told(Clients::Verified), "ca-crl.pem: there is nothing of its kind in it");
    fs::remove_file(authority.folder.path().join("ca-cert.pem")).unwrap();
    assert_eq!(told(Clients::Verified), "ca-cert.pem: No such file or directory (os error 2)");
    authority.tls(Clients::Anybody);
    let other = KeyPair::generate().unwrap().serialize_pem();
    fs::write(authority.folder.path().join("server-key.pem"), other).unwrap();
    assert_eq!(told(Clients::Anybody), "server-cert.pem: keys may not be consistent: KeyMismatch");
    let odd = "-----BEGIN EC PRIVATE KEY-----\nMAA=\n-----END EC PRIVATE KEY-----\n";
    fs::write(authority.folder.path().join("server-key.pem"), odd).unwrap();
    assert!(told(Clients::Anybody).starts_with("server-key.pem: it is not an RSA, ECDSA or"));
    fs::write(authority.folder.path().join("server-cert.pem"), "-----BEGIN").unwrap();
    assert!(told(Clients::Anybody).starts_with("server-cert.pem: "));
}
