//! What may be found after a crash: contents, bitmaps and marks.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use qbm_core::image::Persistence;

use super::subject::BASE_BYTE;
use super::{MAX_SIZE, SIZE, Subject, USER};

/// Bytes of a granule.
pub(crate) const GRANULE: usize = 512;

/// Granules of the largest disk.
const GRANULES: usize = MAX_SIZE.div_ceil(GRANULE);

/// The most writes and resizes of a case; each write has a byte of its own.
pub(crate) const MAX_WRITES: usize = 63;

/// One write or resize, or what was there at first.
#[derive(Clone, Debug)]
struct Version {
    byte: u8,
    granules: Range<usize>,
    begun: u64,
    /// `None`: not acknowledged, so it may be there in any part for ever.
    acknowledged: Option<u64>,
    /// A discard may leave what was there, so it hides nothing.
    hides: bool,
}

/// What a bitmap must and may mark.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tracking {
    /// Contents of the disk at points in time that it is relative to.
    references: Vec<Vec<u8>>,
    /// Granules that somebody tried to write since.
    attempted: BTreeSet<usize>,
}

impl Tracking {
    /// Of a bitmap that a process was adding when it died: nobody knows what marks it has.
    fn unknown() -> Self {
        Self { references: Vec::new(), attempted: (0..GRANULES).collect() }
    }
}

/// An operation under way on a bitmap.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// When it began.
    pub(crate) since: u64,
    /// Whether no earlier operation had left the bitmap uncertain.
    was_certain: bool,
    /// What was known of the bitmap.
    pub(crate) known: Option<Tracking>,
}

/// What is known of the disk and its users' bitmaps.
#[derive(Debug)]
pub struct Model {
    time: u64,
    /// When the last flush began that was acknowledged.
    flushed: u64,
    /// Whether a process that dies takes writes with it that were not flushed.
    is_overlay: bool,
    versions: Vec<Version>,
    /// The size of the disk in bytes.
    size: usize,
    /// From where on a resize that was not finished may have left marks.
    torn_from: usize,
    /// For each byte of the disk, the versions that it may show, as bits.
    visible: Vec<u64>,
    /// The users' bitmaps whose state is certain.
    certain: BTreeMap<String, Tracking>,
    /// Those in memory, which are gone with their process.
    in_memory: BTreeMap<String, Tracking>,
    /// Bitmaps that an operation under way changes: they may be there or not.
    uncertain: BTreeSet<String>,
    /// Files that a mirror has left, and what they hold.
    copies: BTreeMap<String, Vec<u8>>,
    /// Streams that have ended well.
    pub(crate) streams: u64,
    /// Bitmaps that were made persistent, or so no longer.
    pub(crate) sets: u64,
}

impl Model {
    /// Of an image that has just been set up.
    pub(crate) fn new(subject: Subject) -> Self {
        let first =
            |byte| Version { byte, granules: 0..0, begun: 0, acknowledged: Some(0), hides: true };
        // What is behind an overlay shows as far as the disk reaches, and is not written to.
        let behind = subject.behind().min(SIZE);
        let shown = |offset| if offset < behind { 1 << 1 } else { 1 };
        let mut model = Self {
            time: 0,
            flushed: 1,
            is_overlay: subject != Subject::Flat,
            versions: vec![first(0), first(BASE_BYTE)],
            size: SIZE,
            torn_from: MAX_SIZE,
            visible: (0..MAX_SIZE).map(shown).collect(),
            certain: BTreeMap::new(),
            in_memory: BTreeMap::new(),
            uncertain: BTreeSet::new(),
            copies: BTreeMap::new(),
            streams: 0,
            sets: 0,
        };
        model.begin_tracking(USER, &subject.contents(), 0);
        model
    }

    /// Grows whenever something is begun or ended.
    pub(crate) fn time(&self) -> u64 {
        self.time
    }

    fn tick(&mut self) -> u64 {
        self.time += 1;
        self.time
    }

    /// Whether another write has a byte left.
    pub(crate) fn has_room(&self) -> bool {
        self.versions.len() < MAX_WRITES
    }

