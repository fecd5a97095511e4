//! The state of the medium: what is durable, what is pending, and what a crash makes of it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use fastrand::Rng;

use crate::harm::{self, Fate, Harm, Harms, Survived};

/// The unit in which a power loss tears a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// Each byte by itself: the strongest adversary.
    Byte,
    /// 512 bytes.
    Sector,
    /// 4096 bytes.
    Page,
}

impl Grain {
    fn bytes(self) -> u64 {
        match self {
            Self::Byte => 1,
            Self::Sector => 512,
            Self::Page => 4096,
        }
    }

    /// What a tear at this grain is.
    fn harm(self) -> Harm {
        match self {
            Self::Byte => Harm::TornAtBytes,
            Self::Sector => Harm::TornAtSectors,
            Self::Page => Harm::TornAtPages,
        }
    }
}

/// What a power loss leaves of the changes that are not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// None of them.
    Everything,
    /// All of them.
    Nothing,
    /// Each unit by chance.
    Torn(Grain),
    /// The changes whose bits are set, whole; pending changes are counted from the oldest, and of
    /// those from the 65th on none is kept.
    Only(u64),
}

/// Which file, whatever its name.
pub(crate) type FileId = usize;

/// A change of a file that is not durable yet.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) sequence: u64,
    pub(crate) change: Change,
    /// A failed sync covered it: no later one makes it durable, though it may be.
    pub(crate) lost: bool,
}

/// What is done to a file.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Bytes at an offset.
    Write(u64, Arc<[u8]>),
    /// A new length.
    Length(u64),
}

impl Change {
    /// Where it writes.
    fn bytes(&self) -> Range<u64> {
        match self {
            Self::Write(offset, data) => *offset..*offset + data.len() as u64,
            Self::Length(_) => 0..0,
        }
    }
}

/// A change of the names that is not durable yet.
#[derive(Clone, Debug)]
pub(crate) enum NameChange {
    Link(String, FileId),
    Rename(String, String, FileId),
    Unlink(String),
}

/// A file.
#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    /// What reads see.
    pub(crate) cache: Arc<Vec<u8>>,
    /// What is surely there after a crash, but for pending changes.
    pub(crate) durable: Arc<Vec<u8>>,
    pub(crate) pending: Vec<Pending>,
    /// Grows with each change of contents, and is told as the time of it.
    pub(crate) changes: u64,
    /// Bytes that cannot be read.
    pub(crate) unreadable: Option<(u64, u64)>,
}

/// A whole medium: files and their names. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Medium {
    pub(crate) files: Vec<File>,
    pub(crate) names: BTreeMap<String, FileId>,
    pub(crate) durable_names: BTreeMap<String, FileId>,
    pub(crate) pending_names: Vec<(u64, NameChange)>,
    pub(crate) sequence: u64,
}

impl Medium {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next sequence number of a change.
    pub(crate) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// The bytes of the file `name` as reads see them.
    pub fn read(&self, name: &str) -> Option<&[u8]> {
        self.names.get(name).map(|id| self.files[*id].cache.as_slice())
    }

    /// All that can be seen of its files: names, times and bytes.
    pub(crate) fn contents(&self) -> Vec<(&str, u64, &[u8])> {
        let file = |id: &FileId| &self.files[*id];
        let seen = |(name, id)| (name, file(id).changes, file(id).cache.as_slice());
        self.names.iter().map(|(name, id)| (name.as_str(), id)).map(seen).collect()
    }

    /// The names of all files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// Changes the file `name` behind everybody's back, durably: damage, or a stranger's write.
    ///
    /// # Panics
    ///
    /// If there is no such file.
    pub fn corrupt(&mut self, name: &str, damage: impl Fn(&mut Vec<u8>)) {
        self.rot(name, damage);
        self.files[self.names[name]].changes += 1;
    }

    /// Changes bytes of the file `name` as a medium does of itself: no time of it tells.
    ///
    /// # Panics
    ///
    /// If there is no such file.
    pub fn rot(&mut self, name: &str, damage: impl Fn(&mut Vec<u8>)) {
        let file = &mut self.files[self.names[name]];
        damage(Arc::make_mut(&mut file.cache));
        damage(Arc::make_mut(&mut file.durable));
    }

    /// Puts a file with `contents` under `name`, durably, in place of one that has the name.
    pub fn put(&mut self, name: &str, contents: Vec<u8>) {
        let bytes = Arc::new(contents);
        let (id, durable) = (self.files.len(), Arc::clone(&bytes));
        self.files.push(File { cache: bytes, durable, ..File::default() });
        self.names.insert(name.to_owned(), id);
        self.durable_names.insert(name.to_owned(), id);
    }

