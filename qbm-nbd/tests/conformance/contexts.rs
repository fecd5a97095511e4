//! Metadata contexts, and `NBD_CMD_BLOCK_STATUS` in them.

use super::client::{
    Ask, BLOCK_STATUS, Client, DONE, EINVAL, FIXED, cmd, flag, meta_request, opt, rep, string,
};
use super::memory::{SIZE, served};

const MIB: u64 = 1 << 20;
const ALL: [&str; 4] =
    ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:b0", "qemu:dirty-bitmap:b1"];

/// The contexts in the replies to an option, with their ids, until the acknowledgement.
fn told(client: &mut Client, option: u32) -> Vec<(u32, String)> {
    let mut contexts = Vec::new();
    loop {
        let (kind, data) = client.option_reply(option);
        if kind == rep::ACK {
            return contexts;
        }
        assert_eq!(kind, rep::META_CONTEXT, "{}", String::from_utf8_lossy(&data));
        let id = u32::from_be_bytes(data[..4].try_into().unwrap());
        contexts.push((id, String::from_utf8(data[4..].to_vec()).unwrap()));
    }
}

#[test]
fn contexts_are_listed_by_name_and_by_what_comes_before_a_colon() {
    let (_disk, server) = served();
    let mut client = Client::greeted(&server);
    client.ask_option(opt::STRUCTURED_REPLY, b"");
    let cases: [(&[&str], &[&str]); 8] = [
        (&[], &ALL),
        (&["base:"], &ALL[..1]),
        (&["qemu:"], &ALL[1..]),
        (&["qemu:dirty-bitmap:"], &ALL[2..]),
        (&["qemu:dirty-bitmap:b1", "base:allocation"], &[ALL[0], ALL[3]]),
        (&["qemu:dirty-bitmap:b"], &[]),
        (&["base:allocatio", "x-other:", "nonsense", ""], &[]),
        (&["base:allocation", "base:allocation", "base:"], &ALL[..1]),
    ];
    for (queries, expected) in cases {
        client.option(opt::LIST_META_CONTEXT, &meta_request("disk", queries));
        let listed = told(&mut client, opt::LIST_META_CONTEXT);
        assert!(listed.iter().all(|(id, _)| *id == 0), "ids are zero in a list");
        assert!(listed.iter().map(|(_, name)| name).eq(expected), "{queries:?}: {listed:?}");
    }
}

#[test]
fn contexts_are_set_by_their_whole_names_only_each_with_an_id_of_its_own() {
    let (_disk, server) = served();
    let mut client = Client::greeted(&server);
    client.ask_option(opt::STRUCTURED_REPLY, b"");
    let mut set = |queries: &[&str]| {
        client.option(opt::SET_META_CONTEXT, &meta_request("disk", queries));
        let mut set = told(&mut client, opt::SET_META_CONTEXT);
        let names: Vec<_> = set.iter().map(|(_, name)| name.clone()).collect();
        set.dedup_by_key(|(id, _)| *id);
        assert_eq!(set.len(), names.len(), "ids differ");
        names
    };
    assert_eq!(set(&ALL), ALL);
    assert_eq!(set(&["base:", "qemu:", "qemu:dirty-bitmap:"]), [""; 0]);
    assert_eq!(set(&[]), [""; 0]);
    assert_eq!(set(&[ALL[2], ALL[2], "x-none:at-all"]), [ALL[2]]);
}

/// Bad inputs, 60 and 62.
#[test]
fn malformed_requests_for_contexts_are_refused() {
    let (_disk, server) = served();
    let mut client = Client::greeted(&server);
    for option in [opt::LIST_META_CONTEXT, opt::SET_META_CONTEXT] {
        // Structured replies come first.
        client.refused(option, &meta_request("disk", &[]), rep::ERR_INVALID);
    }
    client.ask_option(opt::STRUCTURED_REPLY, b"");
    let many = [string("disk"), u32::MAX.to_be_bytes().to_vec()].concat();
    let long_name = [u32::MAX.to_be_bytes().to_vec(), b"disk".to_vec()].concat();
    let long_query = [string("disk"), vec![0, 0, 0, 1, 0, 0, 0, 2, b'x']].concat();
    let rest = [meta_request("disk", &["base:"]), vec![0]].concat();
    for option in [opt::LIST_META_CONTEXT, opt::SET_META_CONTEXT] {
        for data in [&b""[..], &string("disk"), &many, &long_name, &long_query, &rest] {
            client.refused(option, data, rep::ERR_INVALID);
        }
        client.refused(option, &meta_request("none", &["base:"]), rep::ERR_UNKNOWN);
        let too_long = "q".repeat(4097);
        client.refused(option, &meta_request("disk", &[&too_long]), rep::ERR_TOO_BIG);
        client.refused(option, &meta_request(&too_long, &[]), rep::ERR_TOO_BIG);
    }
}

