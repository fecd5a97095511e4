//! Mirror: a copy of a disk that keeps up with it, until the disk moves there or is left where it is.
//!
//! First all of it is copied that is to be, and then, round by round, what was written meanwhile
//! ([`crate::track::watch`]). Once a round is short, the job is ready. When it is told to end, writes
//! are kept waiting for one last round, after which both are the same, and durable.
//!
//! # What a crash leaves
//!
//! The source, as if there had been no job: nothing of it is changed. The target is a whole disk only
//! once the job has ended.

use super::control::{Ending, JobControl, Next};
use super::steps::{Side, Steps, Then};
use crate::copy::{Copying, Progress, Writing, copy_bytes};
use crate::disk::Disk;
use crate::image::{Round, Watching};
use crate::mutants::{self, Mutant};
use crate::track::hold::Released;
use crate::track::watch::Lead;
use crate::{ByteRange, Directory, Error, Granularity, Image, Result};

/// Bytes that are looked at between two checkpoints.
const CHUNK: u64 = 4 << 20;
/// Bytes to copy that are so few that the disk can be held for them.
const CLOSE: u64 = 16 << 20;
/// Rounds that are tried at most to come as close as that, before the disk is held all the same.
const LAST_ROUNDS: usize = 8;

/// What a mirror copies before it keeps up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorSync {
    /// All.
    Full,
    /// What the layers above this depth have: 1 is the top alone. The target shows the rest itself.
    Above(usize),
    /// Nothing: only what is written from now on.
    None,
}

/// Whether writes may get ahead of a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyMode {
    /// They may; it keeps up as fast as it can.
    Background,
    /// No write returns before the target has it, so that a mirror keeps up however much is written.
    WriteBlocking,
}

/// How a disk is mirrored.
#[derive(Clone, Copy, Debug)]
pub struct MirrorOptions {
    /// What is copied first.
    pub sync: MirrorSync,
    /// Bytes that are copied together once one of them was written to.
    pub granularity: Granularity,
    /// Whether writes may get ahead.
    pub copy_mode: CopyMode,
}

/// Mirrors `source` to `target` until `control` says how to end. If that is by
/// [completing](JobControl::complete), `pivot` is called while no write is under way and both disks
/// are the same: afterwards writes to `source` fail with [`Error::Moved`], and belong to the target.
///
/// The caller begins the job by calling this, and [concludes](JobControl::conclude) it.
///
/// # Errors
///
/// [`Error::Unusable`] if the disks have different sizes, [`Error::Cancelled`], or an error of either
/// side or of `pivot`. The source goes on as if nothing had been.
pub async fn mirror<S: Directory, T: Directory>(
    source: &Image<S>,
    target: Disk<'_, T>,
    options: &MirrorOptions,
    control: &JobControl,
    pivot: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    control.begin();
    let blocking = options.copy_mode == CopyMode::WriteBlocking;
    let watching = source.watch(options.granularity, control.group(), blocking).await;
    // Asked now that it stays: before, a resize may have been under way.
    let size = source.size();
    if size != target.size() {
        let what = format!("it has {size} bytes, and the target {}", target.size());
        return Err(Error::unusable(source.name(), what));
    }
    let at = Progress::default();
    let mut mirror = Mirror { source, target, options, control, watching, at, left_out: false };
    if options.sync != MirrorSync::None {
        mirror.copy_all().await?;
    }
    while mirror.round().await? > CLOSE || mirror.left_out {}
    control.ready();
    let ending = mirror.keep_up().await?;
    mirror.watching.lead().set_blocking(false);
    control.settle().await?;
    let how = mirror.finish(ending, pivot).await?;
    mirror.watching.end(how).await;
    Ok(())
}

/// A mirror under way.
struct Mirror<'a, S: Directory, T: Directory> {
    source: &'a Image<S>,
    target: Disk<'a, T>,
    options: &'a MirrorOptions,
    control: &'a JobControl,
    watching: Watching<'a, S>,
    at: Progress,
    /// Whether the last round could not copy all.
    left_out: bool,
}