    /// Makes `length` bytes at `offset` of the file `name` unreadable.
    ///
    /// # Panics
    ///
    /// If there is no such file.
    pub fn make_unreadable(&mut self, name: &str, offset: u64, length: u64) {
        self.files[self.names[name]].unreadable = Some((offset, offset + length));
    }

    /// Removes the file `name` durably.
    pub fn remove(&mut self, name: &str) {
        self.names.remove(name);
        self.durable_names.remove(name);
    }

    /// How many changes of files and names a power loss could undo.
    pub fn pending(&self) -> usize {
        self.pending_names.len() + self.files.iter().map(|file| file.pending.len()).sum::<usize>()
    }

    /// Whether a failed sync covered changes of the file `name`.
    pub(crate) fn has_lost(&self, name: &str) -> bool {
        self.names
            .get(name)
            .is_some_and(|id| self.files[*id].pending.iter().any(|pending| pending.lost))
    }

    /// What is there after the power was cut; `harms` counts what that did.
    #[must_use]
    pub fn power_loss(&self, loss: Loss, rng: &mut Rng, harms: &mut Harms) -> Self {
        let mut cut = Cut { loss, rng, index: 0, fates: Vec::new(), harms };
        let mut after = Self { sequence: self.sequence, ..Self::default() };
        for (id, file) in self.files.iter().enumerate() {
            let bytes = cut.file(id, file);
            let (changes, unreadable) = (file.changes, file.unreadable);
            let (cache, durable) = (Arc::clone(&bytes), bytes);
            after.files.push(File { cache, durable, pending: Vec::new(), changes, unreadable });
        }
        after.durable_names = cut.names(self);
        after.names.clone_from(&after.durable_names);
        harm::of_order(&mut cut.fates, cut.harms);
        after
    }
}

/// A power loss under way.
struct Cut<'a> {
    loss: Loss,
    rng: &'a mut Rng,
    /// How many whole changes were decided upon.
    index: u32,
    fates: Vec<Fate>,
    harms: &'a mut Harms,
}

impl Cut<'_> {
    /// What is left of a file.
    fn file(&mut self, id: FileId, file: &File) -> Arc<Vec<u8>> {
        if file.pending.is_empty() {
            return Arc::clone(&file.durable);
        }
        let mut bytes = file.durable.as_ref().clone();
        for Pending { sequence, change, lost } in &file.pending {
            let survived = self.change(&mut bytes, change);
            match survived {
                Survived::Whole if *lost => self.harms.note(Harm::SyncErrorKept),
                Survived::Not if *lost => self.harms.note(Harm::SyncErrorLost),
                _ => {}
            }
            let bytes = change.bytes();
            self.fates.push(Fate { sequence: *sequence, file: Some(id), bytes, survived });
        }
        Arc::new(bytes)
    }

    /// What is left of the names.
    fn names(&mut self, medium: &Medium) -> BTreeMap<String, FileId> {
        let mut names = medium.durable_names.clone();
        for (sequence, change) in &medium.pending_names {
            let harm = match change {
                NameChange::Link(..) => Harm::LostCreate,
                NameChange::Rename(..) => Harm::LostRename,
                NameChange::Unlink(_) => Harm::LostUnlink,
            };
            let survived = self.whole(|| change.apply(&mut names), harm);
            self.fates.push(Fate { sequence: *sequence, file: None, bytes: 0..0, survived });
        }
        names
    }

    fn change(&mut self, bytes: &mut Vec<u8>, change: &Change) -> Survived {
        match (change, self.loss) {
            (Change::Length(_), _) => self.whole(|| apply(bytes, change), Harm::LostSize),
            (Change::Write(offset, data), Loss::Torn(grain)) => {
                let survived = tear(bytes, (*offset, data), grain, self.rng);
                if survived == Survived::InPart {
                    self.harms.note(grain.harm());
                }
                survived
            }
            (Change::Write(..), _) => self.decide(|| apply(bytes, change)),
        }
    }

    /// A change that survives as a whole or does `harm` by being lost.
    fn whole(&mut self, change: impl FnOnce(), harm: Harm) -> Survived {
        let survived = self.decide(change);
        if survived == Survived::Not {
            self.harms.note(harm);
        }
        survived
    }

    fn decide(&mut self, change: impl FnOnce()) -> Survived {
        let kept = match self.loss {
            Loss::Everything => false,
            Loss::Nothing => true,
            Loss::Torn(_) => self.rng.bool(),
            Loss::Only(bits) => self.index < u64::BITS && bits >> self.index & 1 == 1,
        };
        self.index += 1;
        if !kept {
            return Survived::Not;
        }
        change();
        Survived::Whole
    }
}