    /// A write of `range` begins; returns which one it is, and its byte.
    pub(crate) fn begin_write(
        &mut self,
        range: Range<usize>,
        zeroes: bool,
        hides: bool,
    ) -> (usize, u8) {
        let begun = self.tick();
        let index = self.versions.len();
        let byte = if zeroes { 0 } else { u8::try_from(index).expect("below 64") };
        let granules = range.start / GRANULE..range.end.div_ceil(GRANULE);
        let version =
            Version { byte, granules: granules.clone(), begun, acknowledged: None, hides };
        self.versions.push(version);
        self.visible[range].iter_mut().for_each(|seen| *seen |= 1 << index);
        self.attempted(&granules);
        (index, byte)
    }

    /// Somebody is about to change `granules`.
    fn attempted(&mut self, granules: &Range<usize>) {
        for tracking in self.certain.values_mut().chain(self.in_memory.values_mut()) {
            tracking.attempted.extend(granules.clone());
        }
    }

    /// The write was acknowledged.
    pub(crate) fn end_write(&mut self, index: usize) {
        let now = self.tick();
        self.versions[index].acknowledged = Some(now);
    }

    /// The size of the disk in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The disk is about to get the size `size`: what is cut off or added may read as zeroes, and
    /// may be marked. Returns which change that is.
    pub(crate) fn begin_resize(&mut self, size: usize) -> usize {
        let begun = self.tick();
        let index = self.versions.len();
        // What is cut off and added again is zeroes, and not what was written before.
        let zeroes = Version { byte: 0, granules: 0..0, begun, acknowledged: None, hides: true };
        self.versions.push(zeroes);
        let changed = size.min(self.size);
        self.torn_from = self.torn_from.min(changed);
        self.visible[changed..].iter_mut().for_each(|seen| *seen |= 1 << index);
        self.attempted(&(changed / GRANULE..GRANULES));
        index
    }

    /// The change `index` has ended, and the disk has the size `size`; if it failed, the data may have
    /// another.
    pub(crate) fn end_resize(&mut self, index: usize, size: usize, whole: bool) {
        self.size = size;
        if whole {
            self.torn_from = MAX_SIZE;
            self.end_write(index);
        }
    }

    /// A flush begins; returns when.
    pub(crate) fn begin_flush(&mut self) -> u64 {
        self.tick()
    }

    /// The flush that began at `begun` was acknowledged: what was hidden then cannot come back.
    pub(crate) fn end_flush(&mut self, begun: u64) {
        self.flushed = self.flushed.max(begun);
        for seen in &mut self.visible {
            let versions = &self.versions;
            let shown = |index: &usize| *seen >> index & 1 == 1;
            let done = |index: &usize| versions[*index].acknowledged.filter(|end| *end < begun);
            let hider = (0..versions.len())
                .filter(shown)
                .filter(|index| versions[*index].hides && done(index).is_some())
                .map(|index| versions[index].begun)
                .max();
            let hidden: u64 = (0..versions.len())
                .filter(shown)
                .filter(|index| done(index).is_some_and(|end| Some(end) < hider))
                .map(|index| 1 << index)
                .sum();
            *seen &= !hidden;
        }
    }

    /// The process died: the bitmaps that it was changing are there or not, and relative to what
    /// they were or to something else.
    ///
    /// Where a sync of the data had failed, what no good flush covered is in question for ever: no
    /// flush of a later process speaks for it. The same goes for an overlay, whose allocation is in
    /// memory until a flush.
    pub(crate) fn process_died(&mut self, sync_failed: bool) {
        let flushed = self.flushed;
        let lost = sync_failed || self.is_overlay;
        for version in self.versions.iter_mut().filter(|_| lost) {
            version.acknowledged = version.acknowledged.filter(|end| *end < flushed);
        }
        for name in &self.uncertain {
            self.certain.remove(name);
        }
        self.in_memory.clear();
    }

    /// The power was cut, and left `contents`: what is there now is durable, and whatever was under way
    /// is over. The bytes that a torn resize added or was to cut off may go yet.
    pub(crate) fn power_was_cut(&mut self, contents: &[u8]) {
        let now = self.tick();
        let settled = self.torn_from.min(contents.len());
        let with_byte = self.versions_by_byte();
        for (seen, byte) in self.visible.iter_mut().zip(&contents[..settled]) {
            *seen &= with_byte[usize::from(*byte)];
        }
        let is_settled = |version: &&mut Version| version.granules.end * GRANULE <= settled;
        for version in self.versions.iter_mut().filter(is_settled) {
            // A resize has no granules, and may have been torn.
            if !version.granules.is_empty() {
                version.acknowledged.get_or_insert(now);
            }
        }
        self.flushed = now;
    }

