//! Servers that say nothing, or next to nothing.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use qbm_core::{Access, Buffer, Persist, Storage};
use qbm_nbd::{Channel, NbdStorage, Origin, Patience, Socket};

use super::server::{
    SIMPLE, Script, Scripts, Then, before_go, handshake, joined, opt, patient, read, rep,
    reply_header, simple,
};

const SHORT: Duration = Duration::from_millis(100);

#[test]
fn a_server_that_is_silent_in_its_handshake_is_given_up() {
    let patience = Patience { handshake: SHORT, ..patient() };
    for length in [0, 10, 18, 30] {
        let says = handshake(SIMPLE)[..length].to_vec();
        let error =
            Scripts::new([Script::new(says, &[], Then::Silence)]).connect(patience).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "the handshake is not over after 0.1 s");
    }
}

/// It is the handshake as a whole that is limited, not each of its steps.
#[test]
fn a_server_that_says_a_byte_now_and_then_is_given_up() {
    let dial = || {
        let (ours, theirs) = UnixStream::pair()?;
        let says = joined(&[&before_go(SIMPLE), &reply_header(opt::GO, rep::ERR_UNSUP, 4096)]);
        thread::spawn(move || drip(theirs, &says));
        Ok(Box::new(Socket::Unix(ours)) as Box<dyn Channel>)
    };
    let patience = Patience { handshake: SHORT, ..patient() };
    let begun = Instant::now();
    let origin = Origin::by(dial, "").with_patience(patience);
    let error = NbdStorage::open(origin, Access::Write).unwrap_err();
    assert_eq!(error.to_string(), "the handshake is not over after 0.1 s");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

/// Says this, and then a byte each few milliseconds for as long as somebody listens.
fn drip(mut stream: UnixStream, says: &[u8]) {
    stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let mut said = stream.write_all(says);
    while said.is_ok() {
        // What it is told is dropped, and the time it waits for that is its pace.
        while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
        said = stream.write_all(b"x");
    }
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let patience = Patience { reply: SHORT, ..patient() };
    let silent = "the server has not answered for 0.1 s";
    let mute = |answers| Script::new(handshake(SIMPLE), answers, Then::Silence);
    let scripts = Scripts::new(vec![mute(&[]); 9]);
    let error = read(&scripts.connect(patience).unwrap(), 0, 8).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::TimedOut, silent));
    assert_eq!(scripts.dialled(), 3, "a read is asked again, and not without end");
    // In the middle of a reply.
    let disk = Scripts::new([mute(&[simple(0, 1)[..7].to_vec()])]).connect(patience).unwrap();
    let write = block_on(disk.write_at(0, Buffer::zeroed(8), Persist::Later));
    let lost = write.unwrap_err().to_string();
    assert!(lost.contains(&format!("({silent})")), "{lost}");
}

#[test]
fn a_server_that_reads_nothing_is_given_up() {
    let patience = Patience { send: SHORT, ..patient() };
    let deaf = Script::new(handshake(SIMPLE), &[], Then::Deaf);
    let disk = Scripts::new([deaf]).connect(patience).unwrap();
    // More than sockets hold.
    let write = block_on(disk.write_at(0, Buffer::zeroed(1 << 20), Persist::Later));
    let lost = write.unwrap_err().to_string();
    assert!(lost.contains("(the server has read nothing for 0.1 s)"), "{lost}");
}