/// The descriptors of a status chunk, after its context id.
fn descriptors(payload: &[u8]) -> (u32, Vec<(u32, u32)>) {
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    let list = payload[4..].chunks(8).map(|each| (number(&each[..4]), number(&each[4..])));
    (number(&payload[..4]), list.collect())
}

#[test]
fn block_status_tells_each_context_once() {
    let (_disk, server) = served();
    let mut client = Client::structured(&server, &["qemu:dirty-bitmap:b0", "base:allocation"]);
    let ask = Ask::new(cmd::BLOCK_STATUS, MIB - 512, 2 * MIB);
    client.send(&ask.compact());
    let first = client.chunk();
    let second = client.chunk();
    assert_eq!((first.kind, first.flags, first.cookie), (BLOCK_STATUS, 0, ask.cookie));
    assert_eq!((second.kind, second.flags, second.cookie), (BLOCK_STATUS, DONE, ask.cookie));
    let mib = 1 << 20;
    let (allocation, extents) = descriptors(&first.payload);
    assert_eq!(extents, [(512, 3), (mib, 3), (mib - 512, 3)]);
    let (bitmap, extents) = descriptors(&second.payload);
    assert_eq!(extents, [(512, 1), (mib, 0), (mib - 512, 1)]);
    assert_ne!(allocation, bitmap);
    client.send(&ask.flags(flag::REQ_ONE).compact());
    assert_eq!(descriptors(&client.chunk().payload).1, [(512, 3)]);
    assert_eq!(descriptors(&client.chunk().payload).1, [(512, 1)]);
    client.disconnect();
}

#[test]
fn block_status_that_cannot_be_is_refused() {
    let (_disk, server) = served();
    let mut client = Client::structured(&server, &["base:allocation"]);
    let mut error = |ask: Ask| {
        client.send(&ask.compact());
        client.chunk().error()
    };
    assert_eq!(error(Ask::new(cmd::BLOCK_STATUS, 0, 0)), EINVAL);
    assert_eq!(error(Ask::new(cmd::BLOCK_STATUS, SIZE, 1)), EINVAL);
    assert_eq!(error(Ask::new(cmd::BLOCK_STATUS, u64::MAX, 1)), EINVAL);
    assert_eq!(error(Ask::new(cmd::BLOCK_STATUS, 0, 1).flags(flag::PAYLOAD_LEN)), EINVAL);
    let mut client = Client::structured(&server, &[]);
    client.send(&Ask::new(cmd::BLOCK_STATUS, 0, 1).compact());
    assert_eq!(client.chunk().error(), EINVAL, "no context was chosen");
    let mut client = Client::simple(&server);
    assert_eq!(client.ask(&Ask::new(cmd::BLOCK_STATUS, 0, 1)), EINVAL);
}

/// Contexts that were chosen for one export do not hold for another.
#[test]
fn contexts_of_another_export_are_not_there() {
    let (_disk, server) = served();
    let mut client = Client::connect(&server);
    client.greet(FIXED);
    client.ask_option(opt::STRUCTURED_REPLY, b"");
    client.option(opt::SET_META_CONTEXT, &meta_request("mirror", &["base:allocation"]));
    assert_eq!(told(&mut client, opt::SET_META_CONTEXT).len(), 1);
    client.go("disk");
    client.send(&Ask::new(cmd::BLOCK_STATUS, 0, 1).compact());
    assert_eq!(client.chunk().error(), EINVAL);
}

/// A choice that is refused takes the earlier one back.
#[test]
fn a_refused_choice_of_contexts_leaves_none() {
    let (_disk, server) = served();
    let mut client = Client::greeted(&server);
    client.ask_option(opt::STRUCTURED_REPLY, b"");
    client.option(opt::SET_META_CONTEXT, &meta_request("", &["base:allocation"]));
    assert_eq!(told(&mut client, opt::SET_META_CONTEXT).len(), 1);
    client.refused(opt::SET_META_CONTEXT, b"", rep::ERR_INVALID);
    client.go("");
    client.send(&Ask::new(cmd::BLOCK_STATUS, 0, 1).compact());
    assert_eq!(client.chunk().error(), EINVAL);
}
