//! What a server may say before the transmission.

use super::server::{
    CONTEXT, EXTENDED, FLAGS, SIMPLE, SIZE, STRUCTURED, before_go, blocks, connect, export, go,
    greeting, handshake, joined, opt, rep, reply, reply_header,
};

const STYLES: [u32; 3] = [SIMPLE, STRUCTURED, EXTENDED];

/// That a client of a server that says `says` is told so.
#[track_caller]
fn refused(says: &[u8], why: &str) {
    assert_eq!(connect(says).unwrap_err().to_string(), why);
}

#[track_caller]
fn out_of_step(says: &[u8], what: &str) {
    refused(says, &format!("the server does not follow the protocol: {what}"));
}

#[test]
fn a_greeting_of_another_kind_is_refused() {
    let old = "it is not an NBD server of the new style";
    refused(b"SSH-2.0-OpenSSH_9.9\r\n", old);
    refused(b"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53\0\0", old);
    refused(b"NBDMAGIX\x49\x48\x41\x56\x45\x4f\x50\x54\0\x03", old);
    let not_fixed = "the server is too old: it does not haggle in the fixed new style";
    refused(&greeting(0), not_fixed);
    refused(&greeting(2), not_fixed);
}

#[test]
fn flags_of_a_greeting_that_are_not_known_are_left_alone() {
    let mut says = handshake(SIMPLE);
    says[16..18].copy_from_slice(&u16::MAX.to_be_bytes());
    connect(&says).unwrap();
}

/// Wherever it stops, that is an error, and not taken for anything else.
#[test]
fn a_handshake_may_end_anywhere() {
    for style in STYLES {
        let says = handshake(style);
        for length in 0..says.len() {
            let error = connect(&says[..length]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{length}: {error}");
        }
        connect(&says).unwrap();
    }
}

/// Every byte of a handshake in turn is another one. What matters is that there is an answer, and that
/// what the client believes of the disk can be.
#[test]
fn a_handshake_with_another_byte_is_refused_or_understood() {
    for style in STYLES {
        let says = handshake(style);
        for place in 0..says.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut says = says.clone();
                says[place] ^= change;
                let Ok(disk) = connect(&says) else { continue };
                let limits = qbm_core::Storage::limits(&disk);
                assert!(limits.alignment.is_power_of_two() && limits.alignment <= 64 << 10);
                assert!(limits.max_transfer >= limits.alignment && limits.max_transfer <= 2 << 20);
            }
        }
    }
}

#[test]
fn replies_to_options_have_their_magic_and_their_option() {
    let mut says = joined(&[&greeting(3), &reply(EXTENDED, rep::ACK, b"")]);
    out_of_step(
        &joined(&[&greeting(3), &reply(STRUCTURED, rep::ACK, b"")]),
        "a reply to another option",
    );
    says[18] ^= 1;
    out_of_step(&says, "no reply to an option");
}

#[test]
fn replies_of_a_kind_that_is_not_due_are_refused() {
    let not_due = "a reply of a kind that is not due";
    for kind in [0, rep::SERVER, rep::INFO, rep::META_CONTEXT, 5, 0x7fff_ffff] {
        out_of_step(&joined(&[&greeting(3), &reply(EXTENDED, kind, b"")]), not_due);
    }
    let context = [&greeting(3)[..], &reply(EXTENDED, rep::ACK, b"")].concat();
    for kind in [0, rep::SERVER, rep::INFO, 5] {
        out_of_step(&joined(&[&context, &reply(opt::SET_META_CONTEXT, kind, b"")]), not_due);
    }
    for kind in [0, rep::SERVER, rep::META_CONTEXT, 5] {
        out_of_step(&joined(&[&before_go(SIMPLE), &reply(opt::GO, kind, b"")]), not_due);
    }
    let assent = reply(EXTENDED, rep::ACK, b"x");
    out_of_step(&joined(&[&greeting(3), &assent]), "an assent with data");
}

#[test]
fn replies_without_end_are_cut_off() {
    let endless = "replies without end";
    let info = reply(opt::GO, rep::INFO, &export(SIZE, FLAGS));
    out_of_step(&joined(&[&before_go(SIMPLE), &info.repeat(100)]), endless);
}

#[test]
fn a_reply_of_too_many_bytes_is_refused_before_they_come() {
    for length in [(32 << 10) + 1, u32::MAX] {
        let says = joined(&[&before_go(SIMPLE), &reply_header(opt::GO, rep::INFO, length)]);
        out_of_step(&says, "a reply that is too long");
    }
}

