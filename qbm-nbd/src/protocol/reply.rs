//! "Simple reply message", "Structured reply chunk message" and "Extended reply chunk message".

use super::{Data, Malformed};

/// `NBD_SIMPLE_REPLY_MAGIC`
const SIMPLE_MAGIC: u32 = 0x6744_6698;
/// `NBD_STRUCTURED_REPLY_MAGIC`
const STRUCTURED_MAGIC: u32 = 0x668e_33ef;
/// `NBD_EXTENDED_REPLY_MAGIC`
const EXTENDED_MAGIC: u32 = 0x6e8a_278c;

/// `NBD_REPLY_FLAG_DONE`
const DONE: u16 = 1;

/// "Structured reply types".
mod chunk {
    pub(super) const NONE: u16 = 0;
    pub(super) const OFFSET_DATA: u16 = 1;
    pub(super) const OFFSET_HOLE: u16 = 2;
    pub(super) const BLOCK_STATUS: u16 = 5;
    pub(super) const BLOCK_STATUS_EXT: u16 = 6;
    pub(super) const IS_ERROR: u16 = 1 << 15;
    pub(super) const ERROR: u16 = IS_ERROR | 1;
}

/// "Error values".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ErrorCode {
    /// `NBD_EPERM`: the export is read-only.
    NotPermitted = 1,
    /// `NBD_EIO`
    Io = 5,
    /// `NBD_EINVAL`
    Invalid = 22,
    /// `NBD_ENOSPC`
    NoSpace = 28,
    /// `NBD_EOVERFLOW`: longer than the server takes.
    Overflow = 75,
    /// `NBD_ENOTSUP`: it would not be fast.
    NotSupported = 95,
}

impl ErrorCode {
    /// The error of this number, if it is known.
    pub fn from_number(number: u32) -> Option<Self> {
        use ErrorCode::{Invalid, Io, NoSpace, NotPermitted, NotSupported, Overflow};
        let all = [NotPermitted, Io, Invalid, NoSpace, Overflow, NotSupported];
        all.into_iter().find(|code| *code as u32 == number)
    }
}

/// What replies look like on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// A header, then the data of a read.
    #[default]
    Simple,
    /// Chunks.
    Structured,
    /// Chunks, with lengths of 64 bits there and in requests.
    Extended,
}

/// What goes before the contents of a reply, or of a chunk of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHeader {
    /// The request's cookie.
    pub cookie: u64,
    /// The request's offset, in an extended header.
    pub offset: Option<u64>,
    /// What follows.
    pub part: Part,
    /// Whether nothing follows after that.
    pub last: bool,
    /// Bytes of the contents of a chunk.
    pub length: u64,
}

/// What follows the header of a reply or a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Nothing, or all of what was read, if this error is 0: a simple reply.
    Simple(u32),
    /// Nothing.
    Nothing,
    /// Some of what was read, after its offset.
    Data,
    /// That some of what was read is zero: its offset and length.
    Hole,
    /// The extents of a context, after its id.
    Extents,
    /// An error, with a message.
    Error,
    /// Something else.
    Unknown,
}

impl ReplyHeader {
    /// The most bytes of a header after its magic.
    pub const MOST: usize = 28;

    /// Bytes of a header after this magic.
    ///
    /// # Errors
    ///
    /// If no such replies have been agreed upon.
    pub fn length_after(magic: u32, style: Style) -> Result<usize, Malformed> {
        match (magic, style) {
            // Also among structured ones, for requests that read nothing.
            (SIMPLE_MAGIC, Style::Simple | Style::Structured) => Ok(12),
            (STRUCTURED_MAGIC, Style::Structured) => Ok(16),
            (EXTENDED_MAGIC, Style::Extended) => Ok(28),
            _ => Err(Malformed),
        }
    }

    /// Reads a header after its magic.
    ///
    /// # Errors
    ///
    /// If there are too few bytes.
    pub fn parse(magic: u32, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut data = Data(bytes);
        if magic == SIMPLE_MAGIC {
            let part = Part::Simple(data.u32()?);
            return Ok(Self { cookie: data.u64()?, offset: None, part, last: true, length: 0 });
        }
        let extended = magic == EXTENDED_MAGIC;
        let (flags, kind, cookie) = (data.u16()?, data.u16()?, data.u64()?);
        let offset = if extended { Some(data.u64()?) } else { None };
        let length = if extended { data.u64()? } else { data.u32()?.into() };
        let part = match kind {
            chunk::NONE => Part::Nothing,
            chunk::OFFSET_DATA => Part::Data,
            chunk::OFFSET_HOLE => Part::Hole,
            chunk::BLOCK_STATUS if !extended => Part::Extents,
            chunk::BLOCK_STATUS_EXT if extended => Part::Extents,
            // All with this bit begin alike.
            kind if kind & chunk::IS_ERROR != 0 => Part::Error,
            _ => Part::Unknown,
        };
        Ok(Self { cookie, offset, part, last: flags & DONE != 0, length })
    }
}

