//! Each command and each of its flags and errors, with simple and structured replies.

use std::sync::atomic::Ordering;

use super::client::{
    Ask, Client, DONE, EINVAL, EIO, ENOSPC, ENOTSUP, EPERM, NONE, OFFSET_DATA, OFFSET_HOLE, cmd,
    flag,
};
use super::memory::{BROKEN, SIZE, served};

const GRAIN: usize = 64 << 10;

#[test]
fn a_read_has_its_data_after_a_simple_reply() {
    let (disk, server) = served();
    disk.fill(1000, b"hello");
    let mut client = Client::simple(&server);
    let ask = Ask::new(cmd::READ, 999, 7);
    assert_eq!(client.ask(&ask), 0);
    assert_eq!(client.take(7), b"\0hello\0");
    assert_eq!(client.ask(&Ask::new(cmd::READ, 5, 0)), 0, "nothing of nothing");
    client.disconnect();
}

#[test]
fn a_read_has_its_data_and_its_zeroes_in_chunks() {
    let (disk, server) = served();
    let data = vec![7; GRAIN];
    disk.fill(GRAIN as u64, &data);
    let mut client = Client::structured(&server, &[]);
    let ask = Ask::new(cmd::READ, 0, 3 * GRAIN as u64);
    client.send(&ask.compact());
    let place = |grain: usize| (grain * GRAIN).to_be_bytes().to_vec();
    let hole = |grain| [place(grain), vec![0, 1, 0, 0]].concat();
    for (flags, kind, payload) in [
        (0, OFFSET_HOLE, hole(0)),
        (0, OFFSET_DATA, [place(1), data].concat()),
        (DONE, OFFSET_HOLE, hole(2)),
    ] {
        let chunk = client.chunk();
        assert_eq!((chunk.flags, chunk.kind, chunk.cookie), (flags, kind, ask.cookie));
        assert!(chunk.payload == payload);
    }
    client.send(&Ask::new(cmd::READ, 0, 0).compact());
    assert_eq!(client.chunk().kind, NONE);
    client.disconnect();
}

#[test]
fn a_read_that_must_not_be_split_is_one_chunk() {
    let (disk, server) = served();
    disk.fill(GRAIN as u64, &[7]);
    let mut client = Client::structured(&server, &[]);
    client.send(&Ask::new(cmd::READ, 0, 3 * GRAIN as u64).flags(flag::DF).compact());
    let chunk = client.chunk();
    assert_eq!((chunk.flags, chunk.kind), (DONE, OFFSET_DATA));
    assert_eq!(chunk.payload[8..], disk.contents(0, 3 * GRAIN));
    client.disconnect();
}

#[test]
fn a_write_is_there_when_it_is_acknowledged() {
    let (disk, server) = served();
    let mut client = Client::simple(&server);
    let ask = Ask::new(cmd::WRITE, 4095, 3);
    client.send(&[&ask.compact()[..], b"abc"].concat());
    assert_eq!(client.simple_reply(&ask), 0);
    assert_eq!(disk.contents(4094, 5), b"\0abc\0");
    assert_eq!(disk.durable_writes.load(Ordering::SeqCst), 0);
    let ask = ask.flags(flag::FUA);
    client.send(&[&ask.compact()[..], b"def"].concat());
    assert_eq!(client.simple_reply(&ask), 0);
    assert_eq!(disk.durable_writes.load(Ordering::SeqCst), 1);
    assert_eq!(client.ask(&Ask::new(cmd::WRITE, 0, 0)), 0);
    client.disconnect();
}

#[test]
fn zeroes_and_trims_do_what_their_flags_say() {
    let (disk, server) = served();
    disk.fill(0, &[1; 100]);
    let mut client = Client::simple(&server);
    assert_eq!(client.ask(&Ask::new(cmd::WRITE_ZEROES, 10, 10)), 0);
    assert_eq!(disk.contents(9, 12), b"\x01\0\0\0\0\0\0\0\0\0\0\x01");
    assert_eq!(disk.kept_zeroes.load(Ordering::SeqCst), 0);
    assert_eq!(client.ask(&Ask::new(cmd::WRITE_ZEROES, 0, 1).flags(flag::NO_HOLE)), 0);
    assert_eq!(disk.kept_zeroes.load(Ordering::SeqCst), 1);
    let fast = Ask::new(cmd::WRITE_ZEROES, 0, 1).flags(flag::FAST_ZERO);
    assert_eq!(client.ask(&fast), ENOTSUP);
    assert_eq!(client.ask(&Ask::new(cmd::TRIM, 50, 10)), 0);
    assert_eq!(disk.flushes.load(Ordering::SeqCst), 0);
    for command in [cmd::WRITE_ZEROES, cmd::TRIM] {
        assert_eq!(client.ask(&Ask::new(command, 0, 1).flags(flag::FUA)), 0);
        assert_eq!(client.ask(&Ask::new(command, 0, 0)), 0, "nothing to do");
    }
    assert_eq!(disk.flushes.load(Ordering::SeqCst), 2);
    client.disconnect();
}

#[test]
fn flush_cache_and_disconnect() {
    let (disk, server) = served();
    for mut client in [Client::simple(&server), Client::structured(&server, &[])] {
        let before = disk.flushes.load(Ordering::SeqCst);
        let asks = [Ask::new(cmd::FLUSH, 0, 0), Ask::new(cmd::CACHE, 5, SIZE - 100)];
        client.send(&asks.map(|ask| ask.compact()).concat());
        let mut answers = Vec::new();
        for _ in asks {
            let magic = client.u32();
            if magic == 0x668e_33ef {
                assert_eq!((client.u16(), client.u16()), (DONE, NONE));
                answers.push(client.u64());
                assert_eq!(client.u32(), 0);
            } else {
                assert_eq!((magic, client.u32()), (0x6744_6698, 0));
                answers.push(client.u64());
            }
        }
        answers.sort_unstable();
        assert_eq!(answers, asks.map(|ask| ask.cookie));
        assert_eq!(disk.flushes.load(Ordering::SeqCst), before + 1);
        client.disconnect();
    }
}