/// Keeps of a write what chance keeps, unit by unit.
fn tear(
    bytes: &mut Vec<u8>,
    (offset, data): (u64, &[u8]),
    grain: Grain,
    rng: &mut Rng,
) -> Survived {
    let end = offset + data.len() as u64;
    // Half of the tears at a byte's grain are of long stretches, which single bytes rarely show.
    let grain = if grain == Grain::Byte && rng.bool() { 64 } else { grain.bytes() };
    let (mut kept, mut lost) = (false, false);
    let mut at = offset;
    while at < end {
        let next = ((at / grain + 1) * grain).min(end);
        if rng.bool() {
            let part = &data[index(at - offset)..index(next - offset)];
            apply(bytes, &Change::Write(at, part.into()));
            kept = true;
        } else {
            lost = true;
        }
        at = next;
    }
    match (kept, lost) {
        (true, true) => Survived::InPart,
        (true, false) => Survived::Whole,
        (false, _) => Survived::Not,
    }
}

/// Does `change` to `bytes`.
pub(crate) fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(length) => bytes.resize(index(*length), 0),
        Change::Write(offset, data) => {
            let end = index(*offset) + data.len();
            if data.is_empty() {
                // Nothing is written, so nothing gets longer.
                return;
            }
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[index(*offset)..end].copy_from_slice(data);
        }
    }
}

pub(crate) fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("simulated files are small")
}

impl NameChange {
    pub(crate) fn apply(&self, names: &mut BTreeMap<String, FileId>) {
        match self {
            Self::Link(name, id) => {
                names.insert(name.clone(), *id);
            }
            Self::Rename(from, to, id) => {
                names.remove(from);
                names.insert(to.clone(), *id);
            }
            Self::Unlink(name) => {
                names.remove(name);
            }
        }
    }
}

impl File {
    /// A change that is visible from now on.
    pub(crate) fn change(&mut self, sequence: u64, change: Change) {
        apply(Arc::make_mut(&mut self.cache), &change);
        self.changes += 1;
        self.pending.push(Pending { sequence, change, lost: false });
    }

    /// A sync of everything up to `sequence`.
    pub(crate) fn sync(&mut self, sequence: u64) {
        let pending = std::mem::take(&mut self.pending);
        for change in pending {
            if change.lost || change.sequence > sequence {
                self.pending.push(change);
                continue;
            }
            apply(Arc::make_mut(&mut self.durable), &change.change);
            self.forget_under(&change.change, change.sequence);
        }
    }

    /// A failed sync of everything up to `sequence`: the pages count as clean from now on.
    pub(crate) fn fail_sync(&mut self, sequence: u64) {
        for change in self.pending.iter_mut().filter(|change| change.sequence <= sequence) {
            change.lost = true;
        }
    }

    /// Reads show the medium again: of what a failed sync covered, the part that it had written.
    pub(crate) fn invalidate(&mut self, rng: &mut Rng) {
        let mut durable = self.durable.as_ref().clone();
        self.pending.retain(|Pending { change, lost, .. }| match change {
            Change::Write(offset, data) if *lost => {
                tear(&mut durable, (*offset, data), Grain::Sector, rng);
                false
            }
            // What is yet to be synced is kept; and so is a length, which no page holds.
            _ => true,
        });
        let mut cache = durable.clone();
        self.pending.iter().for_each(|pending| apply(&mut cache, &pending.change));
        (self.durable, self.cache) = (Arc::new(durable), Arc::new(cache));
    }

    /// A change that is durable at once, over whatever is pending there.
    pub(crate) fn change_durably(&mut self, change: &Change) {
        apply(Arc::make_mut(&mut self.cache), change);
        // The length that pending changes gave it is not made durable by other bytes.
        apply(Arc::make_mut(&mut self.durable), change);
        self.changes += 1;
        self.forget_under(change, u64::MAX);
    }

    /// Takes out of pending writes older than `sequence` what lies under a durable one: it cannot
    /// come back.
    fn forget_under(&mut self, durable: &Change, sequence: u64) {
        let Change::Write(start, data) = durable else { return };
        let (start, end) = (*start, *start + data.len() as u64);
        let older = std::mem::take(&mut self.pending);
        for pending in older {
            let Change::Write(offset, bytes) = &pending.change else {
                self.pending.push(pending);
                continue;
            };
            if pending.sequence > sequence {
                self.pending.push(pending);
                continue;
            }
            let (from, to) = (*offset, *offset + bytes.len() as u64);
            for (a, b) in [(from, to.min(start)), (from.max(end), to)] {
                if a < b {
                    let part = bytes[index(a - from)..index(b - from)].into();
                    self.pending
                        .push(Pending { change: Change::Write(a, part), ..pending.clone() });
                }
            }
        }
    }
}
