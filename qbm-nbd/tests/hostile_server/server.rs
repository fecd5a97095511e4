//! A server whose bytes are known beforehand. It shares no code with the client, so that a mistake on one
//! side does not hide behind the same mistake on the other.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use futures_executor::block_on;
use qbm_core::{Access, Buffer, Storage};
use qbm_nbd::{Channel, NbdStorage, Origin, Patience, Socket};

/// The disk of [`handshake`].
pub(crate) const SIZE: u64 = 1 << 20;
/// Its flags: it has some, and can flush, FUA, trim and zero.
pub(crate) const FLAGS: u16 = 0b110_1101;
pub(crate) const MULTI: u16 = 1 << 8;
/// The id of the context of [`handshake`].
pub(crate) const CONTEXT: u32 = 7;

pub(crate) const EXTENDED: u32 = 11;
pub(crate) const STRUCTURED: u32 = 8;
pub(crate) const SIMPLE: u32 = 0;

pub(crate) mod opt {
    pub(crate) const GO: u32 = 7;
    pub(crate) const SET_META_CONTEXT: u32 = 10;
}

pub(crate) mod rep {
    pub(crate) const ACK: u32 = 1;
    pub(crate) const SERVER: u32 = 2;
    pub(crate) const INFO: u32 = 3;
    pub(crate) const META_CONTEXT: u32 = 4;
    pub(crate) const ERR_UNSUP: u32 = 0x8000_0001;
}

pub(crate) mod kind {
    pub(crate) const NONE: u16 = 0;
    pub(crate) const DATA: u16 = 1;
    pub(crate) const HOLE: u16 = 2;
    pub(crate) const STATUS: u16 = 5;
    pub(crate) const STATUS_EXT: u16 = 6;
    pub(crate) const ERROR: u16 = 0x8001;
    pub(crate) const ERROR_OFFSET: u16 = 0x8002;
}

pub(crate) const DONE: u16 = 1;

pub(crate) fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

pub(crate) fn greeting(flags: u16) -> Vec<u8> {
    joined(&[b"NBDMAGICIHAVEOPT", &flags.to_be_bytes()])
}

pub(crate) fn reply(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap();
    joined(&[&reply_header(option, kind, length), data])
}

pub(crate) fn reply_header(option: u32, kind: u32, length: u32) -> Vec<u8> {
    let magic = 0x0003_e889_0455_65a9_u64.to_be_bytes();
    joined(&[&magic, &option.to_be_bytes(), &kind.to_be_bytes(), &length.to_be_bytes()])
}

/// The data of `NBD_INFO_EXPORT`.
pub(crate) fn export(size: u64, flags: u16) -> Vec<u8> {
    joined(&[&[0, 0], &size.to_be_bytes(), &flags.to_be_bytes()])
}

/// The data of `NBD_INFO_BLOCK_SIZE`.
pub(crate) fn blocks(sizes: [u32; 3]) -> Vec<u8> {
    joined(&[&[0, 3], &sizes.map(u32::to_be_bytes).concat()])
}

/// All before GO, with the replies of `style`: the option that agrees upon it, or [`SIMPLE`].
pub(crate) fn before_go(style: u32) -> Vec<u8> {
    let mut bytes = greeting(3);
    for option in [EXTENDED, STRUCTURED] {
        if option == style {
            bytes.extend(reply(option, rep::ACK, b""));
            break;
        }
        bytes.extend(reply(option, rep::ERR_UNSUP, b""));
    }
    if style != SIMPLE {
        let context = joined(&[&CONTEXT.to_be_bytes(), b"base:allocation"]);
        bytes.extend(reply(opt::SET_META_CONTEXT, rep::META_CONTEXT, &context));
        bytes.extend(reply(opt::SET_META_CONTEXT, rep::ACK, b""));
    }
    bytes
}

/// GO, to a disk of which this is said.
pub(crate) fn go(size: u64, flags: u16, sizes: [u32; 3]) -> Vec<u8> {
    joined(&[
        &reply(opt::GO, rep::INFO, &export(size, flags)),
        &reply(opt::GO, rep::INFO, &blocks(sizes)),
        &reply(opt::GO, rep::ACK, b""),
    ])
}

