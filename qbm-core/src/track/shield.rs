//! Copy before write: the disk of a point stays readable while the guest goes on writing.
//!
//! A write to granules that a point still needs first copies them to the [`Fleece`]. Whoever reads
//! the point reads the disk first, and then asks what has been copied: a granule that had not been
//! copied by then was not written to before, and one that had been is taken from the fleece. So no
//! reader keeps a write waiting, and no write a reader.
//!
//! If the fleece is full or fails, the point is lost and the guest goes on.
//!
//! # Invariants
//!
//! * A granule of `copied` is wholly in the fleece, as it was at the point if anybody may still read it.
//! * Data is submitted to a granule only after it is in `spared`, or the fleece has failed.
//! * A granule comes to `spared` when it is copied, or when nobody will read it at the point.

use std::ops::Range;
use std::sync::{Arc, PoisonError};

use super::claims::Claims;
use crate::bits::{Bits, runs_of_union};
use crate::chain::Chain;
use crate::mutants::{self, Mutant};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, fence};
use crate::zeroes::is_zero;
use crate::{Buffer, ByteRange, Error, Granularity, Persist, Result, Storage};

/// Bytes that are copied at a time, or one granule if that is longer.
const COPY: u64 = 1 << 20;

/// Where what the guest writes over is kept for as long as a point is read.
#[derive(Debug)]
pub struct Fleece<F> {
    storage: F,
    limit: u64,
    used: AtomicU64,
    failed: AtomicBool,
    failure: Mutex<String>,
}

impl<F> Fleece<F> {
    /// A fleece in `storage`, which is empty, and needs to last no longer than this. Of the disk, at
    /// most `limit` bytes are copied to it; it stays sparse.
    pub fn new(storage: F, limit: u64) -> Self {
        Self {
            storage,
            limit,
            used: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            failure: Mutex::default(),
        }
    }

    /// Bytes of the disk copied so far, without those that are zero.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Gives the point up, because of `what`: from now on its readers fail, and no write is kept
    /// waiting.
    pub fn fail(&self, what: &str) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.is_empty() {
            what.clone_into(&mut failure);
        }
        self.failed.store(true, Ordering::Release);
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Takes `length` bytes of the limit.
    fn take(&self, length: u64) -> Result<(), String> {
        let used = self.used.fetch_add(length, Ordering::Relaxed);
        if used.saturating_add(length) > self.limit {
            return Err(format!("its fleecing space of {} bytes is full", self.limit));
        }
        Ok(())
    }
}

/// What a point still needs of the disk. See the [module](self) for what always holds.
#[derive(Debug)]
pub(crate) struct Shield<F> {
    fleece: Arc<Fleece<F>>,
    granularity: Granularity,
    /// The size of the disk in bytes.
    size: u64,
    /// Granules that may be written over.
    spared: Bits,
    /// Those of them that are in the fleece.
    copied: Bits,
    claims: Claims,
}

impl<F: Storage> Shield<F> {
    /// A shield of a whole disk of `size` bytes.
    pub(crate) fn new(fleece: Arc<Fleece<F>>, granularity: Granularity, size: u64) -> Self {
        let granules = granularity.granules_of(size);
        let (spared, copied) = (Bits::new(granules), Bits::new(granules));
        Self { fleece, granularity, size, spared, copied, claims: Claims::default() }
    }

    /// Whether a write to `range` need not wait: the test of the hot path.
    pub(crate) fn spares(&self, range: ByteRange) -> bool {
        // First: after a failure the disk may get a size that the shield does not have.
        let spares = self.fleece.has_failed()
            || self.spared.contains(self.granularity.granules_touched(range))
            || mutants::planted(Mutant::NoCopyFirst);
        // Pairs with the one in `check`: a reader who sees the write to come sees why it may.
        fence(Ordering::Release);
        spares
    }

    /// Copies what the point needs of `range`, and returns when it may be written over.
    pub(crate) async fn keep(&self, range: ByteRange, disk: &Chain<F>) {
        while !self.spares(range) {
            let Some(run) = self.needed(self.granularity.granules_touched(range)) else { continue };
            if let Err(what) = self.copy(run, disk).await {
                self.fleece.fail(&what);
            }
        }
    }

