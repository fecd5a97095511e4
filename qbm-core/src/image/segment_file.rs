//! The file of a segment: making a new one, and reading one that is there.

use super::Image;
use crate::bits::{Bits, PAGE_BITS, PAGE_BYTES};
use crate::descriptor::{Doubt, Durability};
use crate::mutants::{self, Mutant};
use crate::track::segment::{Segment, SegmentFile};
use crate::{
    Buffer, ByteRange, Directory, Error, Granularity, Host, Lock, Persist, Result, Storage,
};

/// How much of a file is read or written at a time, in bytes.
const CHUNK: usize = 1 << 20;

/// The most granules of a bitmap: 512 MiB of bits, which is 16 TiB at 4 KiB.
pub const MAX_GRANULES: u64 = 1 << 32;

/// A fresh name for a segment of `bitmap` beside the descriptor `image`.
///
/// docs/format.md, "Names": nothing of the bitmap's name but letters, digits, `-` and `_` gets
/// into a file name.
pub(super) fn fresh_name(image: &str, bitmap: &str, host: &dyn Host) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let bitmap: String = bitmap.chars().map(plain).take(64).collect();
    format!("{image}.{bitmap}.{}.bits", host.fresh_id())
}

/// Whether a bitmap of `granularity` can follow a disk of `size` bytes.
pub(super) fn check_granules(granularity: Granularity, size: u64) -> Result<()> {
    if granularity.granules_of(size) > MAX_GRANULES {
        return Err(Error::TooManyGranules { granularity, size });
    }
    Ok(())
}

/// A new file of `length` zero bytes. Its bytes are durable, its name is when the directory is.
///
/// Zeroes are written, not left as a hole: later page writes are then pure overwrites, which are
/// twice as fast to sync and cannot run out of space on most file systems.
pub(super) async fn create_file<D: Directory>(
    directory: &D,
    name: &str,
    length: u64,
) -> Result<D::File> {
    let io = |action| Error::io(name, action);
    let file = directory.create(name).await.map_err(io("create"))?;
    file.lock(Lock::Write).await.map_err(io("lock"))?;
    let mut buffer = Buffer::zeroed(CHUNK);
    let mut offset = 0;
    while offset < length {
        let part = usize::try_from(length - offset).map_or(CHUNK, |left| left.min(CHUNK));
        let written = file.write_at(offset, buffer.narrow(0..part), Persist::Later).await;
        buffer = written.map_err(io("write"))?.widen();
        offset += part as u64;
    }
    if !mutants::planted(Mutant::NoFileSync) {
        // Before anything names it: a descriptor must never name a file that a crash can cut.
        file.sync().await.map_err(io("sync"))?;
    }
    Ok(file)
}

impl<D: Directory> Image<D> {
    /// A new segment without marks, for a disk of `size` bytes.
    pub(super) async fn create_segment(
        &self,
        bitmap: &str,
        granularity: Granularity,
        size: u64,
    ) -> Result<Segment<D::File>> {
        check_granules(granularity, size)?;
        let name = fresh_name(&self.name, bitmap, &*self.host);
        let length = granularity.granules_of(size).div_ceil(8);
        let file = create_file(&self.directory, &name, length).await?;
        Ok(Segment::new(bitmap, granularity, size, SegmentFile { name, file })
            .relaxed(self.durability == Durability::Close))
    }
}

/// Reads the marks in `file` into `bits`; returns why they are not what a correct writer left.
///
/// What cannot be read, and what the file is too short for, counts as marked. A file with marks
/// past the end is not the file of this disk, and everything counts as marked.
pub(super) async fn load<F: Storage>(file: &F, bits: &Bits) -> std::io::Result<Option<Doubt>> {
    let needed = bits.file_len();
    let length = file.len().await?;
    let mut doubt = None;
    let mut offset = 0;
    while offset < length.min(needed) {
        let range = ByteRange::new(offset, length.min(needed) - offset);
        let status = file.block_status(range).await?;
        let end = offset + status.length.clamp(1, range.length());
        if status.data && !load_extent(file, ByteRange::new(offset, end - offset), bits).await {
            doubt = Some(Doubt::SegmentUnreadable);
        }
        offset = end;
    }
    if length < needed {
        bits.set(length * 8..bits.len());
        doubt = Some(Doubt::SegmentTooShort);
    }
    if has_marks_past_the_end(file, bits, length).await? {
        bits.set_all();
        doubt = Some(Doubt::SegmentExcess);
    }
    Ok(doubt)
}

/// Reads one extent with data; returns whether all of it could be read.
async fn load_extent<F: Storage>(file: &F, extent: ByteRange, bits: &Bits) -> bool {
    let mut complete = true;
    // Page by page from a page boundary, so that one bad sector costs one page.
    let mut offset = extent.start() - extent.start() % PAGE_BYTES as u64;
    while offset < extent.end() {
        let part = usize::try_from(extent.end() - offset).map_or(CHUNK, |left| left.min(CHUNK));
        match file.read_at(offset, Buffer::zeroed(part)).await {
            Ok(buffer) => {
                for (index, page) in (page_at(offset)..).zip(buffer.chunks(PAGE_BYTES)) {
                    bits.or_page_bytes(index, page);
                }
            }
            Err(_) => {
                complete &= load_by_page(file, ByteRange::new(offset, part as u64), bits).await
            }
        }
        offset += part as u64;
    }
    complete
}

/// Reads `range`, of which a part is known to be unreadable, and marks that part wholly.
async fn load_by_page<F: Storage>(file: &F, range: ByteRange, bits: &Bits) -> bool {
    let mut complete = true;
    for offset in (range.start()..range.end()).step_by(PAGE_BYTES) {
        let page = page_at(offset);
        match file.read_at(offset, Buffer::zeroed(PAGE_BYTES)).await {
            Ok(buffer) => bits.or_page_bytes(page, &buffer),
            Err(_) => {
                let first = page as u64 * PAGE_BITS;
                bits.set(first..(first + PAGE_BITS).min(bits.len()));
                complete = false;
                continue;
            }
        };
    }
    complete
}

fn page_at(offset: u64) -> usize {
    usize::try_from(offset / PAGE_BYTES as u64).expect("at most MAX_GRANULES bits are loaded")
}

/// Whether the tail bits of the last byte, or the bytes after it, hold anything but zeroes.
async fn has_marks_past_the_end<F: Storage>(
    file: &F,
    bits: &Bits,
    length: u64,
) -> std::io::Result<bool> {
    let needed = bits.file_len();
    if bits.len() % 8 != 0 && length >= needed {
        let last = file.read_at(needed - 1, Buffer::zeroed(1)).await;
        // An unreadable last byte counts as unreadable, which `load` has found already.
        if last.is_ok_and(|last| last[0] >> (bits.len() % 8) != 0) {
            return Ok(true);
        }
    }
    let mut offset = needed;
    while offset < length {
        let status = file.block_status(ByteRange::new(offset, length - offset)).await?;
        let part = status.length.clamp(1, CHUNK as u64).min(length - offset);
        if status.data {
            let part = usize::try_from(part).expect("at most a chunk");
            if file.read_at(offset, Buffer::zeroed(part)).await?.iter().any(|byte| *byte != 0) {
                return Ok(true);
            }
        }
        offset += if status.data { part } else { status.length.max(1) };
    }
    Ok(false)
}
