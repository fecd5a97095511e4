//! What a server has done so far, for the operator.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the server began. They are read while it works, each by itself.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Clients that connected.
    pub connections: Count,
    /// Clients in transmission now.
    pub serving: Count,
    /// Clients refused because too many are served.
    pub refused: Count,
    /// Clients hung up on because their handshake took too long, or others came after them.
    pub evicted: Count,
    /// Requests to read.
    pub reads: Count,
    /// Bytes read.
    pub bytes_read: Count,
    /// Requests to write, zero or trim.
    pub writes: Count,
    /// Bytes written, zeroed or trimmed.
    pub bytes_written: Count,
    /// Flushes.
    pub flushes: Count,
    /// Requests for block status.
    pub block_status: Count,
    /// Requests that were refused because they could not be.
    pub bad_requests: Count,
    /// Requests that the disk failed.
    pub disk_failures: Count,
    /// Connections that a bug of ours ended.
    pub panics: Count,
}

/// A number that many threads count up.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts, and returns the number before.
    pub(crate) fn add(&self, more: u64) -> u64 {
        self.0.fetch_add(more, Ordering::Relaxed)
    }

    pub(crate) fn subtract(&self, fewer: u64) {
        self.0.fetch_sub(fewer, Ordering::Relaxed);
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = [
            ("clients connected", &self.connections),
            ("clients served now", &self.serving),
            ("clients refused", &self.refused),
            ("handshakes cut off", &self.evicted),
            ("reads", &self.reads),
            ("bytes read", &self.bytes_read),
            ("writes, zeroes and trims", &self.writes),
            ("bytes of these", &self.bytes_written),
            ("flushes", &self.flushes),
            ("block status requests", &self.block_status),
            ("bad requests", &self.bad_requests),
            ("failures of the disk", &self.disk_failures),
            ("connections ended by a bug", &self.panics),
        ];
        for (index, (what, count)) in lines.iter().enumerate() {
            let end = if index + 1 < lines.len() { "\n" } else { "" };
            write!(f, "{what:<28}{:>20}{end}", count.get())?;
        }
        Ok(())
    }
}
