//! How much whoever is at the other end may ask for.

use std::time::Duration;

/// Bytes of a message to a server. A longer one is skipped up to the end of its line, and refused.
pub const MAX_MESSAGE: usize = 1 << 20;

/// Objects and arrays within each other. A deeper message is skipped up to the end of its line, and
/// refused.
pub const MAX_DEPTH: usize = 16;

/// Bytes of a message to a client.
pub const MAX_REPLY: usize = 64 << 20;

/// Monitors connected at a time; at the next the server hangs up.
pub const MAX_MONITORS: usize = 16;

/// How long a monitor may read nothing while something waits to be sent to it; then the server hangs
/// up on it.
pub const SEND: Duration = Duration::from_secs(5);
