//! "Fixed newstyle negotiation": every option, and what is refused.

use super::client::{Ask, Client, FIXED, NO_ZEROES, cmd, export_request, opt, rep, string};
use super::memory::{SIZE, served};

#[test]
fn export_name_goes_to_the_transmission_with_or_without_zeroes() {
    let (_disk, server) = served();
    for (flags, zeroes) in [(0, 124), (FIXED, 124), (NO_ZEROES, 0), (FIXED | NO_ZEROES, 0)] {
        let mut client = Client::connect(&server);
        client.greet(flags);
        client.option(opt::EXPORT_NAME, b"disk");
        assert_eq!(client.u64(), SIZE);
        assert_eq!(client.u16(), 0b1101_0110_1101, "no DF without structured replies");
        assert_eq!(client.take(zeroes), vec![0; zeroes]);
        assert_eq!(client.ask(&Ask::new(cmd::FLUSH, 0, 0)), 0);
        client.disconnect();
    }
}

#[test]
fn export_name_of_no_export_is_hung_up_on() {
    let (_disk, server) = served();
    for name in ["none", "Disk", "disk ", "\0"] {
        let mut client = Client::greeted(&server);
        client.option(opt::EXPORT_NAME, name.as_bytes());
        client.hung_up();
    }
    let mut client = Client::greeted(&server);
    client.option(opt::EXPORT_NAME, &[0xff, 0xfe]);
    client.hung_up();
}

#[test]
fn unknown_client_flags_are_hung_up_on() {
    let (_disk, server) = served();
    for flags in [4, 1 << 31, u32::MAX] {
        let mut client = Client::connect(&server);
        client.greet(flags);
        client.hung_up();
    }
}

#[test]
fn a_client_that_is_not_fixed_has_but_one_option() {
    let (_disk, server) = served();
    for option in [opt::ABORT, opt::LIST, opt::GO, opt::STRUCTURED_REPLY, 77] {
        let mut client = Client::connect(&server);
        client.greet(0);
        client.option(option, b"");
        client.hung_up();
    }
}

#[test]
fn bytes_that_are_no_option_are_hung_up_on() {
    let (_disk, server) = served();
    let mut client = Client::greeted(&server);
    client.send(b"GET / HTTP/1.1\r\n\r\n");
    client.hung_up();
}

#[test]
fn abort_is_acknowledged() {
    let (_disk, server) = served();
    let mut client = Client::greeted(&server);
    client.refused(opt::ABORT, b"x", rep::ERR_INVALID);
    assert_eq!(client.ask_option(opt::ABORT, b""), (rep::ACK, vec![]));
    client.hung_up();
}

#[test]
fn list_tells_every_export_with_its_description() {
    let (_disk, server) = served();
    let mut client = Client::greeted(&server);
    client.option(opt::LIST, b"");
    for name in ["disk", "mirror"] {
        let expected = [string(name), format!("the {name}").into_bytes()].concat();
        assert_eq!(client.option_reply(opt::LIST), (rep::SERVER, expected));
    }
    assert_eq!(client.option_reply(opt::LIST), (rep::ACK, vec![]));
    client.refused(opt::LIST, b"x", rep::ERR_INVALID);
}

#[test]
fn options_that_are_not_here_are_refused_and_the_next_understood() {
    let (_disk, server) = served();
    let mut client = Client::greeted(&server);
    for option in [0, 4, 12, u32::MAX] {
        client.refused(option, &[1; 100], rep::ERR_UNSUP);
    }
}

/// Bad inputs, 63: there is no TLS, so nothing of before could be kept after it.
#[test]
fn starttls_is_refused_and_changes_nothing() {
    let (_disk, server) = served();
    let mut client = Client::greeted(&server);
    assert_eq!(client.ask_option(opt::STRUCTURED_REPLY, b"").0, rep::ACK);
    client.refused(opt::STARTTLS, b"", rep::ERR_UNSUP);
    client.refused(opt::STARTTLS, b"x", rep::ERR_INVALID);
    assert_eq!(client.go("").1 & 1 << 7, 1 << 7, "structured replies are still agreed upon");
}

#[test]
fn structured_replies_and_extended_headers_are_agreed_upon_once() {
    let (_disk, server) = served();
    let mut client = Client::greeted(&server);
    client.refused(opt::STRUCTURED_REPLY, b"x", rep::ERR_INVALID);
    assert_eq!(client.ask_option(opt::STRUCTURED_REPLY, b"").0, rep::ACK);
    client.refused(opt::STRUCTURED_REPLY, b"", rep::ERR_INVALID);
    client.refused(opt::EXTENDED_HEADERS, b"x", rep::ERR_INVALID);
    assert_eq!(client.ask_option(opt::EXTENDED_HEADERS, b"").0, rep::ACK);
    client.refused(opt::EXTENDED_HEADERS, b"", rep::ERR_INVALID);
    client.refused(opt::STRUCTURED_REPLY, b"", rep::ERR_EXT_HEADER_REQD);
}

