//! What a server that breaks off, or comes back as another, may cost.

use std::io;
use std::sync::Arc;

use futures_executor::block_on;
use qbm_core::{Buffer, Persist, Storage};
use qbm_nbd::NbdStorage;

use super::server::{
    FLAGS, MULTI, SIMPLE, SIZE, Script, Scripts, Then, before_go, go, handshake, joined, patient,
    read, simple,
};

fn write(disk: &NbdStorage) -> io::Result<()> {
    block_on(disk.write_at(0, Buffer::zeroed(8), Persist::Later)).map(drop)
}

fn sync(disk: &NbdStorage) -> io::Result<()> {
    block_on(disk.sync())
}

fn connect(scripts: &Arc<Scripts>) -> NbdStorage {
    scripts.connect(patient()).unwrap()
}

/// A server that answers each request by one of these.
fn answering(answers: &[&[u8]], then: Then) -> Script {
    let answers: Vec<_> = answers.iter().map(|answer| answer.to_vec()).collect();
    Script::new(handshake(SIMPLE), &answers, then)
}

#[test]
fn a_server_that_breaks_at_each_read_is_given_up() {
    // At once, or in the middle of a reply.
    for answers in [&[][..], &[&simple(0, 1)[..7]]] {
        let scripts = Scripts::new(vec![answering(answers, Then::HangUp); 20]);
        let error = read(&connect(&scripts), 0, 8).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(scripts.dialled() <= 9, "{} connections", scripts.dialled());
    }
}

#[test]
fn a_server_that_is_out_of_step_is_not_asked_again() {
    let good = joined(&[&simple(0, 1), b"abcdefgh"]);
    let [bad, good] = [&simple(0, 9)[..], &good].map(|says| answering(&[says], Then::Silence));
    let scripts = Scripts::new([bad, good]);
    let disk = connect(&scripts);
    let error = read(&disk, 0, 8).unwrap_err();
    let why = "the server does not follow the protocol: a reply to another request";
    assert_eq!(error.to_string(), why);
    // A later request is worth another connection.
    assert_eq!(read(&disk, 0, 8).unwrap()[..], *b"abcdefgh");
}

/// What is said before it is asked for belongs to no request.
#[test]
fn an_answer_that_comes_early_is_not_taken() {
    let early = joined(&[&simple(0, 1), b"abcdefgh", &simple(0, 2), b"too soon"]);
    let good = joined(&[&simple(0, 1), b"ABCDEFGH"]);
    let scripts = Scripts::new([&early[..], &good].map(|says| answering(&[says], Then::Silence)));
    let disk = connect(&scripts);
    assert_eq!(read(&disk, 0, 8).unwrap()[..], *b"abcdefgh");
    assert_eq!(read(&disk, 0, 8).unwrap()[..], *b"ABCDEFGH");
}

#[test]
fn a_write_whose_connection_breaks_loses_the_disk() {
    for (answer, why) in [
        (&b""[..], "unexpected end of file"),
        (&simple(0, 9), "the server does not follow the protocol: a reply to another request"),
    ] {
        let good = answering(&[&simple(0, 1)], Then::Silence);
        let scripts = Scripts::new([answering(&[answer], Then::HangUp), good]);
        let disk = connect(&scripts);
        let lost = write(&disk).unwrap_err().to_string();
        let expected = format!(
            "the connection broke while writes were not flushed ({why}); \
             what is durable of them is not known"
        );
        assert_eq!(lost, expected);
        // It stays lost, although the server is there again.
        assert_eq!(read(&disk, 0, 8).unwrap_err().to_string(), lost);
        assert_eq!(sync(&disk).unwrap_err().to_string(), lost);
        assert_eq!(scripts.dialled(), 1);
    }
}

#[test]
fn a_flush_that_fails_loses_the_disk() {
    let answers = [simple(0, 1), simple(28, 2), simple(0, 3)];
    let scripts = Scripts::new([Script::new(handshake(SIMPLE), &answers, Then::Silence)]);
    let disk = connect(&scripts);
    write(&disk).unwrap();
    let error = "the server failed it with error 28";
    assert_eq!(sync(&disk).unwrap_err().to_string(), error);
    let lost = format!("a flush has failed ({error}); open the disk again");
    assert_eq!(sync(&disk).unwrap_err().to_string(), lost);
}

#[test]
fn a_server_that_comes_back_with_another_disk_is_not_gone_on_with() {
    let other = joined(&[&before_go(SIMPLE), &go(SIZE / 2, FLAGS, [1, 4096, 32 << 20])]);
    let first = answering(&[], Then::HangUp);
    let scripts = Scripts::new([first, Script::new(other, &[], Then::Silence)]);
    let error = read(&connect(&scripts), 0, 8).unwrap_err();
    assert_eq!(error.to_string(), "the server came back with another disk");
}

#[test]
fn a_server_shows_the_same_disk_on_each_connection() {
    let disk = |size| {
        let go = go(size, FLAGS | MULTI, [1, 4096, 32 << 20]);
        Script::new(joined(&[&before_go(SIMPLE), &go]), &[], Then::Silence)
    };
    let scripts = Scripts::new([disk(SIZE), disk(SIZE), disk(SIZE / 2)]);
    let error = scripts.connect(patient()).unwrap_err();
    assert_eq!(error.to_string(), "the server shows another disk on each connection");
    // One that takes two connections only serves by these.
    let scripts = Scripts::new([disk(SIZE), disk(SIZE)]);
    scripts.connect(patient()).unwrap();
    assert_eq!(scripts.dialled(), 2);
}
