//! The data image and the allocation bitmap of a point: writing them.

use super::digests::Writer;
use super::{Progress, WINDOW};
use crate::bits::{Bits, PAGE_BYTES};
use crate::image::{Extent, PointView};
use crate::job::Steps;
use crate::zeroes::runs;
use crate::{Buffer, ByteRange, Directory, Error, Granularity, Image, Persist, Result, Storage};

/// Bytes that are left out together where they are zero.
pub(super) const SECTOR: usize = 4096;

/// How far a run of marks is followed at a time, in bytes of the disk: a bitmap that is all marked
/// is then walked once, and not once for each window.
const LONGEST_RUN: u64 = 1 << 30;

/// What a point takes from the source.
pub(super) struct Selection<'a> {
    /// Bytes that a bit stands for.
    pub(super) granularity: Granularity,
    /// The granules; `None` means the whole disk.
    pub(super) bits: Option<&'a Bits>,
    /// The size of the disk in bytes.
    pub(super) size: u64,
}

/// The disk of a point.
pub(super) struct Source<'a, D: Directory> {
    /// Its image.
    pub(super) image: &'a Image<D>,
    /// What it was at the point.
    pub(super) view: &'a PointView<D::File>,
}

impl<D: Directory> Source<'_, D> {
    /// The first extent of `range`; it is not asked for again where it has no data.
    async fn extent(&self, range: ByteRange) -> Result<Extent> {
        let extent = self.image.block_status_at_point(self.view, range).await?;
        if !extent.data {
            self.view.spare(ByteRange::new(extent.start, extent.length));
        }
        Ok(extent)
    }

    /// Fills `buffer` from `offset`, for the last time.
    async fn read(&self, offset: u64, buffer: Buffer) -> Result<Buffer> {
        let buffer = self.image.read_at_point(self.view, offset, buffer).await?;
        self.view.spare(ByteRange::new(offset, buffer.len() as u64));
        Ok(buffer)
    }
}

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Bytes read from the source, holes inside what was read included.
    pub(super) read: u64,
    /// Bytes written to the data image; the others are holes.
    pub(super) stored: u64,
}

impl Selection<'_> {
    /// The first run of selected bytes at or after `from`, as far as it is looked at: a longer one
    /// goes on in the next call.
    fn run(&self, from: u64) -> Option<ByteRange> {
        let area = match self.bits {
            None => ByteRange::new(0, self.size),
            Some(bits) => {
                let first = bits.next_set(from / self.granularity.bytes())?;
                let reach = (LONGEST_RUN / self.granularity.bytes()).max(1);
                let reach = first..bits.len().min(first.saturating_add(reach));
                let end = bits.next_clear_in(reach.clone()).unwrap_or(reach.end);
                self.granularity.bytes_of(first..end, self.size)
            }
        };
        let start = area.start().max(from);
        (start < area.end()).then(|| ByteRange::new(start, area.end() - start))
    }

    /// Bytes of the disk in it.
    pub(super) fn bytes(&self) -> u64 {
        let Some(bits) = self.bits else { return self.size };
        let whole = bits.count() * self.granularity.bytes();
        let last = bits.len().saturating_sub(1);
        let excess = (bits.len() * self.granularity.bytes()).saturating_sub(self.size);
        if bits.next_set(last).is_some() { whole - excess } else { whole }
    }
}

/// Copies what `selection` says from `source` to `data`, which is new and as long as the disk.
pub(super) async fn copy<D: Directory, F: Storage>(
    source: &Source<'_, D>,
    selection: &Selection<'_>,
    (name, data, digests): (&str, &F, &mut Writer<F>),
    steps: &mut (impl Steps + ?Sized),
) -> Result<Written> {
    let mut written = Written::default();
    let mut at = Progress { done: 0, total: selection.bytes() };
    let longest =
        usize::try_from(source.view.size().min(WINDOW)).expect("a window fits into memory");
    let mut buffer = Buffer::zeroed(longest);
    let mut offset = 0;
    // To find the end of an extent costs some file systems a look at each page of it: each extent
    // is asked for once, and not once for each window.
    let mut data_until = 0;
    while let Some(run) = selection.run(offset) {
        if run.start() >= data_until {
            let extent = source.extent(run).await?;
            let end = run.start() + extent.length;
            if !extent.data {
                offset = end;
                at.done += extent.length;
                steps.step(at, 0).await?;
                continue;
            }
            data_until = end;
        }
        let start = run.start() - run.start() % WINDOW;
        let window = ByteRange::new(start, WINDOW).clip(selection.size);
        let before = at.done;
        buffer = read_window(source, selection, (buffer, window), &mut at.done).await?;
        let moved = at.done - before;
        written.read += moved;
        digests.window(window.start(), &buffer).await.map_err(Error::io(name, "digest"))?;
        let (stored, back) =
            write_sparse(data, window.start(), buffer).await.map_err(Error::io(name, "write"))?;
        buffer = back.widen();
        written.stored += stored;
        steps.step(at, moved).await?;
        offset = window.end();
    }
    Ok(written)
}

/// Fills the buffer with `window`: what is selected in it, and zeroes for the rest.
async fn read_window<D: Directory>(
    source: &Source<'_, D>,
    selection: &Selection<'_>,
    (mut buffer, window): (Buffer, ByteRange),
    done: &mut u64,
) -> Result<Buffer> {
    let place = |offset: u64| usize::try_from(offset - window.start()).expect("within");
    let mut offset = window.start();
    while offset < window.end() {
        let run = selection.run(offset).map(|run| run.clip(window.end()));
        let Some(run) = run.filter(|run| run.start() < window.end()) else { break };
        buffer = buffer.narrow(place(offset)..place(run.start()));
        buffer.fill(0);
        buffer = buffer.widen().narrow(place(run.start())..place(run.end()));
        // A hole reads as zeroes, faster than it could be asked for.
        buffer = source.read(run.start(), buffer).await?.widen();
        *done += run.length();
        offset = run.end();
    }
    buffer = buffer.narrow(place(offset)..place(window.end()));
    buffer.fill(0);
    Ok(buffer.widen().narrow(0..place(window.end())))
}

/// Writes the parts of `buffer` that are not zero; returns their bytes, and the buffer.
async fn write_sparse<F: Storage>(
    data: &F,
    offset: u64,
    mut buffer: Buffer,
) -> std::io::Result<(u64, Buffer)> {
    let mut stored = 0;
    let data_runs: Vec<_> =
        runs(&buffer, SECTOR).filter(|run| !run.zero).map(|run| run.bytes).collect();
    for run in data_runs {
        let length = run.len() as u64;
        let place = offset + run.start as u64;
        buffer = data.write_at(place, buffer.narrow(run), Persist::Later).await?.widen();
        stored += length;
    }
    Ok((stored, buffer))
}

/// Writes the bits of an allocation bitmap to the new file `file`.
pub(super) async fn write_bits<F: Storage>(file: &F, bits: &Bits) -> std::io::Result<()> {
    file.set_len(bits.file_len()).await?;
    let mut buffer = Buffer::zeroed(PAGE_BYTES);
    for page in (0..bits.page_count()).filter(|page| !bits.page_is_empty(*page)) {
        bits.page_bytes(page, (&mut *buffer).try_into().expect("one page"));
        let offset = (page * PAGE_BYTES) as u64;
        let part = buffer.narrow(0..bits.page_len(page));
        buffer = file.write_at(offset, part, Persist::Later).await?.widen();
    }
    Ok(())
}
