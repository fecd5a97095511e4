//! Any line is a command of `qbm io` within its limits, nothing at all, or a refusal.

use qbm_cli::io::language::{Command, MAX_REQUEST, Request, Source, Write, parse};

/// Reads each line of the bytes as a command.
///
/// # Panics
///
/// If what it asks for is past the limits, or depends on how many spaces are between its words.
pub fn language(bytes: &[u8]) {
    for line in String::from_utf8_lossy(bytes).lines() {
        let command = parse(line);
        let spaced = format!("  {}  ", line.replace(' ', "   "));
        assert_eq!(parse(&spaced), command, "{spaced:?}");
        match command {
            Ok(None) => assert!(line.chars().all(|character| character == ' '), "{line:?}"),
            Ok(Some(command)) => check(line, &command),
            Err(_) => {}
        }
    }
}

fn check(line: &str, command: &Command) {
    match command {
        Command::Read(read) => {
            check_request(line, &read.request);
            if let Some(verify) = read.verify {
                let end = verify.start.checked_add(verify.length);
                assert!(end.is_some_and(|end| end <= read.request.length), "{line:?}: {verify:?}");
            }
        }
        // Zeroes are not carried, so there may be more of them.
        Command::Write(Write { request, source: Source::Zeroes { .. }, .. }) => {
            check_place(line, request.offset);
            check_place(line, request.length);
        }
        Command::Write(write) => check_request(line, &write.request),
        Command::Discard(request) => check_request(line, request),
        Command::Truncate { size, .. } => check_place(line, *size),
        Command::Alloc { offset, length } => {
            check_place(line, *offset);
            check_place(line, *length);
        }
        _ => {}
    }
}

fn check_request(line: &str, request: &Request) {
    check_place(line, request.offset);
    assert!(request.length <= MAX_REQUEST, "{line:?}: {} bytes", request.length);
}

/// A place that a file can have.
fn check_place(line: &str, place: u64) {
    assert!(i64::try_from(place).is_ok(), "{line:?}: {place}");
}
