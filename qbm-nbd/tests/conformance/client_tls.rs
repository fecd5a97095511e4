//! TLS from our client's end: whom it trusts, and that it says nothing in the open.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_executor::block_on;
use qbm_core::{Access, Buffer, Persist, Storage};
use qbm_nbd::{Channel, ClientTls, Clients, NbdStorage, Origin, Patience, Server, Socket};

use super::client::{opt, rep};
use super::memory::{SIZE, served};
use super::tls::{Authority, Identity};

/// A connection to `server`.
fn dial(server: &Arc<Server>) -> io::Result<Box<dyn Channel>> {
    let (ours, theirs) = UnixStream::pair()?;
    let server = Arc::clone(server);
    thread::spawn(move || server.serve_wire(Box::new(Socket::Unix(theirs))));
    Ok(Box::new(Socket::Unix(ours)))
}

/// Connects to `server`, which has to have a certificate for `name` from `authority`.
fn connect(server: &Arc<Server>, authority: &Authority, name: &str) -> io::Result<NbdStorage> {
    let server = Arc::clone(server);
    let tls = ClientTls::from_folder(authority.folder.path(), name).unwrap();
    NbdStorage::open(Origin::by(move || dial(&server), "disk").with_tls(tls), Access::Write)
}

fn become_client(authority: &Authority, identity: &Identity) {
    authority.put("client-cert.pem", &identity.certificate.pem());
    authority.put("client-key.pem", &identity.key.serialize_pem());
}

#[test]
fn all_requests_go_through_tls() {
    let authority = Authority::new();
    become_client(&authority, &authority.vouch("client", 2));
    let (disk, server) = authority.server(Clients::Verified);
    let storage = connect(&server, &authority, "localhost").unwrap();
    assert_eq!(block_on(storage.len()).unwrap(), SIZE);
    // More than a record has, and more than once: the connection is found idle in between.
    let mut bytes = Buffer::zeroed(3 << 20);
    bytes.fill(7);
    let bytes = block_on(storage.write_at(512, bytes, Persist::Later)).unwrap();
    block_on(storage.sync()).unwrap();
    assert_eq!(disk.contents(512, bytes.len()), bytes[..]);
    let read = block_on(storage.read_at(512, Buffer::zeroed(bytes.len()))).unwrap();
    assert!(read[..] == bytes[..]);
}

#[test]
fn a_server_that_is_not_who_it_should_be_is_told_nothing() {
    let authority = Authority::new();
    let (_, server) = authority.server(Clients::Anybody);
    connect(&server, &authority, "localhost").unwrap();
    for (authority, name, why) in [
        (&authority, "elsewhere", "invalid peer certificate: certificate not valid for name"),
        (&Authority::new(), "localhost", "invalid peer certificate: "),
    ] {
        let error = connect(&server, authority, name).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    authority.revoke(1);
    let error = connect(&server, &authority, "localhost").unwrap_err();
    assert!(error.to_string().contains("Revoked"), "{error}");
}

#[test]
fn a_client_without_a_certificate_is_not_let_in() {
    let authority = Authority::new();
    let (_, server) = authority.server(Clients::Verified);
    let error = connect(&server, &authority, "localhost").unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
}

#[test]
fn a_server_without_tls_is_told_nothing() {
    let (_, server) = served();
    let error = connect(&server, &Authority::new(), "localhost").unwrap_err();
    let why = "there is no TLS: the server says: no such option: there is no TLS here";
    assert_eq!(error.to_string(), why);
}

/// And the other way round, nothing but that TLS is needed is learnt.
#[test]
fn a_server_that_wants_tls_says_so() {
    let (_, server) = Authority::new().server(Clients::Anybody);
    let origin = Origin::by(move || dial(&server), "disk");
    let error = NbdStorage::open(origin, Access::Write).unwrap_err();
    assert_eq!(error.to_string(), "the server says: TLS is required: TLS comes first");
}

/// What a client of a server says that answers STARTTLS by `answer`, and what becomes of the client.
fn after_starttls(answer: &'static [u8]) -> (Vec<u8>, io::Error) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let server = thread::spawn(move || {
        let mut ack = b"NBDMAGICIHAVEOPT\0\x03\0\x03\xe8\x89\x04\x55\x65\xa9".to_vec();
        ack.extend(opt::STARTTLS.to_be_bytes());
        ack.extend(rep::ACK.to_be_bytes());
        ack.extend([0; 4]);
        ack.extend(answer);
        theirs.write_all(&ack).unwrap();
        let mut heard = Vec::new();
        let _gone = theirs.read_to_end(&mut heard);
        heard
    });
    let tls = ClientTls::from_folder(Authority::new().folder.path(), "localhost").unwrap();
    let handshake = Duration::from_millis(100);
    let patience = Patience { handshake, absence: Duration::ZERO, ..Patience::default() };
    let socket = std::sync::Mutex::new(Some(Box::new(Socket::Unix(ours)) as Box<dyn Channel>));
    let dial = move || socket.lock().unwrap().take().ok_or(io::ErrorKind::NotFound.into());
    let origin = Origin::by(dial, "disk").with_tls(tls).with_patience(patience);
    let error = NbdStorage::open(origin, Access::Write).unwrap_err();
    (server.join().unwrap(), error)
}

#[test]
fn what_comes_in_the_open_after_the_switch_is_refused() {
    let (heard, error) = after_starttls(b"NBD");
    let why =
        "the server does not follow the protocol: something in the open after the switch to TLS";
    assert_eq!(error.to_string(), why);
    assert_eq!(heard.len(), 4 + 16, "flags and the option");
}

#[test]
fn a_server_that_is_silent_in_tls_is_given_up() {
    let (_, error) = after_starttls(b"");
    assert_eq!(error.to_string(), "the handshake is not over after 0.1 s");
}

#[test]
fn a_folder_of_a_client_that_lacks_something_is_told() {
    let authority = Authority::new();
    let error = |name| ClientTls::from_folder(authority.folder.path(), name).unwrap_err();
    assert!(error("not a name").to_string().contains("invalid"), "{}", error("not a name"));
    authority.put("client-cert.pem", "nothing");
    assert!(error("localhost").to_string().contains("client-cert.pem: there is nothing"));
    authority.put("ca-cert.pem", "nothing");
    assert!(error("localhost").to_string().contains("ca-cert.pem: there is nothing"));
}
