//! The file of a segment: making a new one, and reading one that is there.

use super::Image;
use crate::bits::{Bits, PAGE_BITS, PAGE_BYTES, TailBits};
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

/// The most granules of all segments of an image: 2 GiB of bits, which is 64 bitmaps of 16 TiB at
/// 64 KiB.
pub const MAX_GRANULES_TOGETHER: u64 = 1 << 34;

/// A fresh name for a file of `bitmap` beside the descriptor `image`.
///
/// docs/format.md, "Names": nothing of the bitmap's name but letters, digits, `-` and `_` gets
/// into a file name.
pub(super) fn fresh_name(image: &str, bitmap: &str, ending: &str, host: &dyn Host) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let bitmap: String = bitmap.chars().map(plain).take(64).collect();
    format!("{image}.{bitmap}.{}.{ending}", host.fresh_id())
}

/// Whether a bitmap of `granularity` can follow a disk of `size` bytes.
pub(super) fn check_granules(granularity: Granularity, size: u64) -> Result<()> {
    if granularity.granules_of(size) > MAX_GRANULES {
        return Err(Error::TooManyGranules { granularity, size });
    }
    Ok(())
}

/// Whether segments of image `name` that have so many granules `together` can be followed.
pub(super) fn check_together(name: &str, together: u64) -> Result<()> {
    if together > MAX_GRANULES_TOGETHER {
        let what = format!(
            "its bitmaps have {together} granules together, and at most {MAX_GRANULES_TOGETHER} \
             can be followed; it needs fewer bitmaps or coarser ones"
        );
        return Err(Error::unusable(name, what));
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
    let mut buffer = Buffer::zeroed(usize::try_from(length).map_or(CHUNK, |all| all.min(CHUNK)));
    let mut offset = 0;
    while offset < length {
        let part = usize::try_from(length - offset).map_or(CHUNK, |left| left.min(CHUNK));
        let written = file.write_at(offset, buffer.narrow(0..part), Persist::Later).await;
        buffer = written.map_err(io("write"))?.widen();
        offset += part as u64;
    }
    if mutants::without(Mutant::NoFileSync) {
        // Before anything names it: a descriptor must never name a file that a crash can cut.
        file.sync().await.map_err(io("sync"))?;
    }
    Ok(file)
}

/// A new file with `bits`. They are durable, its name is when the directory is.
pub(super) async fn create_holding<D: Directory>(
    directory: &D,
    name: &str,
    bits: &Bits,
) -> Result<()> {
    let file = create_file(directory, name, bits.file_len()).await?;
    let mut bytes = [0; PAGE_BYTES];
    for page in (0..bits.page_count()).filter(|page| !bits.page_is_empty(*page)) {
        bits.page_bytes(page, &mut bytes);
        let buffer = Buffer::from_slice(&bytes[..bits.page_len(page)]);
        let offset = (page * PAGE_BYTES) as u64;
        let written = file.write_at(offset, buffer, Persist::Later).await;
        written.map_err(Error::io(name, "write"))?;
    }
    // Before a descriptor names it, as its zeroes were.
    file.sync().await.map_err(Error::io(name, "sync"))
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
        let name = fresh_name(&self.name, bitmap, "bits", &*self.host);
        let length = granularity.granules_of(size).div_ceil(8);
        let file = create_file(&self.directory, &name, length).await?;
        Ok(Segment::new(bitmap, granularity, size, SegmentFile { name, file })
            .relaxed(self.durability == Durability::Close))
    }
}

