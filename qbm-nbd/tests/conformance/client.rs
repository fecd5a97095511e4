//! A client that sends and expects bytes. It shares no code with the server, so that a mistake on
//! one side does not hide behind the same mistake on the other.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use qbm_nbd::{Server, Socket};

/// No answer takes that long, unless there is none.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) const FIXED: u32 = 1;
pub(crate) const NO_ZEROES: u32 = 2;

pub(crate) mod opt {
    pub(crate) const EXPORT_NAME: u32 = 1;
    pub(crate) const ABORT: u32 = 2;
    pub(crate) const LIST: u32 = 3;
    pub(crate) const STARTTLS: u32 = 5;
    pub(crate) const INFO: u32 = 6;
    pub(crate) const GO: u32 = 7;
    pub(crate) const STRUCTURED_REPLY: u32 = 8;
    pub(crate) const LIST_META_CONTEXT: u32 = 9;
    pub(crate) const SET_META_CONTEXT: u32 = 10;
    pub(crate) const EXTENDED_HEADERS: u32 = 11;
}

pub(crate) mod rep {
    pub(crate) const ACK: u32 = 1;
    pub(crate) const SERVER: u32 = 2;
    pub(crate) const INFO: u32 = 3;
    pub(crate) const META_CONTEXT: u32 = 4;
    pub(crate) const ERR_UNSUP: u32 = 0x8000_0001;
    pub(crate) const ERR_POLICY: u32 = 0x8000_0002;
    pub(crate) const ERR_INVALID: u32 = 0x8000_0003;
    pub(crate) const ERR_TLS_REQD: u32 = 0x8000_0005;
    pub(crate) const ERR_UNKNOWN: u32 = 0x8000_0006;
    pub(crate) const ERR_TOO_BIG: u32 = 0x8000_0009;
    pub(crate) const ERR_EXT_HEADER_REQD: u32 = 0x8000_000a;
}

pub(crate) mod cmd {
    pub(crate) const READ: u16 = 0;
    pub(crate) const WRITE: u16 = 1;
    pub(crate) const DISC: u16 = 2;
    pub(crate) const FLUSH: u16 = 3;
    pub(crate) const TRIM: u16 = 4;
    pub(crate) const CACHE: u16 = 5;
    pub(crate) const WRITE_ZEROES: u16 = 6;
    pub(crate) const BLOCK_STATUS: u16 = 7;
}

pub(crate) mod flag {
    pub(crate) const FUA: u16 = 1;
    pub(crate) const NO_HOLE: u16 = 2;
    pub(crate) const DF: u16 = 4;
    pub(crate) const REQ_ONE: u16 = 8;
    pub(crate) const FAST_ZERO: u16 = 16;
    pub(crate) const PAYLOAD_LEN: u16 = 32;
}

pub(crate) const EPERM: u32 = 1;
pub(crate) const EIO: u32 = 5;
pub(crate) const EINVAL: u32 = 22;
pub(crate) const ENOSPC: u32 = 28;
pub(crate) const ENOTSUP: u32 = 95;

pub(crate) const DONE: u16 = 1;
pub(crate) const NONE: u16 = 0;
pub(crate) const OFFSET_DATA: u16 = 1;
pub(crate) const OFFSET_HOLE: u16 = 2;
pub(crate) const BLOCK_STATUS: u16 = 5;
pub(crate) const BLOCK_STATUS_EXT: u16 = 6;
pub(crate) const ERROR: u16 = 0x8001;

/// A connection, from the client's end.
pub(crate) struct Client<S = UnixStream> {
    pub(crate) stream: S,
    /// The thread that serves it; it ends with the connection.
    serving: Option<JoinHandle<()>>,
}

/// A request, as its fields are named in the protocol document.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ask {
    pub(crate) flags: u16,
    pub(crate) command: u16,
    pub(crate) cookie: u64,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl Ask {
    pub(crate) fn new(command: u16, offset: u64, length: u64) -> Self {
        Self { command, offset, length, cookie: 0xc00c_1e00 + u64::from(command), flags: 0 }
    }

    pub(crate) fn flags(self, flags: u16) -> Self {
        Self { flags, ..self }
    }

    pub(crate) fn cookie(self, cookie: u64) -> Self {
        Self { cookie, ..self }
    }

    fn fields(&self, magic: u32) -> Vec<u8> {
        let mut bytes = magic.to_be_bytes().to_vec();
        bytes.extend(self.flags.to_be_bytes());
        bytes.extend(self.command.to_be_bytes());
        bytes.extend(self.cookie.to_be_bytes());
        bytes.extend(self.offset.to_be_bytes());
        bytes
    }

    pub(crate) fn compact(&self) -> Vec<u8> {
        let mut bytes = self.fields(0x2560_9513);
        bytes.extend(u32::try_from(self.length).unwrap().to_be_bytes());
        bytes
    }

    pub(crate) fn extended(&self) -> Vec<u8> {
        let mut bytes = self.fields(0x21e4_1c71);
        bytes.extend(self.length.to_be_bytes());
        bytes
    }
}