    /// The first run of `granules` that is not spared, as far as it is copied at a time.
    fn needed(&self, granules: Range<u64>) -> Option<Range<u64>> {
        let start = self.spared.next_clear_in(granules.clone())?;
        let most = (COPY / self.granularity.bytes()).max(1);
        let reach = start..granules.end.min(start + most);
        let end = self.spared.next_set_in(reach.clone()).unwrap_or(reach.end);
        Some(start..end)
    }

    /// Copies the granules `run`, unless others have done it.
    async fn copy(&self, run: Range<u64>, disk: &Chain<F>) -> Result<(), String> {
        let claim = self.claims.claim(run.clone(), &self.fleece.storage).await;
        let done = if self.needed(run.clone()) == Some(run.clone()) && !self.fleece.has_failed() {
            self.copy_claimed(run, disk).await
        } else {
            Ok(())
        };
        claim.release();
        done
    }

    async fn copy_claimed(&self, run: Range<u64>, disk: &Chain<F>) -> Result<(), String> {
        let range = self.granularity.bytes_of(run.clone(), self.size);
        let length = usize::try_from(range.length()).expect("a few granules fit into memory");
        let old = disk.read_at(range.start(), Buffer::zeroed(length)).await;
        let old = old.map_err(|error| error.to_string())?;
        if mutants::planted(Mutant::CopiedEarly) {
            self.copied.set(run.clone());
        }
        // Zeroes are what the fleece holds where nothing was written.
        if !is_zero(&old) {
            self.fleece.take(range.length())?;
            let written = self.fleece.storage.write_at(range.start(), old, Persist::Later).await;
            written.map_err(|error| format!("its fleecing space: {error}"))?;
        }
        self.copied.set(run.clone());
        self.spared.set(run);
        Ok(())
    }

    /// Fills `buffer` from `offset` of the disk as it was at the point.
    pub(crate) async fn read_at(
        &self,
        (name, disk): (&str, &Chain<F>),
        offset: u64,
        buffer: Buffer,
    ) -> Result<Buffer> {
        let range = ByteRange::new(offset, buffer.len() as u64);
        let early = mutants::planted(Mutant::CopiedBeforeLook).then(|| {
            let now = Bits::new(self.copied.len());
            now.union(&self.copied);
            now
        });
        let mut buffer = disk.read_at(offset, buffer).await?;
        self.check(name)?;
        let copied = early.as_ref().unwrap_or(&self.copied);
        let granules = self.granularity.granules_touched(range);
        for run in runs_of_union(&[copied], granules).filter(|run| run.set) {
            let part = self.granularity.bytes_of(run.bits, range.end());
            let start = part.start().max(offset);
            let place = |offset: u64| usize::try_from(offset - range.start()).expect("within");
            let place = place(start)..place(part.end());
            // Into a buffer of its own: the caller's may be a window that a narrower one would lose.
            let kept = self.fleece.storage.read_at(start, Buffer::zeroed(place.len())).await;
            let kept = kept.map_err(Error::io("the fleecing space", "read"))?;
            buffer[place].copy_from_slice(&kept);
        }
        Ok(buffer)
    }

    /// After a look at the disk: what has been copied since is to be asked of the fleece, and so it
    /// has to be whole.
    fn check(&self, name: &str) -> Result<()> {
        fence(Ordering::Acquire);
        if !self.fleece.has_failed() {
            return Ok(());
        }
        let failure = self.fleece.failure.lock().unwrap_or_else(PoisonError::into_inner);
        Err(Error::unusable(name, format!("the point is lost: {}", *failure)))
    }

    /// How much of `range`, which is not empty, is alike in being copied or not, and which it is.
    /// To be asked after a look at the disk.
    pub(crate) fn first_copied(&self, name: &str, range: ByteRange) -> Result<(u64, bool)> {
        self.check(name)?;
        let granules = self.granularity.granules_touched(range);
        let run = runs_of_union(&[&self.copied], granules).next().expect("it is not empty");
        let end = self.granularity.bytes_of(run.bits, range.end()).end();
        Ok((end - range.start(), run.set))
    }

    /// Nobody will read `range` at the point any more. A granule counts if it is wholly in it.
    pub(crate) fn spare(&self, range: ByteRange) {
        let first = range.start().div_ceil(self.granularity.bytes());
        let end = match range.end() {
            end if end >= self.size => self.spared.len(),
            end => end / self.granularity.bytes(),
        };
        if first < end {
            self.spared.set(first..end);
        }
    }

    /// Gives the point up: see [`Fleece::fail`].
    pub(crate) fn fail(&self, what: &str) {
        self.fleece.fail(what);
    }
}