/// Reads the marks in `file` into `bits`; returns why they are not what a correct writer left.
///
/// What cannot be read, and what the file is too short for, counts as marked; that is no doubt as
/// long as it has the `expected` bytes. A file with marks past the end is not the file of this disk,
/// and everything counts as marked.
pub(super) async fn load<F: Storage>(
    file: &F,
    bits: &Bits,
    expected: u64,
) -> std::io::Result<Option<Doubt>> {
    let needed = bits.file_len();
    let length = file.len().await?;
    let mut found = Found::default();
    let mut offset = 0;
    while offset < length.min(needed) {
        let range = ByteRange::new(offset, length.min(needed) - offset);
        let status = file.block_status(range).await?;
        let end = offset + status.length.clamp(1, range.length());
        if status.data {
            load_extent(file, ByteRange::new(offset, end - offset), bits, &mut found).await;
        }
        offset = end;
    }
    if length < needed {
        bits.set(length * 8..bits.len());
    }
    if found.excess || has_data_after(file, needed, length).await? {
        bits.set_all();
        return Ok(Some(Doubt::SegmentExcess));
    }
    Ok(match (length < expected, found.unreadable) {
        (true, _) => Some(Doubt::SegmentTooShort),
        (false, true) => Some(Doubt::SegmentUnreadable),
        (false, false) => None,
    })
}

/// What was wrong with a file, as far as it was read.
#[derive(Default)]
struct Found {
    /// A part could not be read.
    unreadable: bool,
    /// The last byte has bits for granules that there are not.
    excess: bool,
}

/// Reads one extent with data.
async fn load_extent<F: Storage>(file: &F, extent: ByteRange, bits: &Bits, found: &mut Found) {
    // From a page boundary, so that one bad sector costs one page.
    let mut offset = extent.start() - extent.start() % PAGE_BYTES as u64;
    let mut spare = None;
    while offset < extent.end() {
        let part = usize::try_from(extent.end() - offset).map_or(CHUNK, |left| left.min(CHUNK));
        let buffer = spare.take().unwrap_or_else(|| Buffer::zeroed(part)).narrow(0..part);
        match file.read_at(offset, buffer).await {
            Ok(buffer) => {
                for (page, bytes) in (page_at(offset)..).zip(buffer.chunks(PAGE_BYTES)) {
                    found.excess |= bits.or_page_bytes(page, bytes) == TailBits::Dropped;
                }
                spare = Some(buffer.widen());
            }
            Err(_) => {
                let range = ByteRange::new(offset, part as u64);
                load_by_page(file, range, bits, found).await;
            }
        }
        offset += part as u64;
    }
}

/// Reads `range`, of which a part is known to be unreadable, and marks that part wholly.
async fn load_by_page<F: Storage>(file: &F, range: ByteRange, bits: &Bits, found: &mut Found) {
    for offset in (range.start()..range.end()).step_by(PAGE_BYTES) {
        let page = page_at(offset);
        match file.read_at(offset, Buffer::zeroed(bits.page_len(page))).await {
            Ok(buffer) => found.excess |= bits.or_page_bytes(page, &buffer) == TailBits::Dropped,
            Err(_) => {
                let first = page as u64 * PAGE_BITS;
                bits.set(first..(first + PAGE_BITS).min(bits.len()));
                found.unreadable = true;
            }
        }
    }
}

fn page_at(offset: u64) -> usize {
    usize::try_from(offset / PAGE_BYTES as u64).expect("at most MAX_GRANULES bits are loaded")
}

/// Whether a file of `length` bytes has anything but zeroes from `offset` on.
async fn has_data_after<F: Storage>(
    file: &F,
    mut offset: u64,
    length: u64,
) -> std::io::Result<bool> {
    while offset < length {
        let rest = ByteRange::checked_new(offset, length - offset);
        let Some(rest) = rest else { return Ok(true) };
        let status = file.block_status(rest).await?;
        let part = status.length.clamp(1, rest.length());
        let read = part.min(CHUNK as u64);
        if status.data {
            let bytes = Buffer::zeroed(usize::try_from(read).expect("at most a chunk"));
            if file.read_at(offset, bytes).await?.iter().any(|byte| *byte != 0) {
                return Ok(true);
            }
        }
        offset += if status.data { read } else { part };
    }
    Ok(false)
}
