//! Copying from disk to disk, a window at a time: only what has to be written is written, and what
//! is known to be zero is not even read.

use crate::disk::Disk;
use crate::image::Extent;
use crate::job::{Side, Steps, Then};
use crate::zeroes::{Run, is_zero, runs};
use crate::{Buffer, ByteRange, Directory, Error, Result, Unmap};

/// Bytes that are read, compared and written at a time.
const WINDOW: u64 = 1 << 20;
/// Bytes that are zeroed at a time, so that progress is seen.
const ZERO_WINDOW: u64 = 1 << 30;

/// How far a long operation has come, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the disk dealt with.
    pub done: u64,
    /// Bytes of the disk to deal with.
    pub total: u64,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// Everything that is not zero, to a sink that reads as zeroes.
    ToEmpty,
    /// Everything, whatever the sink holds; zeroes as holes.
    All,
    /// What differs from what the sink holds.
    Changed,
    /// Everything, and so that the sink has space for all of it.
    Full,
}

/// What is copied, and how.
#[derive(Clone, Copy, Debug)]
pub struct Copying {
    /// The bytes of the source; past its end they are zeroes.
    pub from: ByteRange,
    /// Where in the sink the first of them goes.
    pub to: u64,
    /// What is written.
    pub writing: Writing,
    /// Bytes that are compared, and left out, together; at least 1.
    pub grain: usize,
    /// Leave out what the layer at this depth of the source, or one behind that, answers for.
    pub above: Option<usize>,
}

impl Copying {
    /// The first `size` bytes, by sectors of 4 KiB.
    pub fn all(size: u64, writing: Writing) -> Self {
        Self { from: ByteRange::new(0, size), to: 0, writing, grain: 4096, above: None }
    }
}

/// Copies from `source` to `sink`, which is long enough, and makes it durable; returns the bytes
/// written, zeroes included.
///
/// # Errors
///
/// Any error of either side; the sink then holds a mixture.
pub async fn copy<S: Directory, T: Directory>(
    source: Disk<'_, S>,
    sink: Disk<'_, T>,
    copying: &Copying,
    steps: &mut (impl Steps + ?Sized),
) -> Result<u64> {
    let written = copy_bytes(source, sink, copying, steps).await?;
    sink.flush().await?;
    Ok(written)
}

/// The same, without making it durable.
pub(crate) async fn copy_bytes<S: Directory, T: Directory>(
    source: Disk<'_, S>,
    sink: Disk<'_, T>,
    copying: &Copying,
    steps: &mut (impl Steps + ?Sized),
) -> Result<u64> {
    let from = copying.from;
    let mut copier = Copier { source, sink, copying, known: None, spare: Vec::new() };
    let mut written = 0;
    let mut left = from;
    while !left.is_empty() {
        let step = match copier.first_of(left).await {
            Ok(step) => step,
            Err(Fault { side, error, part }) => match steps.trouble(side, error, part).await? {
                Then::Again => continue,
                Then::Skip => Step { done: part.length(), written: 0 },
            },
        };
        left = left.skip(step.done);
        written += step.written;
        let at = Progress { done: left.start() - from.start(), total: from.length() };
        steps.step(at, step.written).await?;
    }
    Ok(written)
}

/// A copy under way.
struct Copier<'a, S: Directory, T: Directory> {
    source: Disk<'a, S>,
    sink: Disk<'a, T>,
    copying: &'a Copying,
    /// The last stretch of the source that was looked up.
    known: Option<Extent>,
    /// Buffers of a window, to be used again.
    spare: Vec<Buffer>,
}

/// What a part of a copy did, in bytes.
struct Step {
    done: u64,
    written: u64,
}

/// Why a part of a copy failed.
struct Fault {
    side: Side,
    error: Error,
    /// The part of the source.
    part: ByteRange,
}

/// For `map_err`: `side` failed at `part`.
fn fault(side: Side, part: ByteRange) -> impl FnOnce(Error) -> Fault {
    move |error| Fault { side, error, part }
}