    /// An image was opened that has `size` bytes.
    pub(crate) fn opened(&mut self, size: u64) {
        self.size = usize::try_from(size).expect("a small disk");
    }

    /// The bitmap `name` is relative to `contents` from now on. It began to record at `since`, so
    /// it may have marks for what was not acknowledged by then.
    pub(crate) fn begin_tracking(&mut self, name: &str, contents: &[u8], since: u64) {
        let tracking = self.tracking_since(contents, since);
        self.certain.insert(name.to_owned(), tracking);
        self.uncertain.remove(name);
    }

    /// The same, and it is in memory only.
    pub(crate) fn begin_tracking_in_memory(&mut self, name: &str, contents: &[u8], since: u64) {
        let tracking = self.tracking_since(contents, since);
        self.in_memory.insert(name.to_owned(), tracking);
    }

    fn tracking_since(&self, contents: &[u8], since: u64) -> Tracking {
        let open = self.versions.iter().filter(|version| version.acknowledged > Some(since));
        let never = self.versions.iter().filter(|version| version.acknowledged.is_none());
        let torn = self.torn_from / GRANULE..GRANULES;
        let torn = torn.filter(|_| self.torn_from < MAX_SIZE);
        let written = open.chain(never).flat_map(|version| version.granules.clone());
        let attempted = written.chain(torn).collect();
        Tracking { references: vec![contents.to_vec()], attempted }
    }

    /// The bitmap `name` is persistent from now on, or in memory only, with all its marks.
    pub(crate) fn end_set(&mut self, name: &str, persistence: Persistence, change: &Change) {
        let was_in_memory = self.in_memory.contains_key(name);
        if was_in_memory == (persistence == Persistence::InMemory) {
            return self.unchanged(name, change);
        }
        self.sets += 1;
        self.uncertain.remove(name);
        let (from, to) = match persistence {
            Persistence::Persistent => (&mut self.in_memory, &mut self.certain),
            Persistence::InMemory => (&mut self.certain, &mut self.in_memory),
        };
        to.insert(name.to_owned(), from.remove(name).unwrap_or_else(Tracking::unknown));
    }

    /// The bitmap `name` still has the marks of before it was disabled, whatever they are.
    pub(crate) fn keep_old_marks(&mut self, name: &str) {
        if let Some(tracking) = self.certain.get_mut(name) {
            tracking.attempted.extend(0..GRANULES);
        }
    }

    /// The bitmap `name` is gone.
    pub(crate) fn end_tracking(&mut self, name: &str) {
        self.certain.remove(name);
        self.in_memory.remove(name);
        self.uncertain.remove(name);
    }

    /// The marks of `source` are marks of `target` too.
    pub(crate) fn merged(&mut self, target: &str, source: &str) {
        self.uncertain.remove(target);
        let source = self.certain.get(source).or_else(|| self.in_memory.get(source)).cloned();
        let source = source.unwrap_or_else(Tracking::unknown);
        let Some(tracking) = self.certain.get_mut(target) else { return };
        tracking.references.extend(source.references);
        tracking.attempted.extend(source.attempted);
    }

    /// An operation begins that may change the bitmap `name`.
    pub(crate) fn begin_change(&mut self, name: &str) -> Change {
        let was_certain = self.uncertain.insert(name.to_owned());
        Change { since: self.tick(), was_certain, known: self.certain.get(name).cloned() }
    }

    /// The operation did nothing. What an earlier one left uncertain still is.
    pub(crate) fn unchanged(&mut self, name: &str, change: &Change) {
        if change.was_certain {
            self.uncertain.remove(name);
        }
    }

    /// An instant is about to be fixed; returns when.
    pub(crate) fn begin_instant(&mut self) -> Began {
        Began { at: self.tick(), visible: self.visible.clone() }
    }

