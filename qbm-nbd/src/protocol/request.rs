//! "Request message" and "Request types": what a client asks for during the transmission.

use super::{Data, Malformed, Style};

/// `NBD_REQUEST_MAGIC`
const COMPACT_MAGIC: u32 = 0x2560_9513;
/// `NBD_EXTENDED_REQUEST_MAGIC`
const EXTENDED_MAGIC: u32 = 0x21e4_1c71;

/// "Command flags".
pub mod command_flag {
    /// `NBD_CMD_FLAG_FUA`: durable before the reply; allowed with every command.
    pub const FUA: u16 = 1;
    /// `NBD_CMD_FLAG_NO_HOLE`: zeroes that keep their space.
    pub const NO_HOLE: u16 = 1 << 1;
    /// `NBD_CMD_FLAG_DF`: the data in one chunk.
    pub const DF: u16 = 1 << 2;
    /// `NBD_CMD_FLAG_REQ_ONE`: one extent only.
    pub const REQ_ONE: u16 = 1 << 3;
    /// `NBD_CMD_FLAG_FAST_ZERO`: an error rather than zeroes that are slow.
    pub const FAST_ZERO: u16 = 1 << 4;
    /// `NBD_CMD_FLAG_PAYLOAD_LEN`: the length is that of a payload; only with extended headers.
    pub const PAYLOAD_LEN: u16 = 1 << 5;
}

/// The commands that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Command {
    /// `NBD_CMD_READ`
    Read,
    /// `NBD_CMD_WRITE`
    Write,
    /// `NBD_CMD_DISC`
    Disconnect,
    /// `NBD_CMD_FLUSH`
    Flush,
    /// `NBD_CMD_TRIM`
    Trim,
    /// `NBD_CMD_CACHE`
    Cache,
    /// `NBD_CMD_WRITE_ZEROES`
    WriteZeroes,
    /// `NBD_CMD_BLOCK_STATUS`
    BlockStatus,
    /// Any other.
    Unknown = u16::MAX,
}

impl Command {
    fn from_number(number: u16) -> Self {
        use Command::{BlockStatus, Cache, Disconnect, Flush, Read, Trim, Write, WriteZeroes};
        let all = [Read, Write, Disconnect, Flush, Trim, Cache, WriteZeroes, BlockStatus];
        let known = all.into_iter().find(|command| *command as u16 == number);
        known.unwrap_or(Self::Unknown)
    }
}

/// A request as it was sent; nothing of it has been checked but the magic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// [`command_flag`]s.
    pub flags: u16,
    /// What to do.
    pub command: Command,
    /// What the client knows the request by; not necessarily unique.
    pub cookie: u64,
    /// Where, in bytes.
    pub offset: u64,
    /// How much, in bytes: of the disk, or of the payload.
    pub length: u64,
}

impl Request {
    /// Bytes of a request's header, without a payload.
    pub fn header_length(style: Style) -> usize {
        if style == Style::Extended { 32 } else { 28 }
    }

    /// Its header.
    ///
    /// # Panics
    ///
    /// Unless the style is extended: if the length has more than 32 bits.
    pub fn encode(&self, style: Style) -> Vec<u8> {
        let extended = style == Style::Extended;
        let magic = if extended { EXTENDED_MAGIC } else { COMPACT_MAGIC };
        let payload =
            if extended && self.command == Command::Write { command_flag::PAYLOAD_LEN } else { 0 };
        let mut bytes = magic.to_be_bytes().to_vec();
        bytes.extend((self.flags | payload).to_be_bytes());
        bytes.extend((self.command as u16).to_be_bytes());
        bytes.extend(self.cookie.to_be_bytes());
        bytes.extend(self.offset.to_be_bytes());
        if extended {
            bytes.extend(self.length.to_be_bytes());
        } else {
            bytes.extend(u32::try_from(self.length).expect("a short request").to_be_bytes());
        }
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// If the magic is wrong, or there are too few bytes. The client is then out of step.
    pub fn parse(bytes: &[u8], style: Style) -> Result<Self, Malformed> {
        let mut data = Data(bytes);
        let extended = style == Style::Extended;
        if data.u32()? != if extended { EXTENDED_MAGIC } else { COMPACT_MAGIC } {
            return Err(Malformed);
        }
        Ok(Self {
            flags: data.u16()?,
            command: Command::from_number(data.u16()?),
            cookie: data.u64()?,
            offset: data.u64()?,
            length: if extended { data.u64()? } else { u64::from(data.u32()?) },
        })
    }

    /// Bytes of the payload that follow the header.
    ///
    /// A write has one with or without the flag: QEMU 10.0 leaves the flag out.
    pub fn payload_length(&self, style: Style) -> u64 {
        let said = style == Style::Extended && self.has(command_flag::PAYLOAD_LEN);
        if said || self.command == Command::Write { self.length } else { 0 }
    }

    /// Whether the flag is set.
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}