impl<S: Directory, T: Directory> Copier<'_, S, T> {
    /// Copies the first bytes of `left` that are alike, a window at most where there is data.
    async fn first_of(&mut self, left: ByteRange) -> Result<Step, Fault> {
        let known = self.known.filter(|known| known.start + known.length > left.start());
        let extent = match known {
            Some(known) => known,
            None => {
                let window = left.clip(left.start().saturating_add(WINDOW));
                self.source.extent(left).await.map_err(fault(Side::Source, window))?
            }
        };
        self.known = Some(extent);
        let alike = left.clip(extent.start + extent.length);
        match extent.data {
            _ if self.copying.above.is_some_and(|depth| extent.depth >= depth) => {
                Ok(Step { done: alike.length(), written: 0 })
            }
            true => self.data(alike).await,
            false => self.zeroes(alike).await,
        }
    }

    /// Copies the first window of `left`, where the source may have data.
    async fn data(&mut self, left: ByteRange) -> Result<Step, Fault> {
        let part = left.clip(left.start() + WINDOW);
        let buffer = self.buffer(part);
        let wanted = self.source.read(part.start(), buffer).await;
        let wanted = wanted.map_err(fault(Side::Source, part))?;
        let written = self.put(part, wanted).await.map_err(fault(Side::Target, part))?;
        Ok(Step { done: part.length(), written })
    }

    /// Copies the first bytes of `left`, which are zero in the source.
    async fn zeroes(&mut self, left: ByteRange) -> Result<Step, Fault> {
        let window = left.clip(left.start().saturating_add(WINDOW));
        self.put_zeroes(left).await.map_err(fault(Side::Target, window))
    }

    async fn put_zeroes(&mut self, left: ByteRange) -> Result<Step> {
        let (part, unmap) = match self.copying.writing {
            Writing::ToEmpty => return Ok(Step { done: left.length(), written: 0 }),
            Writing::Changed => return self.zeroes_where_changed(left).await,
            Writing::Full => (left, Unmap::Forbidden),
            Writing::All => {
                let there = self.sink.extent(self.place(left)).await?;
                if !there.data {
                    return Ok(Step { done: there.length, written: 0 });
                }
                (left.clip(left.start() + there.length), Unmap::Allowed)
            }
        };
        let part = part.clip(part.start().saturating_add(ZERO_WINDOW));
        self.sink.write_zeroes(self.place(part), unmap).await?;
        Ok(Step { done: part.length(), written: part.length() })
    }

    async fn zeroes_where_changed(&mut self, left: ByteRange) -> Result<Step> {
        let there = self.sink.extent(self.place(left)).await?;
        if !there.data {
            return Ok(Step { done: there.length, written: 0 });
        }
        let part = left.clip(left.start() + there.length.min(WINDOW));
        let mut wanted = self.buffer(part);
        wanted.fill(0);
        let written = self.put(part, wanted).await?;
        Ok(Step { done: part.length(), written })
    }

    /// Writes what has to be written of `wanted`, the bytes of `part`; returns how many.
    async fn put(&mut self, part: ByteRange, mut wanted: Buffer) -> Result<u64> {
        let place = self.place(part);
        let mut written = 0;
        for Run { bytes, zero } in self.needed(place, &wanted).await? {
            let run = ByteRange::new(place.start() + bytes.start as u64, bytes.len() as u64);
            if zero {
                self.sink.write_zeroes(run, Unmap::Allowed).await?;
            } else {
                wanted = self.sink.write(run.start(), wanted.narrow(bytes)).await?.widen();
            }
            written += run.length();
        }
        self.spare.push(wanted);
        Ok(written)
    }

    /// The runs of `wanted` that have to be written at `place`.
    async fn needed(&mut self, place: ByteRange, wanted: &[u8]) -> Result<Vec<Run>> {
        let all = runs(wanted, self.copying.grain);
        Ok(match self.copying.writing {
            Writing::ToEmpty => all.filter(|run| !run.zero).collect(),
            Writing::All => all.collect(),
            Writing::Full => vec![Run { bytes: 0..wanted.len(), zero: false }],
            Writing::Changed => {
                let buffer = self.buffer(place);
                let present = self.sink.read(place.start(), buffer).await?;
                let needed = differing(wanted, &present, self.copying.grain);
                self.spare.push(present);
                needed
            }
        })
    }

    /// Where in the sink `part` of the source goes.
    fn place(&self, part: ByteRange) -> ByteRange {
        let Copying { from, to, .. } = self.copying;
        ByteRange::new(to + (part.start() - from.start()), part.length())
    }

    /// A buffer for `part`, at most a window, with whatever was in it before.
    fn buffer(&mut self, part: ByteRange) -> Buffer {
        let length = usize::try_from(part.length()).expect("at most a window");
        let whole = usize::try_from(WINDOW).expect("a window fits into memory");
        self.spare.pop().unwrap_or_else(|| Buffer::zeroed(whole)).narrow(0..length)
    }
}

/// The runs of grains in which `wanted` differs from `present`.
fn differing(wanted: &[u8], present: &[u8], grain: usize) -> Vec<Run> {
    let mut needed: Vec<Run> = Vec::new();
    let mut end = 0;
    for (wanted, present) in wanted.chunks(grain).zip(present.chunks(grain)) {
        let start = end;
        end += wanted.len();
        if wanted == present {
            continue;
        }
        let zero = is_zero(wanted);
        match needed.last_mut() {
            Some(run) if run.bytes.end == start && run.zero == zero => run.bytes.end = end,
            _ => needed.push(Run { bytes: start..end, zero }),
        }
    }
    needed
}