/// The replies to one request: bytes to send, without the data of a read.
#[derive(Clone, Copy, Debug)]
pub struct Replies {
    /// The style negotiated.
    pub style: Style,
    /// The request's cookie.
    pub cookie: u64,
    /// The request's offset.
    pub offset: u64,
}

/// The longest head: an extended header, an offset and a length.
const MOST_IN_HEAD: usize = 44;

/// What a reply to a read or write has besides data: a few bytes, without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    bytes: [u8; MOST_IN_HEAD],
    length: usize,
}

impl Head {
    const EMPTY: Self = Self { bytes: [0; MOST_IN_HEAD], length: 0 };

    fn and(mut self, bytes: &[u8]) -> Self {
        self.bytes[self.length..][..bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
        self
    }
}

impl std::ops::Deref for Head {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Replies {
    /// It is done; for all commands but reads and block status.
    pub fn done(self) -> Head {
        match self.style {
            Style::Simple => self.simple(0),
            _ => self.chunk(true, chunk::NONE, 0),
        }
    }

    /// It failed. `what` is for people, and left out of simple replies.
    pub fn error(self, code: ErrorCode, what: &str) -> Vec<u8> {
        if self.style == Style::Simple {
            return self.simple(code as u32).to_vec();
        }
        let mut reply = self.chunk(true, chunk::ERROR, 6 + what.len()).to_vec();
        reply.extend((code as u32).to_be_bytes());
        reply.extend(u16::try_from(what.len()).expect("messages are short").to_be_bytes());
        reply.extend(what.as_bytes());
        reply
    }

    /// The head of `length` bytes of data at `offset`; `last` if nothing follows them.
    pub fn data(self, offset: u64, length: usize, last: bool) -> Head {
        match self.style {
            Style::Simple => self.simple(0),
            _ => self.chunk(last, chunk::OFFSET_DATA, 8 + length).and(&offset.to_be_bytes()),
        }
    }

    /// That `length` bytes at `offset` are zeroes; `last` if nothing follows. Not in simple replies.
    pub fn hole(self, offset: u64, length: u32, last: bool) -> Head {
        let head = self.chunk(last, chunk::OFFSET_HOLE, 12);
        head.and(&offset.to_be_bytes()).and(&length.to_be_bytes())
    }

    /// The extents of the context `id`, each a length and its flags; `last` if nothing follows. Not
    /// in simple replies.
    ///
    /// # Panics
    ///
    /// Unless the style is extended: if a length has more than 32 bits.
    pub fn extents(self, id: u32, extents: &[(u64, u32)], last: bool) -> Vec<u8> {
        let count = u32::try_from(extents.len()).expect("their number is limited");
        if self.style == Style::Extended {
            let head = self.chunk(last, chunk::BLOCK_STATUS_EXT, 8 + 16 * extents.len());
            let mut reply = head.to_vec();
            reply.extend(id.to_be_bytes());
            reply.extend(count.to_be_bytes());
            for (length, flags) in extents {
                reply.extend(length.to_be_bytes());
                reply.extend(u64::from(*flags).to_be_bytes());
            }
            return reply;
        }
        let mut reply = self.chunk(last, chunk::BLOCK_STATUS, 4 + 8 * extents.len()).to_vec();
        reply.extend(id.to_be_bytes());
        for (length, flags) in extents {
            let length = u32::try_from(*length).expect("no longer than the request");
            reply.extend(length.to_be_bytes());
            reply.extend(flags.to_be_bytes());
        }
        reply
    }

    fn simple(self, error: u32) -> Head {
        let head = Head::EMPTY.and(&SIMPLE_MAGIC.to_be_bytes());
        head.and(&error.to_be_bytes()).and(&self.cookie.to_be_bytes())
    }

    fn chunk(self, last: bool, kind: u16, length: usize) -> Head {
        let extended = self.style == Style::Extended;
        let magic = if extended { EXTENDED_MAGIC } else { STRUCTURED_MAGIC };
        let flags = if last { DONE } else { 0 };
        let head = Head::EMPTY
            .and(&magic.to_be_bytes())
            .and(&flags.to_be_bytes())
            .and(&kind.to_be_bytes())
            .and(&self.cookie.to_be_bytes());
        if extended {
            head.and(&self.offset.to_be_bytes()).and(&(length as u64).to_be_bytes())
        } else {
            head.and(&u32::try_from(length).expect("a chunk is short").to_be_bytes())
        }
    }
}
