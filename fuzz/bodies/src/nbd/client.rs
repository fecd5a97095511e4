//! Any bytes are a server of the NBD client.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_executor::block_on;
use qbm_core::{Access, Buffer, ByteRange, Persist, Storage, Unmap};
use qbm_nbd::{NbdStorage, Origin, Patience};

use super::wire::ScriptChannel;

/// What ends the bytes of one connection and begins those of the next.
const CUT: &[u8] = b"<cut>";
/// What is before bytes that come only when something more is asked for.
const ASKED: &[u8] = b"<ask>";

/// The bytes are all that a server says, a connection after the other. The client does not panic and comes to
/// an end; and what it takes for data is what the server has said, whatever its buffers had before.
///
/// # Panics
///
/// If that does not hold.
pub fn client(bytes: &[u8]) {
    let (one, other) = (told(bytes, 0x55), told(bytes, 0xaa));
    assert!(one == other, "what was in the buffer was taken for data");
}

/// What a client is told that asks for a few things. Its buffers are full of `filler`.
fn told(bytes: &[u8], filler: u8) -> Vec<String> {
    let scripts = Arc::new(Mutex::new(split(bytes, CUT)));
    let dial = move || {
        let script = scripts.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let script = script.ok_or(io::ErrorKind::ConnectionRefused)?;
        Ok(Box::new(ScriptChannel::new(split(&script, ASKED))) as _)
    };
    let patience = Patience { absence: Duration::ZERO, ..Patience::default() };
    let origin = Origin::by(dial, "disk").with_patience(patience);
    let disk = match NbdStorage::open(origin, Access::Write) {
        Ok(disk) => disk,
        Err(error) => return vec![error.to_string()],
    };
    let limits = disk.limits();
    assert!(limits.alignment.is_power_of_two() && limits.max_transfer <= 2 << 20, "{limits:?}");
    let buffer = |length| {
        let mut buffer = Buffer::zeroed(length);
        buffer.fill(filler);
        buffer
    };
    let read = |offset, length| block_on(disk.read_at(offset, buffer(length)));
    let status = |offset| block_on(disk.block_status(ByteRange::new(offset, 8)));
    let size = block_on(disk.len()).unwrap_or(0);
    let mut told = vec![format!("{size}")];
    told.push(said(&read(0, 8).map(|bytes| bytes.to_vec())));
    told.push(said(&status(0)));
    told.push(said(&read(size.saturating_sub(4), 600).map(|bytes| bytes.to_vec())));
    told.push(said(&block_on(disk.write_at(0, Buffer::zeroed(512), Persist::Now)).map(drop)));
    let range = ByteRange::new(0, 512);
    told.push(said(&block_on(disk.write_zeroes(range, Unmap::Allowed))));
    told.push(said(&block_on(disk.discard(range))));
    told.push(said(&block_on(disk.sync())));
    told.push(said(&read(0, 8).map(|bytes| bytes.to_vec())));
    told
}

fn said<T: std::fmt::Debug>(done: &io::Result<T>) -> String {
    format!("{done:?}")
}

/// `bytes` in parts, at each `mark`.
fn split(mut bytes: &[u8], mark: &[u8]) -> VecDeque<Vec<u8>> {
    let mut parts = VecDeque::new();
    while let Some(place) = bytes.windows(mark.len()).position(|window| window == mark) {
        parts.push_back(bytes[..place].to_vec());
        bytes = &bytes[place + mark.len()..];
    }
    parts.push_back(bytes.to_vec());
    parts
}