/// Every refusal of the document, one of a later one, and words for terminals to trip over.
#[test]
fn refusals_are_told_in_words() {
    for (number, words, why) in [
        (1, &b""[..], "the server says: no such option"),
        (2, b"ask tomorrow", "the server says: not allowed: ask tomorrow"),
        (3, b"", "the server says: not now"),
        (4, b"", "the server says: refused"),
        (5, b"", "the server says: TLS is required"),
        (6, b"disk?", "the server says: no such export: disk?"),
        (7, b"", "the server says: it is about to end"),
        (8, b"", "the server says: refused"),
        (9, b"", "the server says: too much"),
        (10, b"", "the server says: extended headers are required"),
        (0x7fff_ffff, b"", "the server says: refused"),
        (2, b"\x1b]0;x\x07\n\xff", "the server says: not allowed: \\u{1b}]0;x\\u{7}\\n\u{fffd}"),
    ] {
        let refusal = reply(opt::GO, 1 << 31 | number, words);
        refused(&joined(&[&before_go(SIMPLE), &refusal]), why);
    }
    let long = reply(opt::GO, rep::ERR_UNSUP, &[b'x'; 4097]);
    out_of_step(&joined(&[&before_go(SIMPLE), &long]), "an explanation of 4097 bytes");
}

#[test]
fn contexts_that_were_not_asked_for_are_refused() {
    let agreed = joined(&[&greeting(3), &reply(EXTENDED, rep::ACK, b"")]);
    let context = |id: u32, name: &[u8]| {
        reply(opt::SET_META_CONTEXT, rep::META_CONTEXT, &joined(&[&id.to_be_bytes(), name]))
    };
    let good = context(CONTEXT, b"base:allocation");
    let not_asked = "a context that was not asked for";
    for bad in [
        context(1, b"qemu:dirty-bitmap:b"),
        context(1, b""),
        context(1, b"base:allocation\0"),
        joined(&[&good, &good]),
    ] {
        out_of_step(&joined(&[&agreed, &bad]), not_asked);
    }
    let short = reply(opt::SET_META_CONTEXT, rep::META_CONTEXT, b"abc");
    out_of_step(&joined(&[&agreed, &short]), "a context of 3 bytes");
}

#[test]
fn information_of_another_length_is_refused() {
    let before = before_go(SIMPLE);
    for data in [
        &b""[..],
        b"\0",
        &export(SIZE, FLAGS)[..11],
        &joined(&[&export(SIZE, FLAGS), b"\0"]),
        &blocks([1, 4096, 4096])[..13],
        &joined(&[&blocks([1, 4096, 4096]), b"\0"]),
    ] {
        let what = format!("information of {} bytes", data.len());
        out_of_step(&joined(&[&before, &reply(opt::GO, rep::INFO, data)]), &what);
    }
    // What later documents add is left alone.
    let later = reply(opt::GO, rep::INFO, b"\x47\x11what nobody knows");
    connect(&joined(&[&before, &later, &go(SIZE, FLAGS, [1, 1, 1])])).unwrap();
    let silent = reply(opt::GO, rep::ACK, b"");
    out_of_step(&joined(&[&before, &silent]), "no size before the transmission");
}

#[test]
fn disks_and_blocks_that_cannot_be_are_refused() {
    let big = 1 << 63;
    for (size, sizes) in [
        (SIZE, [0, 4096, 4096]),
        (SIZE, [3, 4096, 4096]),
        (SIZE, [128 << 10, 128 << 10, 1 << 20]),
        (SIZE, [1 << 31, 1 << 31, u32::MAX]),
        (SIZE, [512, 0, 4096]),
        (SIZE, [512, 4097, 8192]),
        (SIZE, [4096, 4096, 4095]),
        (SIZE, [1, 1, 0]),
        (SIZE + 1, [512, 512, 4096]),
        (big, [1, 4096, 4096]),
        (u64::MAX, [1, 4096, 4096]),
    ] {
        let [least, preferred, most] = sizes;
        let blocks = format!("{least}, {preferred}, {most}");
        let why =
            format!("the server has a disk of {size} bytes in blocks ({blocks}), which cannot be");
        refused(&joined(&[&before_go(SIMPLE), &go(size, FLAGS, sizes)]), &why);
    }
    connect(&joined(&[&before_go(SIMPLE), &go(big - 1, FLAGS, [1, 1 << 31, u32::MAX])])).unwrap();
}

#[test]
fn an_export_that_is_of_no_use_is_refused() {
    for (flags, why) in [
        (FLAGS | 2, "the server exports it read-only"),
        (FLAGS & !4, "the server cannot flush, so that nothing would be known to be durable"),
        (0, "the server does not follow the protocol: flags that say that there are none"),
    ] {
        refused(&joined(&[&before_go(SIMPLE), &go(SIZE, flags, [1, 1, 1])]), why);
    }
    connect(&joined(&[&before_go(SIMPLE), &go(SIZE, !0x102, [1, 1, 1])])).unwrap();
}