/// A handshake that an honest server makes.
pub(crate) fn handshake(style: u32) -> Vec<u8> {
    joined(&[&before_go(style), &go(SIZE, FLAGS, [1, 4096, 32 << 20])])
}

pub(crate) fn simple(error: u32, cookie: u64) -> Vec<u8> {
    joined(&[&0x6744_6698_u32.to_be_bytes(), &error.to_be_bytes(), &cookie.to_be_bytes()])
}

/// The header of a chunk that says `length`, in the style of `style`, to a request at `offset`.
pub(crate) fn chunk_header(
    style: u32,
    (flags, kind): (u16, u16),
    (cookie, offset): (u64, u64),
    length: u64,
) -> Vec<u8> {
    let magic: u32 = if style == EXTENDED { 0x6e8a_278c } else { 0x668e_33ef };
    let mut bytes = joined(&[
        &magic.to_be_bytes(),
        &flags.to_be_bytes(),
        &kind.to_be_bytes(),
        &cookie.to_be_bytes(),
    ]);
    if style == EXTENDED {
        bytes.extend(offset.to_be_bytes());
        bytes.extend(length.to_be_bytes());
    } else {
        bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
    }
    bytes
}

/// A chunk to the first request, which is at 0.
pub(crate) fn chunk(style: u32, flags: u16, kind: u16, contents: &[u8]) -> Vec<u8> {
    joined(&[&chunk_header(style, (flags, kind), (1, 0), contents.len() as u64), contents])
}

pub(crate) fn data(offset: u64, bytes: &[u8]) -> Vec<u8> {
    joined(&[&offset.to_be_bytes(), bytes])
}

pub(crate) fn hole(offset: u64, length: u32) -> Vec<u8> {
    joined(&[&offset.to_be_bytes(), &length.to_be_bytes()])
}

pub(crate) fn error(code: u32, words: &[u8]) -> Vec<u8> {
    let length = u16::try_from(words.len()).unwrap();
    joined(&[&code.to_be_bytes(), &length.to_be_bytes(), words])
}

/// Extents of 32 bits.
pub(crate) fn extents(context: u32, extents: &[[u32; 2]]) -> Vec<u8> {
    let extents = extents.iter().flatten().flat_map(|number| number.to_be_bytes());
    context.to_be_bytes().into_iter().chain(extents).collect()
}

/// Extents of 64 bits, of which there are said to be `count`.
pub(crate) fn long_extents(context: u32, count: u32, extents: &[[u64; 2]]) -> Vec<u8> {
    let extents = extents.iter().flatten().flat_map(|number| number.to_be_bytes());
    let head = joined(&[&context.to_be_bytes(), &count.to_be_bytes()]);
    head.into_iter().chain(extents).collect()
}

/// What a server says on one connection.
#[derive(Clone)]
pub(crate) struct Script {
    /// At once.
    pub(crate) first: Vec<u8>,
    /// One after each request.
    pub(crate) answers: Vec<Vec<u8>>,
    pub(crate) then: Then,
}

/// What becomes of a connection once all is said.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    HangUp,
    Silence,
    /// It does not even listen.
    Deaf,
}

impl Script {
    pub(crate) fn new(first: Vec<u8>, answers: &[Vec<u8>], then: Then) -> Self {
        Self { first, answers: answers.to_vec(), then }
    }

    /// Says it; an error if the client goes before the end.
    fn say(self, mut stream: &UnixStream) -> io::Result<()> {
        stream.write_all(&self.first)?;
        if !self.answers.is_empty() {
            hear_handshake(stream)?;
        }
        for answer in self.answers {
            hear_request(stream)?;
            stream.write_all(&answer)?;
        }
        Ok(())
    }
}

