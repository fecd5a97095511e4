//! What a server may answer to a request: the first one, unless said otherwise, of eight bytes at 0.

use std::io;

use futures_executor::block_on;
use qbm_core::{Buffer, ByteRange, Storage, Unmap};
use qbm_nbd::NbdStorage;

use super::server::{
    CONTEXT, DONE, EXTENDED, SIMPLE, STRUCTURED, answering, chunk, chunk_header, connected, data,
    error, extents, hole, joined, kind, long_extents, read, simple,
};

const CHUNKS: [u32; 2] = [STRUCTURED, EXTENDED];

fn status(disk: &NbdStorage) -> io::Result<qbm_core::BlockStatus> {
    block_on(disk.block_status(ByteRange::new(0, 8)))
}

fn discard(disk: &NbdStorage) -> io::Result<()> {
    block_on(disk.discard(ByteRange::new(0, 8)))
}

/// That the answer to a read is refused.
#[track_caller]
fn read_refused(style: u32, answer: &[u8], what: &str) {
    let error = read(&connected(style, answer), 0, 8).unwrap_err();
    assert_eq!(error.to_string(), format!("the server does not follow the protocol: {what}"));
}

/// That the answer about what is zero is refused.
#[track_caller]
fn status_refused(style: u32, answer: &[u8], what: &str) {
    let error = status(&connected(style, answer)).unwrap_err();
    assert_eq!(error.to_string(), format!("the server does not follow the protocol: {what}"));
}

/// What an honest server answers to a read of `abcd` and four zeroes.
fn honest(style: u32) -> Vec<u8> {
    match style {
        SIMPLE => joined(&[&simple(0, 1), b"abcd\0\0\0\0"]),
        _ => joined(&[
            &chunk(style, 0, kind::HOLE, &hole(4, 4)),
            &chunk(style, 0, kind::DATA, &data(0, b"abcd")),
            &chunk(style, DONE, kind::NONE, b""),
        ]),
    }
}

#[test]
fn an_answer_may_end_anywhere() {
    for style in [SIMPLE, STRUCTURED, EXTENDED] {
        let answer = honest(style);
        for length in 0..answer.len() {
            // The connection is made anew, and nobody is there.
            let error = read(&connected(style, &answer[..length]), 0, 8).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{length}");
        }
        assert_eq!(read(&connected(style, &answer), 0, 8).unwrap()[..], *b"abcd\0\0\0\0");
    }
}

/// Every byte of an answer in turn is another one: an error, or what the server says.
#[test]
fn an_answer_with_another_byte_is_refused_or_understood() {
    for style in [SIMPLE, STRUCTURED, EXTENDED] {
        let answer = honest(style);
        for place in 0..answer.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut answer = answer.clone();
                answer[place] ^= change;
                let bytes = read(&connected(style, &answer), 0, 8);
                let differ = |bytes: Buffer| {
                    bytes.iter().zip(b"abcd\0\0\0\0").filter(|(one, other)| one != other).count()
                };
                assert!(bytes.map_or(0, differ) <= 1, "{style} {place}");
            }
        }
    }
}

#[test]
fn replies_have_the_magic_of_their_style() {
    read_refused(SIMPLE, &[0; 64], "no reply");
    read_refused(SIMPLE, &chunk(STRUCTURED, DONE, kind::NONE, b""), "no reply");
    read_refused(STRUCTURED, &chunk(EXTENDED, DONE, kind::NONE, b""), "no reply");
    read_refused(EXTENDED, &chunk(STRUCTURED, DONE, kind::NONE, b""), "no reply");
    read_refused(EXTENDED, &simple(0, 1), "no reply");
    let due = "a simple reply where chunks are due";
    read_refused(STRUCTURED, &joined(&[&simple(0, 1), &[0; 8]]), due);
    read_refused(STRUCTURED, &simple(5, 1), due);
    status_refused(STRUCTURED, &simple(22, 1), due);
}

#[test]
fn replies_are_to_the_request() {
    for cookie in [0, 2, u64::MAX] {
        read_refused(SIMPLE, &joined(&[&simple(0, cookie), &[0; 8]]), "a reply to another request");
        for style in CHUNKS {
            let other = chunk_header(style, (DONE, kind::NONE), (cookie, 0), 0);
            read_refused(style, &other, "a reply to another request");
        }
    }
    let elsewhere = chunk_header(EXTENDED, (DONE, kind::NONE), (1, 512), 0);
    read_refused(EXTENDED, &elsewhere, "a reply of another offset");
}

