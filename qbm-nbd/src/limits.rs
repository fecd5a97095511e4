//! How much a client may ask for. Clients are strangers: everything they can make grow ends here.

use std::time::Duration;

/// Bytes of an export's name, a description, or a query for contexts: "Terminology", strings.
pub const MAX_NAME: usize = 4096;

/// Bytes of an option's data that are looked at. Longer data is skipped, and refused with
/// `NBD_REP_ERR_TOO_BIG`.
pub const MAX_OPTION: usize = 32 << 10;

/// Bytes of an option's data that are skipped; at longer data the server hangs up.
pub const MAX_SKIPPED_OPTION: u32 = 1 << 20;

/// Options of one handshake; at the next the server hangs up.
pub const MAX_OPTIONS: usize = 64;

/// Metadata contexts of one connection; more are refused with `NBD_REP_ERR_TOO_BIG`.
pub const MAX_CONTEXTS: usize = 16;

/// Bytes that one request reads or writes: the largest block size told to clients. Longer ones
/// are refused with `NBD_EINVAL`, after their payload has been skipped.
pub const MAX_REQUEST: usize = 32 << 20;

/// Bytes of a payload that are skipped; at a longer one the server hangs up.
pub const MAX_SKIPPED_PAYLOAD: u64 = 64 << 20;

/// Requests of one connection that are worked on at a time, each by a thread of its own.
pub const MAX_IN_FLIGHT: usize = 16;

/// Bytes of a request that are worked on at a time, while the server has memory.
pub const MAX_PIECE: usize = 2 << 20;

/// The same for a server that has none left. Two threads of each connection have that for themselves.
pub const LEAST_PIECE: usize = 64 << 10;

/// Bytes of the requests of all connections together, beside what each connection has for itself.
pub const MAX_MEMORY: usize = 256 << 20;

/// Extents of a context in one reply.
pub const MAX_EXTENTS: usize = 4096;

/// Bytes that one `NBD_CMD_CACHE` reads ahead; the rest of its range is left alone.
pub const MAX_CACHED: u64 = 32 << 20;

/// Clients in their handshake, beyond which the oldest of them is hung up on.
pub const MAX_HANDSHAKES: usize = 64;

/// Failures of disks that are reported, clients refused, and clients cut off; more are only counted.
pub const MAX_REPORTS: u64 = 100;

/// What the operator may choose, and tests cut short.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Clients served at a time; 64 by default. Others are refused with `NBD_REP_ERR_POLICY`.
    pub connections: usize,
    /// How long a handshake may take; 10 s by default.
    pub handshake: Duration,
    /// How long a client may read nothing while a reply waits for it; 60 s by default.
    pub send: Duration,
    /// How long replies may take once the server is told to stop; 1 s by default.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            handshake: Duration::from_secs(10),
            send: Duration::from_secs(60),
            grace: Duration::from_secs(1),
        }
    }
}