fn hear<const N: usize>(mut stream: &UnixStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn skip(stream: &UnixStream, count: u32) -> io::Result<()> {
    io::copy(&mut stream.take(count.into()), &mut io::sink()).map(drop)
}

/// Hears the client's flags and its options, to the last.
fn hear_handshake(stream: &UnixStream) -> io::Result<()> {
    let _flags = hear::<4>(stream)?;
    loop {
        let header = hear::<16>(stream)?;
        skip(stream, u32::from_be_bytes(header[12..].try_into().unwrap()))?;
        if header[8..12] == opt::GO.to_be_bytes() {
            return Ok(());
        }
    }
}

/// Hears a request, with what it writes.
fn hear_request(stream: &UnixStream) -> io::Result<()> {
    let header = hear::<28>(stream)?;
    let length = if header[..4] == 0x21e4_1c71_u32.to_be_bytes() {
        hear::<4>(stream)?
    } else {
        header[24..].try_into().unwrap()
    };
    let writes = header[6..8] == [0, 1];
    skip(stream, if writes { u32::from_be_bytes(length) } else { 0 })
}

/// What a server says, a connection after the other. Further ones are refused.
pub(crate) struct Scripts {
    coming: Mutex<VecDeque<Script>>,
    dialled: AtomicUsize,
    deaf: Mutex<Vec<UnixStream>>,
}

impl Scripts {
    pub(crate) fn new(scripts: impl IntoIterator<Item = Script>) -> Arc<Self> {
        let coming = Mutex::new(scripts.into_iter().collect());
        Arc::new(Self { coming, dialled: AtomicUsize::new(0), deaf: Mutex::default() })
    }

    /// How many connections were made.
    pub(crate) fn dialled(&self) -> usize {
        self.dialled.load(Ordering::SeqCst)
    }

    fn dial(self: &Arc<Self>) -> io::Result<Box<dyn Channel>> {
        let script = self.coming.lock().unwrap().pop_front();
        let script = script.ok_or(io::ErrorKind::ConnectionRefused)?;
        self.dialled.fetch_add(1, Ordering::SeqCst);
        let (ours, theirs) = UnixStream::pair()?;
        let scripts = Arc::clone(self);
        thread::spawn(move || {
            let then = script.then;
            // The client may go before all is said.
            let _said = script.say(&theirs);
            match then {
                Then::Deaf => return scripts.deaf.lock().unwrap().push(theirs),
                Then::HangUp => theirs.shutdown(Shutdown::Write).unwrap(),
                Then::Silence => {}
            }
            // To close it with something unheard would be an error of its own.
            let _heard = io::copy(&mut &theirs, &mut io::sink());
        });
        Ok(Box::new(Socket::Unix(ours)))
    }

    pub(crate) fn connect(self: &Arc<Self>, patience: Patience) -> io::Result<NbdStorage> {
        let scripts = Arc::clone(self);
        let origin = Origin::by(move || scripts.dial(), "disk").with_patience(patience);
        NbdStorage::open(origin, Access::Write)
    }
}

/// No server that answers takes so long, and one that is gone does not come back.
pub(crate) fn patient() -> Patience {
    let long = Duration::from_secs(20);
    Patience { handshake: long, reply: long, send: long, absence: Duration::ZERO }
}

/// Connects to a server that says this and hangs up.
pub(crate) fn connect(says: &[u8]) -> io::Result<NbdStorage> {
    Scripts::new([Script::new(says.to_vec(), &[], Then::HangUp)]).connect(patient())
}

/// A disk in the style, of a server that answers the first request by this, and hangs up.
pub(crate) fn connected(style: u32, answer: &[u8]) -> NbdStorage {
    answering(style, &[answer.to_vec()])
}

/// The same for several requests.
pub(crate) fn answering(style: u32, answers: &[Vec<u8>]) -> NbdStorage {
    let script = Script::new(handshake(style), answers, Then::HangUp);
    Scripts::new([script]).connect(patient()).unwrap()
}

pub(crate) fn read(disk: &NbdStorage, offset: u64, length: usize) -> io::Result<Buffer> {
    block_on(disk.read_at(offset, Buffer::zeroed(length)))
}