/// Nothing of what the caller's buffer had may pass for data: each byte comes, and comes once.
#[test]
fn each_byte_of_a_read_comes_once() {
    let wrong = "data of another length or place";
    for style in CHUNKS {
        let done = chunk(style, DONE, kind::NONE, b"");
        let with = |contents: &[u8]| chunk(style, 0, kind::DATA, contents);
        let half = with(&data(0, b"abcd"));
        for (bad, what) in [
            (done.clone(), "a read in part"),
            (joined(&[&half, &done]), "a read in part"),
            (joined(&[&half, &half, &done]), wrong),
            (joined(&[&half, &with(&data(2, b"cdef"))]), wrong),
            (joined(&[&half, &chunk(style, 0, kind::HOLE, &hole(3, 5))]), wrong),
            (with(&data(8, b"x")), wrong),
            (with(&data(1, b"abcdefgh")), wrong),
            (with(&data(u64::MAX, b"ab")), wrong),
            (with(&data(0, b"")), wrong),
            (with(b"short"), wrong),
            (with(b""), wrong),
            (chunk(style, 0, kind::HOLE, &hole(0, 0)), wrong),
            (chunk(style, 0, kind::HOLE, &hole(0, u32::MAX)), wrong),
            (chunk(style, 0, kind::HOLE, &hole(u64::MAX, 2)), wrong),
            (chunk(style, 0, kind::HOLE, &data(0, b"abc")), wrong),
            (chunk(style, 0, kind::HOLE, &data(0, b"abcde")), wrong),
        ] {
            read_refused(style, &bad, what);
        }
        // Of more bytes than it may have, nothing is taken.
        let long = chunk_header(style, (0, kind::DATA), (1, 0), u64::from(u32::MAX));
        read_refused(style, &joined(&[&long, &[0; 8]]), wrong);
    }
    let long = chunk_header(EXTENDED, (0, kind::DATA), (1, 0), u64::MAX);
    read_refused(EXTENDED, &joined(&[&long, &[0; 8]]), wrong);
    // A request at 8, and data from before it.
    let answer = chunk_header(STRUCTURED, (0, kind::DATA), (1, 0), 16);
    let disk = connected(STRUCTURED, &joined(&[&answer, &data(0, b"abcdefgh")]));
    let error = read(&disk, 8, 8).unwrap_err();
    assert_eq!(error.to_string(), format!("the server does not follow the protocol: {wrong}"));
}

#[test]
fn a_read_in_more_pieces_than_any_server_makes_is_cut_off() {
    let pieces = (0..2000).map(|index| {
        let place = 2 * index + 1;
        chunk(STRUCTURED, 0, kind::DATA, &data(place, b"x"))
    });
    let pieces: Vec<u8> = pieces.flatten().collect();
    let error = read(&connected(STRUCTURED, &pieces), 0, 8192).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server does not follow the protocol: data of another length or place"
    );
}

#[test]
fn chunks_of_a_kind_that_was_not_asked_for_are_refused() {
    let not_asked = "a chunk that was not asked for";
    for style in CHUNKS {
        for other in [3, 4, 7, 0x7fff] {
            read_refused(style, &chunk(style, DONE, other, b""), not_asked);
        }
        let (short, long) = (extents(CONTEXT, &[[8, 0]]), long_extents(CONTEXT, 1, &[[8, 0]]));
        for (kind, contents) in [(kind::STATUS, &short), (kind::STATUS_EXT, &long)] {
            read_refused(style, &chunk(style, DONE, kind, contents), not_asked);
        }
        status_refused(style, &chunk(style, DONE, kind::DATA, &data(0, b"abcdefgh")), not_asked);
        status_refused(style, &chunk(style, DONE, kind::HOLE, &hole(0, 8)), not_asked);
        // The extents of the other style.
        let (kind, contents) =
            if style == EXTENDED { (kind::STATUS, &short) } else { (kind::STATUS_EXT, &long) };
        status_refused(style, &chunk(style, DONE, kind, contents), not_asked);
        let none = "an empty chunk that is none";
        read_refused(style, &chunk(style, DONE, kind::NONE, b"x"), none);
        read_refused(style, &chunk(style, 0, kind::NONE, b""), none);
    }
}

#[test]
fn extents_that_cannot_be_are_refused() {
    let short = |contents: &[u8]| chunk(STRUCTURED, DONE, kind::STATUS, contents);
    let long = |contents: &[u8]| chunk(EXTENDED, DONE, kind::STATUS_EXT, contents);
    let good = chunk(STRUCTURED, 0, kind::STATUS, &extents(CONTEXT, &[[8, 3]]));
    let done = chunk(STRUCTURED, DONE, kind::NONE, b"");
    for (bad, what) in [
        (done, "no extents"),
        (joined(&[&good, &good]), "extents again"),
        (short(b""), "extents of 0 bytes"),
        (short(&extents(CONTEXT, &[])), "extents of 4 bytes"),
        (short(&extents(CONTEXT, &[[8, 3]])[..11]), "extents of 11 bytes"),
        (short(&joined(&[&extents(CONTEXT, &[[8, 3]]), b"x"])), "extents of 13 bytes"),
        (short(&extents(CONTEXT + 1, &[[8, 3]])), "extents of another context"),
        (short(&extents(CONTEXT, &[[0, 3]])), "an extent of nothing"),
    ] {
        status_refused(STRUCTURED, &bad, what);
    }
    for (bad, what) in [
        (long(&long_extents(CONTEXT, 0, &[])), "extents of 8 bytes"),
        (long(&long_extents(CONTEXT, 2, &[[8, 3]])), "extents of 24 bytes"),
        (long(&long_extents(CONTEXT, u32::MAX, &[[8, 3]])), "extents of 24 bytes"),
        (long(&long_extents(CONTEXT, 1, &[[8, 3], [8, 0]])), "extents of 40 bytes"),
        (long(&long_extents(CONTEXT + 1, 1, &[[8, 3]])), "extents of another context"),
        (long(&long_extents(CONTEXT, 1, &[[0, 3]])), "an extent of nothing"),
    ] {
        status_refused(EXTENDED, &bad, what);
    }
    for style in CHUNKS {
        let kind = if style == EXTENDED { kind::STATUS_EXT } else { kind::STATUS };
        let endless = chunk_header(style, (0, kind), (1, 0), (1 << 20) + 1);
        status_refused(style, &endless, "a chunk that is too long");
    }
}

