//! Extended headers: lengths of 64 bits in requests and replies, and payloads with a length.

use super::client::{
    Ask, BLOCK_STATUS_EXT, Client, DONE, EINVAL, ENOSPC, NONE, OFFSET_DATA, OFFSET_HOLE, cmd, flag,
};
use super::memory::{SIZE, served};

const MIB: u64 = 1 << 20;

#[test]
fn reads_and_writes_have_extended_headers() {
    let (disk, server) = served();
    let mut client = Client::extended(&server, &[]);
    // QEMU 10.0 leaves the flag out.
    for flags in [flag::PAYLOAD_LEN, 0] {
        let ask = Ask::new(cmd::WRITE, 8192, 5).flags(flags);
        client.send(&[&ask.extended()[..], b"hello"].concat());
        let chunk = client.extended_chunk(&ask);
        assert_eq!((chunk.kind, chunk.flags, chunk.payload.len()), (NONE, DONE, 0));
    }
    assert_eq!(disk.contents(8192, 5), b"hello");
    let ask = Ask::new(cmd::READ, 8192, 5);
    client.send(&ask.extended());
    let chunk = client.extended_chunk(&ask);
    assert_eq!((chunk.kind, chunk.flags), (OFFSET_DATA, DONE));
    assert_eq!(chunk.payload, [&8192_u64.to_be_bytes()[..], b"hello"].concat());
    let ask = Ask::new(cmd::READ, 0, 4096);
    client.send(&ask.extended());
    let chunk = client.extended_chunk(&ask);
    assert_eq!((chunk.kind, chunk.payload.len()), (OFFSET_HOLE, 12));
    client.send(&Ask::new(cmd::DISC, 0, 0).extended());
    client.hung_up();
}

/// Bad inputs, 65: lengths of 64 bits.
#[test]
fn lengths_of_64_bits_are_lengths() {
    let (disk, server) = served();
    disk.fill(0, &[1]);
    let mut client = Client::extended(&server, &[]);
    let mut error = |ask: Ask| {
        client.send(&ask.extended());
        let chunk = client.extended_chunk(&ask);
        if chunk.kind == NONE { 0 } else { chunk.error() }
    };
    assert_eq!(error(Ask::new(cmd::WRITE_ZEROES, 0, SIZE)), 0);
    for length in [SIZE + 1, 1 << 32, 1 << 63, u64::MAX] {
        assert_eq!(error(Ask::new(cmd::READ, 0, length)), EINVAL);
        assert_eq!(error(Ask::new(cmd::TRIM, 1, length)), EINVAL);
        assert_eq!(error(Ask::new(cmd::CACHE, 1, length)), EINVAL);
        assert_eq!(error(Ask::new(cmd::BLOCK_STATUS, 0, length)), EINVAL);
        assert_eq!(error(Ask::new(cmd::WRITE_ZEROES, u64::MAX, length)), ENOSPC);
    }
    assert_eq!(disk.contents(0, 1), [0]);
}

fn numbers(payload: &[u8]) -> Vec<u64> {
    payload.chunks(8).map(|each| u64::from_be_bytes(each.try_into().unwrap())).collect()
}

#[test]
fn block_status_has_lengths_of_64_bits() {
    let (_disk, server) = served();
    let mut client = Client::extended(&server, &["qemu:dirty-bitmap:b1"]);
    let ask = Ask::new(cmd::BLOCK_STATUS, 0, 2 * MIB);
    client.send(&ask.extended());
    let chunk = client.extended_chunk(&ask);
    assert_eq!((chunk.kind, chunk.flags), (BLOCK_STATUS_EXT, DONE));
    assert_eq!(chunk.payload[4..8], [0, 0, 0, 2]);
    assert_eq!(numbers(&chunk.payload[8..]), [MIB, 1, MIB, 0]);
    client.send(&Ask::new(cmd::DISC, 0, 0).extended());
    client.hung_up();
}

#[test]
fn a_payload_of_block_status_says_which_contexts() {
    let (_disk, server) = served();
    let contexts = ["base:allocation", "qemu:dirty-bitmap:b0", "qemu:dirty-bitmap:b1"];
    let mut client = Client::extended(&server, &contexts);
    let ask = Ask::new(cmd::BLOCK_STATUS, 0, MIB);
    client.send(&ask.extended());
    let mut id = || client.extended_chunk(&ask).payload[..4].to_vec();
    let ids = [id(), id(), id()];
    let send = |client: &mut Client, length: u64, ids: &[&[u8]]| {
        let payload = [&length.to_be_bytes()[..], &ids.concat()].concat();
        let ask = Ask::new(cmd::BLOCK_STATUS, 0, payload.len() as u64).flags(flag::PAYLOAD_LEN);
        client.send(&[ask.extended(), payload].concat());
        ask
    };
    let ask = send(&mut client, MIB, &[&ids[2], &ids[0]]);
    let (first, second) = (client.extended_chunk(&ask), client.extended_chunk(&ask));
    assert_eq!((&first.payload[..4], first.flags), (&ids[0][..], 0));
    assert_eq!((&second.payload[..4], second.flags), (&ids[2][..], DONE));
    assert_eq!(numbers(&second.payload[8..]), [MIB, 1]);
    let (one, none) = (&ids[0][..], &[0xff; 4][..]);
    for wrong in [vec![], vec![none], vec![one, none], vec![one, one], vec![&one[..3]]] {
        let ask = send(&mut client, MIB, &wrong);
        assert_eq!(client.extended_chunk(&ask).error(), EINVAL, "{wrong:?}");
    }
    let ask = send(&mut client, SIZE + 1, &[&ids[0]]);
    assert_eq!(client.extended_chunk(&ask).error(), EINVAL);
    let many = vec![&ids[0][..]; 100];
    let ask = send(&mut client, MIB, &many);
    assert_eq!(client.extended_chunk(&ask).error(), EINVAL);
}

#[test]
fn a_payload_that_does_not_go_with_the_command_is_skipped() {
    let (_disk, server) = served();
    let mut client = Client::extended(&server, &[]);
    for command in [cmd::READ, cmd::FLUSH, cmd::TRIM, cmd::CACHE, cmd::WRITE_ZEROES, 99] {
        let ask = Ask::new(command, 0, 1000).flags(flag::PAYLOAD_LEN);
        client.send(&[ask.extended(), vec![7; 1000]].concat());
        assert_eq!(client.extended_chunk(&ask).error(), EINVAL, "{command}");
    }
    let ask = Ask::new(cmd::FLUSH, 0, 0);
    client.send(&ask.extended());
    assert_eq!(client.extended_chunk(&ask).kind, NONE);
}

#[test]
fn a_compact_header_is_hung_up_on() {
    let (_disk, server) = served();
    let mut client = Client::extended(&server, &[]);
    // Padded, so that it is as long as an extended one.
    client.send(&[Ask::new(cmd::READ, 0, 1).compact(), vec![0; 4]].concat());
    client.hung_up();
}
