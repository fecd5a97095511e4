//! Zeroing and discarding ranges of a file or block device, without writing where that works.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use qbm_core::{ByteRange, Unmap};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// Block devices zero only whole logical blocks by themselves; no known one has larger blocks.
const BLOCK: u64 = 4096;

static ZEROES: [u8; 1 << 16] = [0; 1 << 16];

/// Makes `range`, which lies within the file, read as zeroes.
pub(crate) fn write_zeroes(file: &File, range: ByteRange, unmap: Unmap) -> io::Result<()> {
    let flags = match unmap {
        Unmap::Allowed => FallocateFlags::PUNCH_HOLE,
        Unmap::Forbidden => FallocateFlags::ZERO_RANGE,
    };
    let blocks = whole_blocks(range);
    if blocks.is_empty() || !allocate(file, flags, blocks)? {
        return write_plain(file, range.start(), range.end());
    }
    write_plain(file, range.start(), blocks.start())?;
    write_plain(file, blocks.end(), range.end())
}

/// Gives the space of the whole blocks in `range` back, where the medium can do that.
pub(crate) fn discard(file: &File, range: ByteRange) -> io::Result<()> {
    let blocks = whole_blocks(range);
    if !blocks.is_empty() {
        // Whether it could does not matter: what is discarded may stay.
        allocate(file, FallocateFlags::PUNCH_HOLE, blocks)?;
    }
    Ok(())
}

/// Rounds inwards, and to nothing where `range` has no whole block.
fn whole_blocks(range: ByteRange) -> ByteRange {
    let start = range.start().next_multiple_of(BLOCK);
    let end = range.end() - range.end() % BLOCK;
    ByteRange::new(start.min(range.end()), end.saturating_sub(start))
}

/// Whether the file system or device could do `flags` to `blocks`.
fn allocate(file: &File, flags: FallocateFlags, blocks: ByteRange) -> io::Result<bool> {
    loop {
        let flags = flags | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(file, flags, blocks.start(), blocks.length()) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            // EINVAL: a device with larger blocks. EPERM, ETXTBSY: sealed and swap files, where
            // a plain write says the same better.
            Err(
                Errno::OPNOTSUPP
                | Errno::NOSYS
                | Errno::NODEV
                | Errno::INVAL
                | Errno::PERM
                | Errno::TXTBSY,
            ) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn write_plain(file: &File, start: u64, end: u64) -> io::Result<()> {
    let mut offset = start;
    while offset < end {
        let count = usize::try_from(end - offset).map_or(ZEROES.len(), |n| n.min(ZEROES.len()));
        file.write_all_at(&ZEROES[..count], offset)?;
        offset += count as u64;
    }
    Ok(())
}