#[test]
fn info_tells_what_is_wanted_and_the_handshake_goes_on() {
    let (_disk, server) = served();
    let mut client = Client::greeted(&server);
    client.option(opt::INFO, &export_request("disk", &[1, 2, 3, 99]));
    let mut expected = vec![[&[0, 0][..], &SIZE.to_be_bytes(), &[0x0d, 0x6d]].concat()];
    let sizes = [1_u32, 4096, 32 << 20].map(u32::to_be_bytes).concat();
    expected.push([&[0, 3], &sizes[..]].concat());
    expected.push(b"\0\x01disk".to_vec());
    expected.push(b"\0\x02the disk".to_vec());
    for data in expected {
        assert_eq!(client.option_reply(opt::INFO), (rep::INFO, data));
    }
    assert_eq!(client.option_reply(opt::INFO), (rep::ACK, vec![]));
    client.in_step();
}

#[test]
fn the_flags_say_what_an_export_can_do() {
    let (_disk, server) = served();
    let flags = |option: Option<u32>, name: &str| {
        let mut client = Client::greeted(&server);
        option.into_iter().for_each(|option| drop(client.ask_option(option, b"")));
        client.go(name).1
    };
    let df = 1 << 7;
    let payload = 1 << 12;
    assert_eq!(flags(None, "disk"), 0b1101_0110_1101);
    assert_eq!(flags(None, "mirror"), 0b0101_0000_1111, "read-only, nothing that writes");
    assert_eq!(flags(Some(opt::STRUCTURED_REPLY), "disk"), 0b1101_0110_1101 | df);
    assert_eq!(flags(Some(opt::EXTENDED_HEADERS), "mirror"), 0b0101_0000_1111 | df | payload);
}

#[test]
fn the_empty_name_is_the_first_export() {
    let (_disk, server) = served();
    let mut client = Client::greeted(&server);
    assert_eq!(client.go("").1 & 2, 0, "the one for writing");
    client.disconnect();
}

#[test]
fn info_and_go_of_no_export_are_refused() {
    let (_disk, server) = served();
    let mut client = Client::greeted(&server);
    for option in [opt::INFO, opt::GO] {
        client.refused(option, &export_request("none", &[]), rep::ERR_UNKNOWN);
        client.refused(option, b"", rep::ERR_INVALID);
        client.refused(option, &string("disk"), rep::ERR_INVALID);
        client.refused(option, &[export_request("disk", &[]), vec![0]].concat(), rep::ERR_INVALID);
        let odd = [string("disk"), vec![0, 2, 0, 1, 0]].concat();
        client.refused(option, &odd, rep::ERR_INVALID);
        client.refused(option, &[0, 0, 0, 2, 0xff, 0xff, 0, 0], rep::ERR_INVALID);
    }
    client.go("disk");
    client.disconnect();
}

/// Bad inputs, 64: an option after GO is no request, and the client is out of step.
#[test]
fn go_twice_is_hung_up_on() {
    let (_disk, server) = served();
    let mut client = Client::simple(&server);
    client.option(opt::GO, &export_request("disk", &[1, 2, 3]));
    client.hung_up();
}

/// A client may send all of its options at once, and its first request with them.
#[test]
fn options_may_come_in_any_portions() {
    let (_disk, server) = served();
    let mut all = Vec::new();
    all.extend((FIXED | NO_ZEROES).to_be_bytes());
    all.extend(super::client::option_header(opt::STRUCTURED_REPLY, 0));
    let go = export_request("disk", &[]);
    all.extend(super::client::option_header(opt::GO, u32::try_from(go.len()).unwrap()));
    all.extend(go);
    all.extend(Ask::new(cmd::FLUSH, 0, 0).compact());
    for portion in [1, 3, 7, all.len()] {
        let mut client = Client::connect(&server);
        assert_eq!(client.take(18)[..8], *b"NBDMAGIC");
        all.chunks(portion).for_each(|bytes| client.send(bytes));
        assert_eq!(client.option_reply(opt::STRUCTURED_REPLY).0, rep::ACK);
        assert_eq!(client.option_reply(opt::GO).0, rep::INFO);
        assert_eq!(client.option_reply(opt::GO).0, rep::INFO);
        assert_eq!(client.option_reply(opt::GO).0, rep::ACK);
        assert_eq!(client.chunk().kind, super::client::NONE);
        client.disconnect();
    }
}
