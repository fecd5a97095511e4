//! A disk behind an NBD server, as a storage: any server will do, and so any format that one of them
//! reads.
//!
//! Calls block the thread until the server has answered. Where the server promises that a flush covers
//! all connections, several are used, and as many calls are under way.
//!
//! # What a broken connection leaves
//!
//! A server that is gone may have taken with it what it had acknowledged and not flushed, and one that
//! comes back does not say so. So a connection is replaced only while nothing is at stake: no write is
//! under way, and all that were done have been flushed. Reads and flushes are then asked again. Otherwise
//! the disk is *lost*: every later call fails, until it is opened anew.
//!
//! # Locks
//!
//! NBD has none. What keeps others from writing is the server: give it to nobody else, or let it take one
//! client for writing only (`qemu-nbd` without `--shared`).

mod edges;
mod handshake;
mod ledger;
mod line;
mod link;
mod missing;
mod offer;
mod origin;
mod pool;
mod trouble;
mod uri;

use std::io;

use qbm_core::{
    Access, BlockStatus, Buffer, ByteRange, Identity, Limits, Lock, Persist, Storage, Unmap,
};

use self::edges::Edges;
pub use self::line::Patience;
use self::link::Want;
use self::offer::Offer;
pub use self::origin::Origin;
use self::pool::Pool;
use self::trouble::out_of_step;
pub use self::uri::{NbdUri, NotAnUri};
use crate::protocol::{Command, Request, allocation_flag, command_flag as flag};

/// The most bytes of one request without a payload.
const MAX_RANGE: u64 = 1 << 30;

/// A disk behind an NBD server.
#[derive(Debug)]
pub struct NbdStorage {
    offer: Offer,
    pool: Pool,
    edges: Edges,
}

impl NbdStorage {
    /// Connects to the server at `uri`.
    ///
    /// # Errors
    ///
    /// If it is not there, has no such export, or the export is read-only or cannot be flushed and
    /// `access` is for writing.
    pub fn connect(uri: &NbdUri, access: Access) -> io::Result<Self> {
        Self::open(Origin::at(uri)?, access)
    }

    /// Connects to `origin`.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Self::connect).
    pub fn open(origin: Origin, access: Access) -> io::Result<Self> {
        let (pool, offer) = Pool::connect(origin, access)?;
        Ok(Self { edges: Edges::new(offer.least), pool, offer })
    }

    fn request(command: Command, range: ByteRange, flags: u16) -> Request {
        let (offset, length) = (range.start(), range.length());
        Request { flags, command, cookie: 0, offset, length }
    }

    /// Reads `buffer.len()` bytes of the disk; the range fits the server's blocks.
    fn read_blocks(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut offset = offset;
        for part in buffer.chunks_mut(self.offer.most) {
            let request = Self::request(Command::Read, range_of(offset, part), 0);
            self.pool.ask(&mut |link| link.ask(request, &[], Want::Data(&mut *part)))?;
            offset += part.len() as u64;
        }
        Ok(())
    }

    /// Writes `bytes`; the range fits the server's blocks.
    fn write_blocks(&self, offset: u64, bytes: &[u8], flags: u16) -> io::Result<()> {
        let mut offset = offset;
        for part in bytes.chunks(self.offer.most) {
            let request = Self::request(Command::Write, range_of(offset, part), flags);
            self.pool.change(|link| link.ask(request, part, Want::Nothing))?;
            offset += part.len() as u64;
        }
        Ok(())
    }

    /// Sends `command` for all of `range`, in pieces; it fits the server's blocks.
    fn change_blocks(&self, command: Command, range: ByteRange, flags: u16) -> io::Result<()> {
        for piece in pieces(range, MAX_RANGE) {
            let request = Self::request(command, piece, flags);
            self.pool.change(|link| link.ask(request, &[], Want::Nothing))?;
        }
        Ok(())
    }

    /// Reads blocks, changes some of their bytes by `patch`, and writes them.
    fn patch(&self, blocks: ByteRange, patch: impl FnOnce(&mut [u8])) -> io::Result<()> {
        let length = usize::try_from(blocks.length()).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.read_blocks(blocks.start(), &mut bytes)?;
        patch(&mut bytes);
        self.write_blocks(blocks.start(), &bytes, 0)
    }

    fn check_end(&self, range: ByteRange) -> io::Result<()> {
        if range.end() <= self.offer.size {
            return Ok(());
        }
        let what = format!("the disk of a server does not grow, and has {} bytes", self.offer.size);
        Err(io::Error::new(io::ErrorKind::StorageFull, what))
    }

    fn flush(&self) -> io::Result<()> {
        if !self.offer.can_flush {
            // Nothing was written through this handle, which is for reading.
            return Ok(());
        }
        let request = Self::request(Command::Flush, ByteRange::new(0, 0), 0);
        self.pool.flush(&mut |link| link.ask(request, &[], Want::Nothing))
    }

    fn zero_blocks(&self, range: ByteRange, unmap: Unmap) -> io::Result<()> {
        if self.offer.can_zero {
            let flags = if unmap == Unmap::Forbidden { flag::NO_HOLE } else { 0 };
            return self.change_blocks(Command::WriteZeroes, range, flags);
        }
        let most = self.offer.most.min(ZEROES.len());
        for piece in pieces(range, most as u64) {
            let length = usize::try_from(piece.length()).expect("a part of ZEROES");
            self.write_blocks(piece.start(), &ZEROES[..length], 0)?;
        }
        Ok(())
    }
}

/// What is written where a server cannot zero.
static ZEROES: [u8; 1 << 20] = [0; 1 << 20];

