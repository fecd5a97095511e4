//! What a client can make grow, up to its limit and one step further.

use std::io::Write;
use std::sync::atomic::Ordering;

use qbm_nbd::Limits;
use qbm_nbd::limits::{
    MAX_CACHED, MAX_EXTENTS, MAX_OPTION, MAX_OPTIONS, MAX_PIECE, MAX_REPORTS, MAX_REQUEST,
    MAX_SKIPPED_OPTION, MAX_SKIPPED_PAYLOAD,
};

use super::client::{
    Ask, Client, DONE, EINVAL, EIO, OFFSET_DATA, OFFSET_HOLE, cmd, export_request, flag,
    meta_request, opt, option_header, rep, string,
};
use super::memory::{BROKEN, MemoryDisk, SIZE, served};

/// Bad inputs, 60: a length that is a lie, or more than anybody needs.
#[test]
fn an_option_that_is_too_long_is_refused_or_hung_up_on() {
    let (_disk, server) = served();
    let mut client = Client::greeted(&server);
    let longest = vec![b'x'; MAX_OPTION];
    client.refused(4711, &longest, rep::ERR_UNSUP);
    let too_long = vec![b'x'; MAX_OPTION + 1];
    for option in [opt::LIST, opt::INFO, opt::GO, opt::SET_META_CONTEXT, 4711] {
        client.refused(option, &too_long, rep::ERR_TOO_BIG);
    }
    client.send(&option_header(opt::EXPORT_NAME, u32::try_from(too_long.len()).unwrap()));
    client.hung_up();
    for length in [MAX_SKIPPED_OPTION + 1, 32 << 20, 0x8000_0000, u32::MAX] {
        for option in [opt::EXPORT_NAME, opt::GO, opt::LIST, 4711] {
            let mut client = Client::greeted(&server);
            client.send(&option_header(option, length));
            client.hung_up();
        }
    }
}

#[test]
fn the_longest_option_that_is_skipped_is_answered() {
    let (_disk, server) = served();
    let mut client = Client::greeted(&server);
    let longest = usize::try_from(MAX_SKIPPED_OPTION).unwrap();
    client.refused(opt::GO, &vec![0; longest], rep::ERR_TOO_BIG);
}

/// Bad inputs, 60: a name that is longer than the data around it, or than names may be.
#[test]
fn a_name_that_is_too_long_is_refused() {
    let (_disk, server) = served();
    let mut client = Client::greeted(&server);
    let name = "n".repeat(4096);
    for option in [opt::INFO, opt::GO] {
        client.refused(option, &export_request(&name, &[]), rep::ERR_UNKNOWN);
        client.refused(option, &export_request(&(name.clone() + "n"), &[]), rep::ERR_TOO_BIG);
        let mut lie = string("disk");
        lie[..4].copy_from_slice(&u32::MAX.to_be_bytes());
        client.refused(option, &lie, rep::ERR_INVALID);
    }
}

/// Bad inputs, 61: an endless handshake.
#[test]
fn options_are_limited_in_number() {
    let (_disk, server) = served();
    let mut client = Client::greeted(&server);
    for _ in 0..MAX_OPTIONS {
        client.in_step();
    }
    client.hung_up();
    // 10,000 of them, of which no more than the first are answered.
    let mut client = Client::greeted(&server);
    let flood = option_header(4711, 0).repeat(10_000);
    // The server may hang up before it has all come.
    let _sent = client.stream.write_all(&flood);
    for _ in 0..MAX_OPTIONS {
        assert_eq!(client.option_reply(4711).0, rep::ERR_UNSUP);
    }
    client.hung_up();
}