impl<S: Directory, T: Directory> Mirror<'_, S, T> {
    /// The first copy.
    async fn copy_all(&mut self) -> Result<()> {
        let size = self.source.size();
        self.at.total += size;
        self.control.set_progress(self.at);
        let mut left = ByteRange::new(0, size);
        while !left.is_empty() {
            let chunk = left.clip(left.start().saturating_add(CHUNK));
            self.wait().await?;
            self.copy(chunk, Trouble::Asks).await?;
            left = left.skip(chunk.length());
        }
        Ok(())
    }

    /// Waits until the next chunk may be copied. Writes that wait for the job come first.
    async fn wait(&mut self) -> Result<()> {
        while self.control.checkpoint_or(|| self.is_awaited()).await? == Next::Urgent {
            // A round whose writes wait never waits itself, and so never comes here again.
            Box::pin(self.round()).await?;
        }
        Ok(())
    }

    /// Whether a write may wait for the job.
    fn is_awaited(&self) -> bool {
        self.watching.lead().is_blocking() && self.watching.current().was_told()
    }

    /// Copies what was written since the last round; returns how many bytes that were.
    async fn round(&mut self) -> Result<u64> {
        let round = self.watching.turn().await;
        self.left_out = false;
        let mut bytes = 0;
        for chunk in self.chunks(&round) {
            if self.options.copy_mode == CopyMode::Background {
                self.wait().await?;
            }
            self.copy(chunk, Trouble::Asks).await?;
            bytes += chunk.length();
        }
        Ok(bytes)
    }

    /// What to copy for `round`, which counts as work from now on.
    fn chunks(&mut self, round: &Round) -> Vec<ByteRange> {
        let (granularity, size) = (self.options.granularity, self.source.size());
        let most = (CHUNK / granularity.bytes()).max(1);
        let mut chunks = Vec::new();
        for area in round.written().areas() {
            let mut start = area.start;
            while start < area.end {
                let end = area.end.min(start + most);
                chunks.push(granularity.bytes_of(start..end, size));
                start = end;
            }
        }
        self.at.total += chunks.iter().map(|chunk| chunk.length()).sum::<u64>();
        chunks
    }

    /// Keeps up until the job is to end.
    async fn keep_up(&mut self) -> Result<Ending> {
        loop {
            let told = || self.watching.current().was_told();
            match self.control.next_when_ready(told, || self.is_awaited()).await? {
                Next::Go | Next::Urgent => drop(self.round().await?),
                Next::End(ending) => {
                    // Once more, while errors can still hold it up.
                    self.round().await?;
                    if !self.left_out {
                        return Ok(ending);
                    }
                }
            }
        }
    }

    /// Makes both the same, and durable, and lets the disk move.
    async fn finish(
        &mut self,
        ending: Ending,
        pivot: impl AsyncFnOnce() -> Result<()>,
    ) -> Result<Released> {
        for _ in 0..LAST_ROUNDS {
            let round = self.watching.turn().await;
            if self.copy_now(&round).await? <= CLOSE {
                break;
            }
        }
        let round = self.watching.hold().await;
        self.copy_now(&round).await?;
        // What a guest has flushed here must be durable there before it is the disk.
        self.target.flush().await?;
        match ending {
            Ending::Leave => Ok(Released::Here),
            Ending::Complete => pivot().await.map(|()| Released::Elsewhere),
        }
    }

    /// Copies what `round` was told of, without a stop.
    async fn copy_now(&mut self, round: &Round) -> Result<u64> {
        if mutants::planted(Mutant::LastRoundsSkipped) {
            return Ok(0);
        }
        let mut bytes = 0;
        for chunk in self.chunks(round) {
            self.copy(chunk, Trouble::Ends).await?;
            bytes += chunk.length();
        }
        Ok(bytes)
    }

    /// Copies `range`, or leaves it for a later round.
    async fn copy(&mut self, range: ByteRange, trouble: Trouble) -> Result<()> {
        let above = match self.options.sync {
            MirrorSync::Above(depth) => Some(depth),
            MirrorSync::Full | MirrorSync::None => None,
        };
        let copying =
            Copying { from: range, to: range.start(), above, ..Copying::all(0, Writing::All) };
        let (control, before, lead) = (self.control, self.at, self.watching.lead());
        let mut steps = MirrorSteps { control, before, lead, trouble, left: Vec::new() };
        copy_bytes(Disk::Image(self.source), self.target, &copying, &mut steps).await?;
        self.at.done += range.length();
        self.left_out |= !steps.left.is_empty();
        for range in steps.left {
            self.at.total += range.length();
            self.watching.current().tell(range);
        }
        Ok(())
    }
}

/// What an error leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// To what the job was told to do about it.
    Asks,
    /// To the end of the job: it cannot be held up any more.
    Ends,
}

/// What a mirror does between the steps of a copy: it does not wait.
struct MirrorSteps<'a> {
    control: &'a JobControl,
    before: Progress,
    lead: &'a Lead,
    trouble: Trouble,
    /// What could not be copied.
    left: Vec<ByteRange>,
}

impl Steps for MirrorSteps<'_> {
    async fn step(&mut self, at: Progress, moved: u64) -> Result<()> {
        let Progress { done, total } = self.before;
        self.control.set_progress(Progress { done: done + at.done, total });
        self.control.spend(moved);
        Ok(())
    }

    async fn trouble(&mut self, side: Side, error: Error, range: ByteRange) -> Result<Then> {
        if self.trouble == Trouble::Ends {
            return Err(error);
        }
        // However long that takes, the guest goes on.
        let blocking = self.lead.is_blocking();
        self.lead.set_blocking(false);
        let then = self.control.trouble(side, &error).await?;
        self.lead.set_blocking(blocking);
        if then == Some(Then::Skip) {
            self.left.push(range);
        }
        then.ok_or(error)
    }

    /// The mirror itself does, when all of its copies are done.
    async fn settle(&mut self) -> Result<()> {
        Ok(())
    }
}