    /// The instant was fixed, some time since `began`: what was acknowledged by then is in it, and
    /// what has not begun yet is not. What a flush has hidden since then may be in it.
    pub(crate) fn end_instant(&mut self, began: &Began) -> Instant {
        self.tick();
        let done = |index: usize| self.versions[index].acknowledged.filter(|end| *end < began.at);
        let possible = |seen: u64| {
            let shown = (0..self.versions.len()).filter(|index| seen >> index & 1 == 1);
            let shown: Vec<usize> = shown.collect();
            let hiders = shown.iter().filter(|&&index| self.versions[index].hides);
            let hider = hiders.filter(|&&index| done(index).is_some());
            let hider = hider.map(|&index| self.versions[index].begun).max();
            let hidden = |index: usize| done(index).is_some_and(|end| Some(end) < hider);
            let shown = shown.into_iter().filter(|index| !hidden(*index));
            shown.map(|index| self.versions[index].byte).collect()
        };
        let seen = self.visible.iter().enumerate();
        let seen = seen.map(|(place, now)| now | began.visible.get(place).unwrap_or(&0));
        Instant { possible: seen.map(possible).collect() }
    }

    /// The file `name` is a copy of the disk from now on, and holds `contents`.
    pub(crate) fn keep_copy(&mut self, name: String, contents: Vec<u8>) {
        self.copies.insert(name, contents);
    }

    /// The copies by their names.
    pub(crate) fn copies(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.copies
    }

    /// The names of the users' bitmaps that must be there, and of those that may be.
    pub(crate) fn names(&self) -> (BTreeSet<&str>, BTreeSet<&str>) {
        let certain = self.certain.keys().map(String::as_str);
        let uncertain: BTreeSet<&str> = self.uncertain.iter().map(String::as_str).collect();
        (certain.filter(|name| !uncertain.contains(name)).collect(), uncertain)
    }

    /// For each byte the versions that have it, as bits.
    fn versions_by_byte(&self) -> [u64; 256] {
        let mut versions = [0; 256];
        for (index, version) in self.versions.iter().enumerate() {
            versions[usize::from(version.byte)] |= 1 << index;
        }
        versions
    }

    /// P3: every byte of `contents` is one that a write put there and no flushed write has hidden.
    pub(crate) fn check_contents(&self, contents: &[u8]) -> Result<(), String> {
        let with_byte = self.versions_by_byte();
        for (offset, (byte, seen)) in contents.iter().zip(&self.visible).enumerate() {
            if with_byte[usize::from(*byte)] & seen == 0 {
                return Err(format!("P3: byte {offset} is {byte}, which a flush had hidden"));
            }
        }
        Ok(())
    }

    /// P1 and P2 for the bitmap `name`: returns how many marks nobody wrote for.
    pub(crate) fn check_marks(
        &self,
        name: &str,
        contents: &[u8],
        marked: &impl Fn(usize) -> bool,
    ) -> Result<u64, String> {
        let Some(tracking) = self.certain.get(name) else { return Ok(0) };
        if self.uncertain.contains(name) {
            return Ok(0);
        }
        for reference in &tracking.references {
            check_covers(name, reference, contents, marked)?;
        }
        let granules = contents.len().div_ceil(GRANULE);
        let excess = |granule: &usize| marked(*granule) && !tracking.attempted.contains(granule);
        Ok((0..granules).filter(excess).count() as u64)
    }
}

/// When an instant began to be fixed, and what could be seen of each byte by then.
#[derive(Debug)]
pub(crate) struct Began {
    at: u64,
    visible: Vec<u64>,
}

/// What the disk may have been at an instant.
#[derive(Debug)]
pub(crate) struct Instant {
    /// For each byte of the disk, the bytes that it may have been.
    possible: Vec<BTreeSet<u8>>,
}

impl Instant {
    /// `bytes` from `offset` are those of the instant.
    ///
    /// # Panics
    ///
    /// If they cannot be.
    pub(crate) fn check(&self, offset: usize, bytes: &[u8]) {
        for (place, (byte, possible)) in bytes.iter().zip(&self.possible[offset..]).enumerate() {
            let place = offset + place;
            assert!(possible.contains(byte), "P5: byte {place} of a point is {byte}: {possible:?}");
        }
    }
}

/// P1: every granule in which `contents` differs from `reference` is marked.
pub(crate) fn check_covers(
    name: &str,
    reference: &[u8],
    contents: &[u8],
    marked: &impl Fn(usize) -> bool,
) -> Result<(), String> {
    for (granule, new) in contents.chunks(GRANULE).enumerate() {
        let start = (granule * GRANULE).min(reference.len());
        // What was cut off at the end is no change; what was added is.
        let old = &reference[start..reference.len().min(start + new.len())];
        if old != new && !marked(granule) {
            return Err(format!("P1: bitmap '{name}' has lost the mark of granule {granule}"));
        }
    }
    Ok(())
}