#[test]
fn an_extent_that_is_longer_than_the_range_is_cut() {
    let long = chunk(EXTENDED, DONE, kind::STATUS_EXT, &long_extents(CONTEXT, 1, &[[u64::MAX, 3]]));
    let more = extents(CONTEXT, &[[u32::MAX, 3], [1, 0]]);
    for (style, answer) in
        [(EXTENDED, long), (STRUCTURED, chunk(STRUCTURED, DONE, kind::STATUS, &more))]
    {
        let status = status(&connected(style, &answer)).unwrap();
        assert_eq!((status.length, status.data), (8, false));
    }
}

/// Every error of the document, one of a later one, and words for terminals to trip over.
#[test]
fn errors_are_told_and_the_connection_goes_on() {
    use io::ErrorKind::{InvalidInput, Other, PermissionDenied, StorageFull, Unsupported};
    for (code, expected) in [
        (1, PermissionDenied),
        (5, Other),
        (12, Other),
        (22, InvalidInput),
        (28, StorageFull),
        (75, InvalidInput),
        (95, Unsupported),
        (108, Other),
        (u32::MAX, Other),
    ] {
        let told = format!("the server failed it with error {code}");
        let next = |style| match style {
            SIMPLE => joined(&[&simple(0, 2), b"abcdefgh"]),
            _ => {
                let header = chunk_header(style, (DONE, kind::DATA), (2, 0), 16);
                joined(&[&header, &data(0, b"abcdefgh")])
            }
        };
        let disk = answering(SIMPLE, &[simple(code, 1), next(SIMPLE)]);
        let error_of = |disk: &NbdStorage| {
            let error = read(disk, 0, 8).unwrap_err();
            assert_eq!(error.kind(), expected, "{code}");
            error.to_string()
        };
        assert_eq!(error_of(&disk), told);
        assert_eq!(read(&disk, 0, 8).unwrap()[..], *b"abcdefgh");
        for style in CHUNKS {
            let offset = joined(&[&error(code, b"\x1b[2J"), &0_u64.to_be_bytes()]);
            let answer = joined(&[
                &chunk(style, 0, kind::DATA, &data(0, b"abcd")),
                &chunk(style, 0, kind::ERROR, &error(5, b"first")),
                &chunk(style, DONE, kind::ERROR_OFFSET, &offset),
            ]);
            let disk = answering(style, &[answer, next(style)]);
            assert_eq!(error_of(&disk), format!("{told}: \\u{{1b}}[2J"));
            assert_eq!(read(&disk, 0, 8).unwrap()[..], *b"abcdefgh");
        }
    }
}

#[test]
fn errors_that_cannot_be_are_refused() {
    for style in CHUNKS {
        let with = |contents: &[u8]| chunk(style, DONE, kind::ERROR, contents);
        for (bad, what) in [
            (with(&error(0, b"")), "an error that is none"),
            (with(b""), "an error of 0 bytes"),
            (with(&error(5, b"x")[..6]), "an error of 6 bytes"),
            (with(&error(5, &[b'x'; 4097])), "an explanation of 4097 bytes"),
            (chunk(style, 0, kind::ERROR, &error(5, b"")).repeat(65), "errors without end"),
            (
                chunk_header(style, (DONE, kind::ERROR), (1, 0), (1 << 20) + 1),
                "a chunk that is too long",
            ),
        ] {
            read_refused(style, &bad, what);
        }
    }
}

/// A request for nothing but being done is answered by a simple reply or an empty chunk, and nothing else.
#[test]
fn what_was_not_read_is_not_answered_with_data() {
    for style in CHUNKS {
        let answer = joined(&[&chunk(style, DONE, kind::DATA, &data(0, b"x"))]);
        let error = discard(&connected(style, &answer)).unwrap_err();
        let why = "the server does not follow the protocol: a chunk that was not asked for";
        assert!(error.to_string().contains(why), "{error}");
        discard(&connected(style, &chunk(style, DONE, kind::NONE, b""))).unwrap();
    }
    discard(&connected(STRUCTURED, &simple(0, 1))).unwrap();
    let disk = connected(STRUCTURED, &simple(28, 1));
    let zeroes = block_on(disk.write_zeroes(ByteRange::new(0, 8), Unmap::Allowed));
    assert_eq!(zeroes.unwrap_err().kind(), io::ErrorKind::StorageFull);
}