/// Bad inputs, 62.
#[test]
fn contexts_are_limited_in_number() {
    use qbm_core::Access;
    use qbm_nbd::{Export, Server};
    let bitmaps: Vec<_> = (0..20).map(|number| format!("b{number}")).collect();
    let names: Vec<_> = bitmaps.iter().map(|name| format!("qemu:dirty-bitmap:{name}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let export = Export {
        name: String::new(),
        description: String::new(),
        disk: MemoryDisk::new(),
        access: Access::Read,
        bitmaps,
    };
    let server = std::sync::Arc::new(Server::new(vec![export], Limits::default(), |_| {}));
    let mut client = Client::greeted(&server);
    client.ask_option(opt::STRUCTURED_REPLY, b"");
    client.refused(opt::SET_META_CONTEXT, &meta_request("", &names[..17]), rep::ERR_TOO_BIG);
    client.option(opt::SET_META_CONTEXT, &meta_request("", &names[..16]));
    for _ in 0..16 {
        assert_eq!(client.option_reply(opt::SET_META_CONTEXT).0, rep::META_CONTEXT);
    }
    assert_eq!(client.option_reply(opt::SET_META_CONTEXT).0, rep::ACK);
}

/// Bad inputs, 65: longer than the largest block size that the client was told of.
#[test]
fn a_request_that_is_too_long_is_refused_and_the_next_understood() {
    let (disk, server) = served();
    let mut client = Client::simple(&server);
    let longest = vec![9; MAX_REQUEST];
    let ask = Ask::new(cmd::WRITE, 0, MAX_REQUEST as u64);
    client.send(&ask.compact());
    client.send(&longest);
    assert_eq!(client.simple_reply(&ask), 0);
    assert_eq!(client.ask(&Ask::new(cmd::READ, 0, MAX_REQUEST as u64)), 0);
    assert!(client.take(MAX_REQUEST) == longest);
    assert_eq!(client.ask(&Ask::new(cmd::READ, 0, MAX_REQUEST as u64 + 1)), EINVAL);
    for length in [MAX_REQUEST as u64 + 1, MAX_SKIPPED_PAYLOAD] {
        let ask = Ask::new(cmd::WRITE, SIZE / 2, length);
        client.send(&ask.compact());
        client.send(&vec![8; usize::try_from(length).unwrap()]);
        assert_eq!(client.simple_reply(&ask), EINVAL);
    }
    assert_eq!(disk.contents(SIZE / 2, 1), [0], "nothing of it was written");
    assert_eq!(client.ask(&Ask::new(cmd::FLUSH, 0, 0)), 0);
    client.send(&Ask::new(cmd::WRITE, 0, MAX_SKIPPED_PAYLOAD + 1).compact());
    client.hung_up();
}

/// What is longer than a piece is read and written piece by piece, of which a later one may fail.
#[test]
fn a_request_of_several_pieces_fails_where_one_does() {
    let (disk, server) = served();
    let ask = |command| Ask::new(command, BROKEN - MAX_PIECE as u64, MAX_PIECE as u64 + 8);
    let mut client = Client::structured(&server, &[]);
    client.send(&ask(cmd::READ).compact());
    let chunk = client.chunk();
    assert_eq!((chunk.flags, chunk.kind), (0, OFFSET_HOLE));
    assert_eq!(client.chunk().error(), EIO);
    client.send(&[ask(cmd::WRITE).compact(), vec![6; MAX_PIECE + 8]].concat());
    assert_eq!(client.chunk().error(), EIO);
    assert_eq!(disk.contents(BROKEN - 1, 2), [6, 0]);
    client.send(&ask(cmd::READ).flags(flag::DF).compact());
    // All is promised before it is known that some of it cannot be had: nothing but the end is left then.
    assert_eq!((client.u32(), client.u16(), client.u16()), (0x668e_33ef, DONE, OFFSET_DATA));
    assert_eq!((client.u64(), client.u32() as usize), (ask(cmd::READ).cookie, MAX_PIECE + 16));
    client.take(8 + MAX_PIECE);
    client.hung_up();
    let mut client = Client::simple(&server);
    assert_eq!(client.ask(&ask(cmd::READ)), 0);
    assert!(client.take(MAX_PIECE) == vec![6; MAX_PIECE]);
    client.hung_up();
}

/// Bad inputs, 69: many requests at once, all with one cookie, each answered once.
#[test]
fn a_hundred_thousand_requests_with_one_cookie_are_answered() {
    const COUNT: usize = 100_000;
    let (_disk, server) = served();
    let mut client = Client::simple(&server);
    let ask = Ask::new(cmd::READ, 0, 1).cookie(5);
    let mut sending = client.stream.try_clone().unwrap();
    let flood = std::thread::spawn(move || sending.write_all(&ask.compact().repeat(COUNT)));
    for _ in 0..COUNT {
        assert_eq!(client.simple_reply(&ask), 0);
        client.take(1);
    }
    flood.join().unwrap().unwrap();
    client.disconnect();
}

#[test]
fn more_clients_than_may_be_served_are_refused() {
    let disk = MemoryDisk::new();
    let server = disk.server(Limits { connections: 2, ..Limits::default() });
    let first = Client::simple(&server);
    let _second = Client::simple(&server);
    let mut third = Client::greeted(&server);
    third.refused(opt::GO, &export_request("", &[]), rep::ERR_POLICY);
    let mut fourth = Client::greeted(&server);
    fourth.option(opt::EXPORT_NAME, b"");
    fourth.hung_up();
    assert_eq!(server.statistics().refused.get(), 2);
    first.disconnect();
    assert_eq!(server.statistics().serving.get(), 1);
    third.go("");
}

/// Bad inputs, 65: the status of a disk in a million pieces.
#[test]
fn extents_are_limited_in_number() {
    let (_disk, server) = served();
    let mut client = Client::structured(&server, &["qemu:allocation-depth"]);
    client.send(&Ask::new(cmd::BLOCK_STATUS, 0, SIZE).compact());
    assert_eq!(client.chunk().payload.len(), 4 + 8 * MAX_EXTENTS);
    client.disconnect();
}

#[test]
fn reading_ahead_is_limited() {
    let (disk, server) = served();
    let mut client = Client::simple(&server);
    assert_eq!(client.ask(&Ask::new(cmd::CACHE, 512, SIZE - 512)), 0);
    assert_eq!(disk.bytes_read.load(Ordering::SeqCst), MAX_CACHED);
    client.disconnect();
}

/// A disk that fails all the time must not fill the operator's log. What a client does wrong is not
/// told at all.
#[test]
fn the_operator_is_told_of_the_disk_and_not_too_often() {
    let (disk, server) = served();
    let mut client = Client::simple(&server);
    for _ in 0..MAX_REPORTS + 50 {
        assert_eq!(client.ask(&Ask::new(cmd::READ, BROKEN, 1)), EIO);
        assert_eq!(client.ask(&Ask::new(cmd::READ, SIZE, 1)), EINVAL);
    }
    let reports = disk.reports.lock().unwrap();
    assert_eq!(reports.len() as u64, MAX_REPORTS);
    assert_eq!(reports[0], "export 'disk': /secret/path: Input/output error");
    let statistics = server.statistics();
    assert_eq!(statistics.disk_failures.get(), MAX_REPORTS + 50);
    assert_eq!(statistics.bad_requests.get(), MAX_REPORTS + 50);
}