/// A chunk of a structured or extended reply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) flags: u16,
    pub(crate) kind: u16,
    pub(crate) cookie: u64,
    pub(crate) payload: Vec<u8>,
}

impl Chunk {
    /// The error of an error chunk, whose message must be well-formed.
    pub(crate) fn error(&self) -> u32 {
        assert_eq!((self.kind, self.flags), (ERROR, DONE), "{self:?}");
        let length = u16::from_be_bytes(self.payload[4..6].try_into().unwrap());
        let message = std::str::from_utf8(&self.payload[6..]).unwrap();
        assert_eq!(message.len(), usize::from(length));
        assert!(!message.is_empty());
        u32::from_be_bytes(self.payload[..4].try_into().unwrap())
    }
}

/// A string after its length.
pub(crate) fn string(text: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// The data of GO and INFO.
pub(crate) fn export_request(name: &str, wanted: &[u16]) -> Vec<u8> {
    let mut bytes = string(name);
    bytes.extend(u16::try_from(wanted.len()).unwrap().to_be_bytes());
    bytes.extend(wanted.iter().flat_map(|item| item.to_be_bytes()));
    bytes
}

/// The data of the options about metadata contexts.
pub(crate) fn meta_request(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut bytes = string(name);
    bytes.extend(u32::try_from(queries.len()).unwrap().to_be_bytes());
    bytes.extend(queries.iter().flat_map(|query| string(query)));
    bytes
}

impl Client {
    /// Connects to `server`, and takes nothing of what it says.
    pub(crate) fn connect(server: &Arc<Server>) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        ours.set_write_timeout(Some(PATIENCE)).unwrap();
        let server = Arc::clone(server);
        let serving = thread::spawn(move || server.serve_wire(Box::new(Socket::Unix(theirs))));
        Self { stream: ours, serving: Some(serving) }
    }

    /// Takes the other end of a socket.
    pub(crate) fn over(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, serving: None }
    }

    /// Connects, and exchanges greetings.
    pub(crate) fn greeted(server: &Arc<Server>) -> Self {
        let mut client = Self::connect(server);
        client.greet(FIXED | NO_ZEROES);
        client
    }

    /// A client in transmission with simple replies, of the default export.
    pub(crate) fn simple(server: &Arc<Server>) -> Self {
        let mut client = Self::greeted(server);
        client.go("");
        client
    }

    /// The same with structured replies and these contexts.
    pub(crate) fn structured(server: &Arc<Server>, contexts: &[&str]) -> Self {
        Self::with(server, opt::STRUCTURED_REPLY, contexts)
    }

    /// The same with extended headers.
    pub(crate) fn extended(server: &Arc<Server>, contexts: &[&str]) -> Self {
        Self::with(server, opt::EXTENDED_HEADERS, contexts)
    }

    fn with(server: &Arc<Server>, option: u32, contexts: &[&str]) -> Self {
        let mut client = Self::greeted(server);
        assert_eq!(client.ask_option(option, b""), (rep::ACK, vec![]));
        if !contexts.is_empty() {
            client.option(opt::SET_META_CONTEXT, &meta_request("", contexts));
            for _ in contexts {
                assert_eq!(client.option_reply(opt::SET_META_CONTEXT).0, rep::META_CONTEXT);
            }
            assert_eq!(client.option_reply(opt::SET_META_CONTEXT).0, rep::ACK);
        }
        client.go("");
        client
    }

    /// The same connection, with something spoken over it.
    pub(crate) fn over_its_stream<T>(self, wrap: impl FnOnce(UnixStream) -> T) -> Client<T> {
        Client { stream: wrap(self.stream), serving: self.serving }
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn greet(&mut self, flags: u32) {
        assert_eq!(self.take(8), b"NBDMAGIC");
        assert_eq!(self.take(8), b"IHAVEOPT");
        assert_eq!(self.u16(), 3, "fixed newstyle, no zeroes");
        self.send(&flags.to_be_bytes());
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take(8).try_into().unwrap())
    }

    /// Sends an option.
    pub(crate) fn option(&mut self, number: u32, data: &[u8]) {
        let length = u32::try_from(data.len()).unwrap();
        self.send(&option_header(number, length));
        self.send(data);
    }

    /// A reply to the option: its type and data.
    pub(crate) fn option_reply(&mut self, number: u32) -> (u32, Vec<u8>) {
        assert_eq!(self.u64(), 0x0003_e889_0455_65a9);
        assert_eq!(self.u32(), number);
        let kind = self.u32();
        let length = self.u32();
        (kind, self.take(usize::try_from(length).unwrap()))
    }

    /// Sends an option, and takes its only reply.
    pub(crate) fn ask_option(&mut self, number: u32, data: &[u8]) -> (u32, Vec<u8>) {
        self.option(number, data);
        self.option_reply(number)
    }

    /// That the option is refused like this, and the next one understood.
    #[track_caller]
    pub(crate) fn refused(&mut self, number: u32, data: &[u8], expected: u32) {
        let (kind, message) = self.ask_option(number, data);
        assert_eq!(kind, expected, "{}", String::from_utf8_lossy(&message));
        assert!(!message.is_empty(), "an error says why");
        self.in_step();
    }

    /// That the handshake goes on: an option that nobody knows is answered.
    #[track_caller]
    pub(crate) fn in_step(&mut self) {
        assert_eq!(self.ask_option(4711, b"x").0, rep::ERR_UNSUP);
    }

    /// GO to the transmission; returns what is said of size and flags.
    pub(crate) fn go(&mut self, name: &str) -> (u64, u16) {
        self.option(opt::GO, &export_request(name, &[]));
        let mut export = None;
        loop {
            let (kind, data) = self.option_reply(opt::GO);
            match kind {
                rep::ACK => return export.unwrap(),
                rep::INFO if data[..2] == [0, 0] => {
                    let size = u64::from_be_bytes(data[2..10].try_into().unwrap());
                    export = Some((size, u16::from_be_bytes(data[10..].try_into().unwrap())));
                }
                rep::INFO => {}
                other => panic!("{other:#x}: {}", String::from_utf8_lossy(&data)),
            }
        }
    }

    /// A simple reply: its error.
    #[track_caller]
    pub(crate) fn simple_reply(&mut self, ask: &Ask) -> u32 {
        assert_eq!(self.u32(), 0x6744_6698);
        let error = self.u32();
        assert_eq!(self.u64(), ask.cookie);
        error
    }

    /// Sends a request without payload, and takes the error of its simple reply.
    #[track_caller]
    pub(crate) fn ask(&mut self, ask: &Ask) -> u32 {
        self.send(&ask.compact());
        self.simple_reply(ask)
    }

    /// A chunk of a structured reply.
    #[track_caller]
    pub(crate) fn chunk(&mut self) -> Chunk {
        assert_eq!(self.u32(), 0x668e_33ef);
        let (flags, kind, cookie) = (self.u16(), self.u16(), self.u64());
        let length = self.u32();
        Chunk { flags, kind, cookie, payload: self.take(usize::try_from(length).unwrap()) }
    }

    /// A chunk of an extended reply to `ask`.
    #[track_caller]
    pub(crate) fn extended_chunk(&mut self, ask: &Ask) -> Chunk {
        assert_eq!(self.u32(), 0x6e8a_278c);
        let (flags, kind, cookie) = (self.u16(), self.u16(), self.u64());
        assert_eq!((cookie, self.u64()), (ask.cookie, ask.offset));
        let length = self.u64();
        Chunk { flags, kind, cookie, payload: self.take(usize::try_from(length).unwrap()) }
    }

    /// That the server has hung up.
    #[track_caller]
    pub(crate) fn hung_up(mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => assert_eq!(rest, [], "nothing more was said"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
        self.served();
    }

    /// Disconnects, and waits until the server has noticed.
    pub(crate) fn disconnect(mut self) {
        self.send(&Ask::new(cmd::DISC, 0, 0).compact());
        self.hung_up();
    }

    fn served(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.join().expect("the server never panics");
        }
    }
}

pub(crate) fn option_header(number: u32, length: u32) -> Vec<u8> {
    let mut bytes = b"IHAVEOPT".to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}
