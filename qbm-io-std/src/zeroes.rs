//! Zeroing and discarding ranges of a file or block device, without writing where that works.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use qbm_core::{ByteRange, Unmap};
use rustix::fs::FallocateFlags;
use rustix::io::{Errno, retry_on_intr};

use crate::transfer;

/// Block devices zero only whole logical blocks by themselves; no known one has larger blocks.
const BLOCK: u64 = 4096;

static ZEROES: [u8; 1 << 16] = [0; 1 << 16];

/// Makes `range`, which lies within the first `length` bytes, all of the file, read as zeroes.
pub(crate) fn write_zeroes(
    file: &File,
    length: u64,
    range: ByteRange,
    unmap: Unmap,
) -> io::Result<()> {
    let blocks = whole_blocks(length, range);
    let way = match unmap {
        Unmap::Allowed => FallocateFlags::PUNCH_HOLE,
        Unmap::Forbidden => FallocateFlags::ZERO_RANGE,
    };
    if blocks.is_empty() || !allocate(file, way, blocks)? {
        return write_plain(file, range.start(), range.end());
    }
    write_plain(file, range.start(), blocks.start())?;
    write_plain(file, blocks.end(), range.end())
}

/// Whether the file system of a file punches holes; tried once.
#[derive(Debug, Default)]
pub(crate) struct Fast(OnceLock<bool>);

impl Fast {
    /// Whether [`write_zeroes`] that may give up space of `file`, of `length` bytes, writes none but at the edges.
    /// It is tried past the end, where nothing is. Zeroes that keep their space cannot be tried there: the try
    /// would reserve some.
    pub(crate) fn has(&self, file: &File, length: u64) -> bool {
        *self.0.get_or_init(|| {
            let past = ByteRange::new(length.next_multiple_of(BLOCK), BLOCK);
            allocate(file, FallocateFlags::PUNCH_HOLE, past).unwrap_or(false)
        })
    }
}

/// Gives the space of the whole blocks in `range` back, where the medium can do that; `length` is all of
/// the file.
pub(crate) fn discard(file: &File, length: u64, range: ByteRange) -> io::Result<()> {
    let blocks = whole_blocks(length, range);
    if !blocks.is_empty() {
        // Whether it could does not matter: what is discarded may stay.
        allocate(file, FallocateFlags::PUNCH_HOLE, blocks)?;
    }
    Ok(())
}

/// Rounds inwards, and to nothing where `range` has no whole block. One that the file of `length` bytes
/// ends in is whole up to there.
fn whole_blocks(length: u64, range: ByteRange) -> ByteRange {
    let start = range.start().next_multiple_of(BLOCK);
    let cut = if range.end() == length { 0 } else { range.end() % BLOCK };
    let end = range.end() - cut;
    ByteRange::new(start.min(range.end()), end.saturating_sub(start))
}

/// Whether the file system or device could do `flags` to `blocks`.
fn allocate(file: &File, flags: FallocateFlags, blocks: ByteRange) -> io::Result<bool> {
    let flags = flags | FallocateFlags::KEEP_SIZE;
    let (start, length) = (blocks.start(), blocks.length());
    match retry_on_intr(|| rustix::fs::fallocate(file, flags, start, length)) {
        Ok(()) => Ok(true),
        // EINVAL: a device with larger blocks. EBUSY: a device whose cached pages somebody else
        // holds. EPERM, ETXTBSY: sealed and swap files, where a plain write says the same better.
        Err(
            Errno::OPNOTSUPP
            | Errno::NOSYS
            | Errno::NODEV
            | Errno::INVAL
            | Errno::BUSY
            | Errno::PERM
            | Errno::TXTBSY,
        ) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn write_plain(file: &File, start: u64, end: u64) -> io::Result<()> {
    let mut offset = start;
    while offset < end {
        let count = usize::try_from(end - offset).map_or(ZEROES.len(), |n| n.min(ZEROES.len()));
        transfer::write(&ZEROES[..count], offset, |part, offset| file.write_at(part, offset))?;
        offset += count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn space_is_given_back_only_where_it_may() {
        let file = tempfile::tempfile().unwrap();
        let blocks = || file.metadata().unwrap().blocks();
        let range = ByteRange::new(0, 1 << 20);
        file.write_all_at(&vec![1; 1 << 20], 0).unwrap();
        file.sync_all().unwrap();
        let full = blocks();
        write_zeroes(&file, 1 << 20, range, Unmap::Forbidden).unwrap();
        file.sync_all().unwrap();
        assert!(blocks() >= full, "{} of {full} blocks are left", blocks());
        write_zeroes(&file, 1 << 20, range, Unmap::Allowed).unwrap();
        assert_eq!(blocks(), 0);
    }

    #[test]
    fn whether_zeroes_are_fast_is_found_out_without_a_change() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; 5000], 0).unwrap();
        file.sync_all().unwrap();
        let facts = || file.metadata().map(|facts| (facts.len(), facts.blocks())).unwrap();
        let before = facts();
        assert!(Fast::default().has(&file, 5000), "every file system of Linux punches holes");
        file.sync_all().unwrap();
        assert_eq!(facts(), before);
        let read_only = File::open("/proc/self/exe").unwrap();
        assert!(!Fast::default().has(&read_only, 5000));
    }

    /// What was in the last block showed after a discard, where the file ends within it.
    #[test]
    fn what_is_in_the_block_that_a_file_ends_in_goes_too() {
        let file = tempfile::tempfile().unwrap();
        for give_up in
            [discard, |file: &_, length, range| write_zeroes(file, length, range, Unmap::Allowed)]
        {
            file.write_all_at(&[1; 5000], 0).unwrap();
            file.sync_all().unwrap();
            give_up(&file, 5000, ByteRange::new(0, 5000)).unwrap();
            let mut left = [2; 5001];
            assert_eq!(file.read_at(&mut left, 0).unwrap(), 5000);
            assert_eq!(left[..5000], [0; 5000]);
        }
    }

    #[test]
    fn whole_blocks_round_inwards() {
        let whole = |start, length| whole_blocks(20_000, ByteRange::new(start, length));
        let blocks = |start, length| (whole(start, length).start(), whole(start, length).end());
        assert_eq!(blocks(0, 4096), (0, 4096));
        assert_eq!(blocks(1, 12_287), (4096, 12_288));
        assert_eq!(blocks(1, 19_998), (4096, 16_384));
        assert_eq!(blocks(1, 19_999), (4096, 20_000));
        for (start, length) in [(1, 4096), (4095, 2), (100, 0), (4096, 4095)] {
            assert!(whole(start, length).is_empty(), "{start} {length}");
        }
    }
}
