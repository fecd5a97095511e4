//! The NBD protocol as types: bytes to values and back, without I/O.
//!
//! The reference is `doc/proto.md` of the NBD project; sections of it are named in quotes. All
//! numbers are big-endian.

mod data;
mod option;
mod reply;
mod request;

pub use data::{Data, Malformed};
pub use option::{ExportRequest, MetaRequest, Opt, OptionHeader, OptionReply, Rep, info};
pub use reply::{ErrorCode, Part, Replies, ReplyHeader, Style};
pub use request::{Command, Request, command_flag};

/// "Newstyle negotiation": the first 8 bytes that a server sends, `NBDMAGIC`.
pub const MAGIC: u64 = 0x4e42_444d_4147_4943;
/// "Newstyle negotiation": `IHAVEOPT`, from the server once and before each option.
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// "Fixed newstyle negotiation": before each reply to an option.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;

/// "Handshake flags" and "Client flags": their first two bits are the same.
pub mod handshake_flag {
    /// The fixed newstyle protocol.
    pub const FIXED_NEWSTYLE: u16 = 1;
    /// The 124 zero bytes after `NBD_OPT_EXPORT_NAME` are left out.
    pub const NO_ZEROES: u16 = 1 << 1;
}

/// "Transmission flags": what an export can do.
pub mod transmission_flag {
    /// Always set.
    pub const HAS_FLAGS: u16 = 1;
    /// Writes are refused.
    pub const READ_ONLY: u16 = 1 << 1;
    /// `NBD_CMD_FLUSH` is there.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// `NBD_CMD_FLAG_FUA` is there.
    pub const SEND_FUA: u16 = 1 << 3;
    /// `NBD_CMD_TRIM` is there.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// `NBD_CMD_WRITE_ZEROES` is there.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// `NBD_CMD_FLAG_DF` is there; only with structured replies.
    pub const SEND_DF: u16 = 1 << 7;
    /// A flush on one connection covers the writes of all.
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    /// `NBD_CMD_CACHE` is there.
    pub const SEND_CACHE: u16 = 1 << 10;
    /// `NBD_CMD_FLAG_FAST_ZERO` is there.
    pub const SEND_FAST_ZERO: u16 = 1 << 11;
    /// `NBD_CMD_BLOCK_STATUS` takes a payload; only with extended headers.
    pub const BLOCK_STATUS_PAYLOAD: u16 = 1 << 12;
}

/// "Metadata contexts": the flags of `base:allocation`.
pub mod allocation_flag {
    /// A write may need new space.
    pub const HOLE: u32 = 1;
    /// It reads as zeroes.
    pub const ZERO: u32 = 1 << 1;
}

/// The flag of `qemu:dirty-bitmap:NAME`, in QEMU's `docs/interop/nbd.rst`: the granule is marked.
pub const DIRTY: u32 = 1;