/// Bad inputs, 65.
#[test]
fn a_range_outside_the_disk_is_refused_and_the_next_request_understood() {
    let (_disk, server) = served();
    let mut client = Client::simple(&server);
    let ranges = [(SIZE, 1), (SIZE - 1, 2), (0, u64::from(u32::MAX)), (u64::MAX, 1), (1 << 63, 1)];
    for (command, error) in [
        (cmd::READ, EINVAL),
        (cmd::TRIM, EINVAL),
        (cmd::CACHE, EINVAL),
        (cmd::WRITE_ZEROES, ENOSPC),
    ] {
        for (offset, length) in ranges {
            assert_eq!(client.ask(&Ask::new(command, offset, length)), error, "{command}");
        }
    }
    for offset in [SIZE - 1, u64::MAX - 1, u64::MAX] {
        let ask = Ask::new(cmd::WRITE, offset, 2);
        client.send(&[&ask.compact()[..], b"ab"].concat());
        assert_eq!(client.simple_reply(&ask), ENOSPC);
    }
    assert_eq!(client.ask(&Ask::new(cmd::READ, u64::MAX, 0)), EINVAL);
    assert_eq!(client.ask(&Ask::new(cmd::READ, SIZE, 0)), 0);
    client.disconnect();
}

/// Bad inputs, 66.
#[test]
fn an_export_for_reading_is_not_written() {
    let (disk, server) = served();
    let mut client = Client::greeted(&server);
    client.go("mirror");
    let ask = Ask::new(cmd::WRITE, 0, 3);
    client.send(&[&ask.compact()[..], b"abc"].concat());
    assert_eq!(client.simple_reply(&ask), EPERM);
    assert_eq!(client.ask(&Ask::new(cmd::TRIM, 0, 3)), EPERM);
    assert_eq!(client.ask(&Ask::new(cmd::WRITE_ZEROES, 0, 3)), EPERM);
    assert_eq!(client.ask(&Ask::new(cmd::FLUSH, 0, 0)), 0);
    assert_eq!(disk.contents(0, 3), [0; 3]);
    client.disconnect();
}

/// Bad inputs, 66.
#[test]
fn flags_that_do_not_go_with_the_command_are_refused() {
    let (_disk, server) = served();
    let all = [cmd::READ, cmd::FLUSH, cmd::TRIM, cmd::CACHE, cmd::WRITE_ZEROES];
    let mut client = Client::simple(&server);
    for command in all {
        assert_eq!(client.ask(&Ask::new(command, 0, 0).flags(flag::FUA)), 0, "{command} with FUA");
        for bit in 1..16 {
            let flags = 1 << bit;
            let fits = command == cmd::WRITE_ZEROES && flags == flag::NO_HOLE;
            let fits = fits || command == cmd::WRITE_ZEROES && flags == flag::FAST_ZERO;
            let expected = if fits { 0 } else { EINVAL };
            let ask = Ask::new(command, 0, 0).flags(flags);
            assert_eq!(client.ask(&ask), expected, "{command} with {flags:#x}");
        }
    }
    for bit in 1..16 {
        let ask = Ask::new(cmd::WRITE, 0, 2).flags(1 << bit);
        client.send(&[&ask.compact()[..], b"ab"].concat());
        assert_eq!(client.simple_reply(&ask), EINVAL, "the payload is no request");
    }
    client.disconnect();
}

#[test]
fn unknown_commands_are_refused() {
    let (_disk, server) = served();
    let mut client = Client::simple(&server);
    for command in [8, 9, 255, u16::MAX] {
        assert_eq!(client.ask(&Ask::new(command, 0, 0)), EINVAL);
    }
    let mut client = Client::structured(&server, &[]);
    client.send(&Ask::new(77, 0, 0).compact());
    assert_eq!(client.chunk().error(), EINVAL);
}

#[test]
fn a_request_without_its_magic_is_hung_up_on() {
    let (_disk, server) = served();
    let mut client = Client::simple(&server);
    let mut bytes = Ask::new(cmd::READ, 0, 1).compact();
    bytes[3] ^= 1;
    client.send(&bytes);
    client.hung_up();
    let mut client = Client::simple(&server);
    client.send(&Ask::new(cmd::READ, 0, 1).extended());
    client.hung_up();
}

/// The client is told that the storage failed, and no name of a file of ours.
#[test]
fn a_failure_of_the_disk_is_told_and_the_connection_goes_on() {
    let (_disk, server) = served();
    let mut client = Client::structured(&server, &[]);
    client.send(&Ask::new(cmd::READ, BROKEN, 1).compact());
    let chunk = client.chunk();
    assert_eq!(chunk.error(), EIO);
    assert!(!String::from_utf8_lossy(&chunk.payload).contains('/'));
    let ask = Ask::new(cmd::WRITE, BROKEN, 1);
    client.send(&[&ask.compact()[..], b"x"].concat());
    assert_eq!(client.chunk().error(), EIO);
    client.send(&Ask::new(cmd::FLUSH, 0, 0).compact());
    assert_eq!(client.chunk().kind, NONE);
    assert_eq!(server.statistics().disk_failures.get(), 2);
    client.disconnect();
}