fn range_of(offset: u64, bytes: &[u8]) -> ByteRange {
    ByteRange::new(offset, bytes.len() as u64)
}

/// `range` in pieces of at most `most` bytes.
fn pieces(range: ByteRange, most: u64) -> impl Iterator<Item = ByteRange> {
    let mut offset = range.start();
    std::iter::from_fn(move || {
        let left = range.end() - offset;
        let piece = ByteRange::new(offset, left.min(most));
        offset = piece.end();
        (left > 0).then_some(piece)
    })
}

impl Storage for NbdStorage {
    async fn read_at(&self, offset: u64, mut buffer: Buffer) -> io::Result<Buffer> {
        let wanted = ByteRange::checked_new(offset, buffer.len() as u64);
        let there = wanted.map_or(ByteRange::new(offset, 0), |range| range.clip(self.offer.size));
        let count = usize::try_from(there.length()).expect("no longer than the buffer");
        buffer[count..].fill(0);
        let blocks = self.edges.around(there);
        if there.is_empty() {
        } else if blocks == there {
            self.read_blocks(offset, &mut buffer[..count])?;
        } else {
            let mut bytes = vec![0; usize::try_from(blocks.length()).map_err(io::Error::other)?];
            self.read_blocks(blocks.start(), &mut bytes)?;
            let skip = usize::try_from(there.start() - blocks.start()).expect("less than a block");
            buffer[..count].copy_from_slice(&bytes[skip..][..count]);
        }
        Ok(buffer)
    }

    async fn write_at(&self, offset: u64, buffer: Buffer, persist: Persist) -> io::Result<Buffer> {
        if buffer.is_empty() {
            return Ok(buffer);
        }
        let range = ByteRange::checked_new(offset, buffer.len() as u64);
        let range = range.ok_or(io::ErrorKind::InvalidInput)?;
        self.check_end(range)?;
        let fua = persist == Persist::Now && self.offer.can_fua;
        let blocks = self.edges.around(range);
        if blocks == range {
            let _shared = self.edges.share();
            self.write_blocks(offset, &buffer, if fua { flag::FUA } else { 0 })?;
        } else {
            let _alone = self.edges.take();
            let skip = usize::try_from(offset - blocks.start()).expect("less than a block");
            self.patch(blocks, |bytes| bytes[skip..][..buffer.len()].copy_from_slice(&buffer))?;
        }
        if persist == Persist::Now && !(fua && blocks == range) {
            self.flush()?;
        }
        Ok(buffer)
    }

    async fn write_zeroes(&self, range: ByteRange, unmap: Unmap) -> io::Result<()> {
        let range = range.clip(self.offer.size);
        let whole = self.edges.within(range);
        if whole == range {
            let _shared = self.edges.share();
            return self.zero_blocks(range, unmap);
        }
        let _alone = self.edges.take();
        for edge in self.edges.beside(range) {
            let blocks = self.edges.around(edge);
            let skip = usize::try_from(edge.start() - blocks.start()).expect("less than a block");
            let length = usize::try_from(edge.length()).expect("at most two blocks");
            self.patch(blocks, |bytes| bytes[skip..][..length].fill(0))?;
        }
        self.zero_blocks(whole, unmap)
    }

    async fn discard(&self, range: ByteRange) -> io::Result<()> {
        if !self.offer.can_trim {
            return Ok(());
        }
        let whole = self.edges.within(range.clip(self.offer.size));
        let _shared = self.edges.share();
        self.change_blocks(Command::Trim, whole, 0)
    }

    async fn sync(&self) -> io::Result<()> {
        self.flush()
    }

    async fn invalidate_cache(&self) -> io::Result<()> {
        // There is none on this side. What the server's has is between it and its medium.
        Ok(())
    }

    async fn settle(&self) {
        // An operation ends within the first poll of its future: none is left to wait for.
    }

    async fn len(&self) -> io::Result<u64> {
        Ok(self.offer.size)
    }

    async fn set_len(&self, length: u64) -> io::Result<()> {
        if length == self.offer.size {
            return Ok(());
        }
        let what = "the length of a server's disk cannot be changed from here";
        Err(io::Error::new(io::ErrorKind::Unsupported, what))
    }

    async fn block_status(&self, range: ByteRange) -> io::Result<BlockStatus> {
        let there = range.clip(self.offer.size);
        if there.is_empty() {
            return Ok(BlockStatus { length: range.length(), data: false });
        }
        if !self.offer.can_tell_zeroes {
            return Ok(BlockStatus { length: there.length(), data: true });
        }
        let start = self.edges.around(there).start();
        let asked = self.edges.around(ByteRange::new(start, there.end() - start));
        let asked = ByteRange::new(start, asked.length().min(MAX_RANGE));
        let request = Self::request(Command::BlockStatus, asked, flag::REQ_ONE);
        let mut extent = None;
        self.pool.ask(&mut |link| {
            extent = None;
            link.ask(request, &[], Want::Extent(&mut extent))
        })?;
        let extent = extent.expect("an answer has one");
        // The extent begins where the block does.
        let end = start.saturating_add(extent.length).clamp(there.start(), there.end());
        if end == there.start() {
            return Err(out_of_step("an extent of less than a block"));
        }
        let data = extent.flags & u64::from(allocation_flag::ZERO) == 0;
        Ok(BlockStatus { length: end - there.start(), data })
    }

    async fn identity(&self) -> io::Result<Option<Identity>> {
        // A server does not say which disk it has, or whether that has changed.
        Ok(None)
    }

    async fn lock(&self, _: Lock) -> io::Result<()> {
        // See the module: whom the server lets in is the server's affair.
        Ok(())
    }

    fn limits(&self) -> Limits {
        self.offer.limits()
    }
}
