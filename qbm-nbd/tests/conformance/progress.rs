//! Nothing holds up what does not depend on it, and who goes harms nobody else.

use std::sync::Arc;
use std::thread;

use qbm_nbd::Server;

use super::client::{Ask, Client, cmd};
use super::memory::{MemoryDisk, PANICS, SIZE, SLOW, served};

fn write(ask: &Ask) -> Vec<u8> {
    [ask.compact(), vec![1; usize::try_from(ask.length).unwrap()]].concat()
}

/// The story: a write that waited for a bitmap to be synced kept the connection from receiving. Here
/// it waits until a read that came after it has been answered.
#[test]
fn a_request_that_waits_holds_up_no_other() {
    let (disk, server) = served();
    let mut client = Client::simple(&server);
    let (slow, quick) = (Ask::new(cmd::WRITE, SLOW, 1), Ask::new(cmd::READ, 0, 1));
    // Together, and one after the other.
    client.send(&[write(&slow), quick.compact()].concat());
    assert_eq!(client.simple_reply(&quick), 0);
    client.take(1);
    client.send(&quick.compact());
    assert_eq!(client.simple_reply(&quick), 0);
    client.take(1);
    disk.open();
    assert_eq!(client.simple_reply(&slow), 0);
    client.disconnect();
}

/// The guess was that it would not wait, nothing else had come, and nobody was called.
#[test]
fn a_wrong_guess_holds_up_others_for_a_moment_only() {
    let (disk, server) = served();
    let mut client = Client::simple(&server);
    let quick = Ask::new(cmd::READ, 0, 1);
    let slow: Vec<_> = (0..15).map(|number| Ask::new(cmd::WRITE, SLOW, 1).cookie(number)).collect();
    for slow in &slow {
        client.send(&write(slow));
        // It is answered although all that came before it wait.
        assert_eq!(client.ask(&quick), 0);
        client.take(1);
    }
    disk.open();
    let mut left: Vec<_> = slow.iter().map(|ask| ask.cookie).collect();
    while !left.is_empty() {
        assert_eq!((client.u32(), client.u32()), (0x6744_6698, 0));
        let cookie = client.u64();
        left.retain(|other| *other != cookie);
    }
    client.disconnect();
}

/// Replies may be held back to be sent together, but never while the client could wait for them.
#[test]
fn a_reply_does_not_wait_for_the_rest_of_the_next_request() {
    let (_disk, server) = served();
    let mut client = Client::simple(&server);
    let ask = Ask::new(cmd::READ, 0, 1);
    let two = [ask.compact(), write(&Ask::new(cmd::WRITE, 0, 100))].concat();
    for cut in 1..100 {
        // The first whole, and the second up to somewhere in its payload.
        client.send(&two[..28 + cut]);
        assert_eq!(client.simple_reply(&ask), 0);
        client.take(1);
        client.send(&two[28 + cut..]);
        assert_eq!(client.simple_reply(&Ask::new(cmd::WRITE, 0, 100)), 0);
    }
    client.disconnect();
}

/// Requests of several connections, each with its own data, all at once.
#[test]
fn every_reply_has_the_data_of_its_request() {
    let (disk, server) = served();
    for block in 0..4096_u64 {
        disk.fill(block * 4096, &block.to_be_bytes().repeat(512));
    }
    let session = |server: &Arc<Server>, seed: u64| {
        let mut client = Client::simple(server);
        let block = |index: u64| (index * 2_654_435_761 + seed) % 4096;
        let asks: Vec<_> =
            (0..2000).map(|i| Ask::new(cmd::READ, block(i) * 4096, 4096).cookie(i)).collect();
        let mut sending = client.stream.try_clone().unwrap();
        let bytes: Vec<u8> = asks.iter().flat_map(Ask::compact).collect();
        let sender = thread::spawn(move || std::io::Write::write_all(&mut sending, &bytes));
        for _ in &asks {
            assert_eq!((client.u32(), client.u32()), (0x6744_6698, 0));
            let expected = block(client.u64());
            assert!(client.take(4096) == expected.to_be_bytes().repeat(512));
        }
        sender.join().unwrap().unwrap();
        client.disconnect();
    };
    thread::scope(|scope| {
        let server = &server;
        (0..4).for_each(|seed| drop(scope.spawn(move || session(server, seed))));
    });
}

/// Multi-conn: what one connection has written, a flush on another makes durable.
#[test]
fn connections_see_what_others_have_written() {
    let (_disk, server) = served();
    let (mut one, mut other) = (Client::simple(&server), Client::simple(&server));
    let ask = Ask::new(cmd::WRITE, 77, 1);
    one.send(&write(&ask));
    assert_eq!(one.simple_reply(&ask), 0);
    assert_eq!(other.ask(&Ask::new(cmd::FLUSH, 0, 0)), 0);
    assert_eq!(other.ask(&Ask::new(cmd::READ, 77, 1)), 0);
    assert_eq!(other.take(1), [1]);
}

/// A thread that panics half-way must not leave others to go on where it was.
#[test]
fn a_panic_ends_its_connection_and_no_other() {
    let (_disk, server) = served();
    let mut other = Client::simple(&server);
    let mut client = Client::simple(&server);
    client.send(&Ask::new(cmd::READ, PANICS, 1).compact());
    client.hung_up();
    assert_eq!(other.ask(&Ask::new(cmd::FLUSH, 0, 0)), 0);
    assert_eq!(server.statistics().panics.get(), 1);
    assert_eq!(server.statistics().serving.get(), 1);
    other.disconnect();
}

/// Bad inputs, 68: a client that is gone, in each phase, with the bytes of each phase half sent.
#[test]
fn a_client_may_go_at_any_byte() {
    let disk = MemoryDisk::new();
    disk.open();
    let server = disk.server(qbm_nbd::Limits::default());
    let go = super::client::export_request("", &[]);
    let mut all = 3_u32.to_be_bytes().to_vec();
    all.extend(super::client::option_header(7, u32::try_from(go.len()).unwrap()));
    all.extend(go);
    let handshake = all.len();
    all.extend(write(&Ask::new(cmd::WRITE, 100, 50)));
    for cut in 0..all.len() {
        let mut client = Client::connect(&server);
        client.send(&all[..cut]);
        // Half closed: what was asked for in whole is answered, and then it ends.
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = Vec::new();
        std::io::Read::read_to_end(&mut client.stream, &mut said).unwrap();
        assert_eq!(said.len() > 18, cut >= handshake, "the handshake is answered when it is whole");
        drop(client);
    }
    assert_eq!(disk.contents(100, 50), [0; 50], "half a write is none");
    // Gone with requests in flight, and nobody to read the replies.
    let mut client = Client::simple(&server);
    let reads = Ask::new(cmd::READ, 0, 1 << 20).compact().repeat(40);
    client.send(&[reads, write(&Ask::new(cmd::WRITE, SIZE - 100, 4))].concat());
    drop(client);
    Client::simple(&server).disconnect();
}
