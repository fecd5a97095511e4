//! Any bytes are a client of the NBD server, in its handshake or in transmission; or a server of the client.

mod client;
mod disk;
mod wire;

use std::sync::{Arc, OnceLock};

use qbm_core::Access;
use qbm_nbd::limits::{MAX_OPTION, MAX_OPTIONS, MAX_SKIPPED_PAYLOAD};
use qbm_nbd::protocol::{Command, Data, Malformed, OPTION_REPLY_MAGIC, Request, Style};
use qbm_nbd::{Export, Limits, Server};

pub use self::client::client;
use self::disk::SmallDisk;
use self::wire::converse;

/// One server for all inputs, as it is for all clients.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let disk = Arc::new(SmallDisk::default());
        let export = |name: &str, access| Export {
            name: name.to_owned(),
            description: "a disk".to_owned(),
            disk: Arc::clone(&disk) as _,
            access,
            bitmaps: vec!["b".to_owned()],
        };
        let exports = vec![export("disk", Access::Write), export("mirror", Access::Read)];
        Server::new(exports, Limits::default(), |_| {})
    })
}

/// What the server says to a client that sends `bytes`. It has not panicked, and is rid of the
/// client.
fn said_to(bytes: Vec<u8>) -> Vec<u8> {
    let said = converse(server(), bytes);
    let statistics = server().statistics();
    assert_eq!(statistics.panics.get(), 0, "the server panicked");
    assert_eq!(statistics.serving.get(), 0, "the client is still there");
    said
}

/// The bytes are all that a client sends. The server answers options by well-formed replies, of
/// which there is no flood.
///
/// # Panics
///
/// If that does not hold.
pub fn handshake(bytes: &[u8]) {
    let said = said_to(bytes.to_vec());
    let mut said = Data(&said);
    assert_eq!(said.take(18), Ok(&b"NBDMAGICIHAVEOPT\0\x03"[..]));
    let mut replies = 0;
    while said.u64() == Ok(OPTION_REPLY_MAGIC) {
        let mut reply = || -> Result<_, Malformed> {
            let (_option, kind, length) = (said.u32()?, said.u32()?, said.u32()?);
            Ok((kind, said.take(usize::try_from(length).expect("32 bits"))?))
        };
        let (kind, data) = reply().expect("a reply is whole");
        assert!(data.len() <= MAX_OPTION, "{kind:#x} has {} bytes", data.len());
        assert!(kind >> 31 == 0 || std::str::from_utf8(data).is_ok_and(|why| !why.is_empty()));
        replies += 1;
    }
    // An option has five replies at most here: three contexts or infos, and what ends them.
    assert!(replies <= 5 * MAX_OPTIONS, "{replies} replies");
}

/// The first byte says how the client has agreed to talk; the others are its requests. Each that is
/// whole gets its one reply, in well-formed chunks, and nothing else is said.
///
/// # Panics
///
/// If that does not hold.
pub fn transmission(bytes: &[u8]) {
    let Some((how, requests)) = bytes.split_first() else { return };
    let style = [Style::Simple, Style::Structured, Style::Extended][usize::from(how % 3)];
    let read_only = how / 3 % 2 == 1;
    let before = opening(style, if read_only { "mirror" } else { "disk" });
    let said = said_to([&before, requests].concat());
    let mut expected = cookies_of_requests(requests, style);
    let said = after_handshake(&said);
    if style == Style::Simple {
        // Where a reply ends is known only to who knows its request.
        assert!(said.0.len() >= 16 * expected.len(), "{} bytes", said.0.len());
        return;
    }
    let mut answered = cookies_of_replies(said, style).expect("replies are well-formed");
    expected.sort_unstable();
    answered.sort_unstable();
    assert_eq!(answered, expected, "each request has one reply");
}

/// What is said in the transmission: all that follows the last reply to an option.
fn after_handshake(said: &[u8]) -> Data<'_> {
    let mut said = Data(&said[18..]);
    while said.0.starts_with(&OPTION_REPLY_MAGIC.to_be_bytes()) {
        let mut reply = || -> Result<_, Malformed> {
            said.take(16)?;
            let length = said.u32()?;
            said.take(usize::try_from(length).expect("32 bits"))
        };
        reply().expect("a reply is whole");
    }
    said
}

/// The bytes that bring a client into transmission.
fn opening(style: Style, export: &str) -> Vec<u8> {
    let mut bytes = 3_u32.to_be_bytes().to_vec();
    let mut option = |number: u32, data: &[u8]| {
        bytes.extend(b"IHAVEOPT");
        bytes.extend(number.to_be_bytes());
        bytes.extend(u32::try_from(data.len()).expect("short").to_be_bytes());
        bytes.extend(data);
    };
    let string = |text: &str| {
        let length = u32::try_from(text.len()).expect("short");
        [&length.to_be_bytes(), text.as_bytes()].concat()
    };
    match style {
        Style::Simple => {}
        Style::Structured => option(8, b""),
        Style::Extended => option(11, b""),
    }
    if style != Style::Simple {
        let contexts = ["base:allocation", "qemu:dirty-bitmap:b"].map(string).concat();
        option(10, &[string(export), 2_u32.to_be_bytes().to_vec(), contexts].concat());
    }
    option(7, &[string(export), vec![0, 0]].concat());
    bytes
}

/// The cookies of the requests that are whole and in step, except one to disconnect.
fn cookies_of_requests(bytes: &[u8], style: Style) -> Vec<u64> {
    let mut data = Data(bytes);
    let mut next = || -> Result<Request, Malformed> {
        let request = Request::parse(data.take(Request::header_length(style))?, style)?;
        let payload = request.payload_length(style);
        if request.command == Command::Disconnect || payload > MAX_SKIPPED_PAYLOAD {
            return Err(Malformed);
        }
        data.take(usize::try_from(payload).expect("64 bits"))?;
        Ok(request)
    };
    std::iter::from_fn(|| next().ok()).map(|request| request.cookie).collect()
}

/// The cookies of the replies that are done.
fn cookies_of_replies(mut said: Data<'_>, style: Style) -> Result<Vec<u64>, Malformed> {
    let extended = style == Style::Extended;
    let magic = if extended { 0x6e8a_278c } else { 0x668e_33ef };
    let mut cookies = Vec::new();
    while !said.0.is_empty() {
        if said.u32()? != magic {
            return Err(Malformed);
        }
        let (flags, _kind, cookie) = (said.u16()?, said.u16()?, said.u64()?);
        let length = if extended {
            said.u64()?;
            said.u64()?
        } else {
            u64::from(said.u32()?)
        };
        said.take(usize::try_from(length).map_err(|_| Malformed)?)?;
        if flags & 1 == 1 {
            cookies.push(cookie);
        }
    }
    Ok(cookies)
}
