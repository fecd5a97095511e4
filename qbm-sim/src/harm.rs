//! What was done to whoever worked on the medium: kinds of harm, counted, so that a test can tell that
//! it was about what it says.

/// One kind of harm that the simulator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Harm {
    /// The older changes survived a power loss, and the newer ones did not.
    Prefix,
    /// A newer change survived, and an older one did not.
    Subset,
    /// A part of a write survived that begins or ends within a sector.
    TornAtBytes,
    /// A part of a write survived, in sectors.
    TornAtSectors,
    /// A part of a write survived, in pages.
    TornAtPages,
    /// A newer change of one file survived, and an older one of another did not.
    ReorderedAcrossFiles,
    /// A newer write of a file survived, and an older one did not.
    ReorderedWithinFile,
    /// A newer write survived, and not all of an older one under it: the medium saw them as one.
    MergedWrites,
    /// A rename was undone.
    LostRename,
    /// A new file was not there.
    LostCreate,
    /// A change of length was undone.
    LostSize,
    /// A removed file was there again.
    LostUnlink,
    /// A process was killed.
    Kill,
    /// A process was killed, or the power cut, before it had recovered from what was before.
    CrashInRecovery,
    /// A second crash came before any process had closed the image after the first.
    DoubleCrash,
    /// A read failed.
    ReadError,
    /// A write failed.
    WriteError,
    /// A write failed for lack of space.
    FullWrite,
    /// A sync failed for lack of space.
    FullSync,
    /// A sync failed, and a power loss showed that the medium did not have what it covered.
    SyncErrorLost,
    /// A sync failed, and a power loss showed that the medium had it.
    SyncErrorKept,
}

impl Harm {
    /// All there are.
    pub const ALL: [Self; 21] = [
        Self::Prefix,
        Self::Subset,
        Self::TornAtBytes,
        Self::TornAtSectors,
        Self::TornAtPages,
        Self::ReorderedAcrossFiles,
        Self::ReorderedWithinFile,
        Self::MergedWrites,
        Self::LostRename,
        Self::LostCreate,
        Self::LostSize,
        Self::LostUnlink,
        Self::Kill,
        Self::CrashInRecovery,
        Self::DoubleCrash,
        Self::ReadError,
        Self::WriteError,
        Self::FullWrite,
        Self::FullSync,
        Self::SyncErrorLost,
        Self::SyncErrorKept,
    ];
}

/// How often each kind was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Harms([u64; Harm::ALL.len()]);

impl Harms {
    /// How often `harm` was done: power losses, processes, or calls.
    pub fn of(&self, harm: Harm) -> u64 {
        self.0[harm as usize]
    }

    /// Counts one more.
    pub(crate) fn note(&mut self, harm: Harm) {
        self.0[harm as usize] += 1;
    }

    /// The sum of both.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }
}

/// A change that was not durable when the power was cut.
pub(crate) struct Fate {
    /// When it was made.
    pub(crate) sequence: u64,
    /// The file that it changed; `None`: a name.
    pub(crate) file: Option<usize>,
    /// The bytes that it wrote; empty if it wrote none.
    pub(crate) bytes: std::ops::Range<u64>,
    /// What became of it.
    pub(crate) survived: Survived,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survived {
    Whole,
    InPart,
    Not,
}

/// What kinds of harm the order is in which changes survived.
pub(crate) fn of_order(fates: &mut [Fate], harms: &mut Harms) {
    fates.sort_by_key(|fate| fate.sequence);
    // Each that survived, with each older one that did not survive as a whole.
    let kept = fates.iter().enumerate().filter(|(_, fate)| fate.survived == Survived::Whole);
    let harmed = kept.flat_map(|(place, kept)| {
        let older = fates[..place].iter().filter(|older| older.survived != Survived::Whole);
        older.map(move |older| (older, kept))
    });
    let harmed: Vec<(&Fate, &Fate)> = harmed.collect();
    let is_lost = |fate: &Fate| fate.survived == Survived::Not;
    let within = |lost: &Fate, kept: &Fate| {
        lost.file == kept.file && !lost.bytes.is_empty() && !kept.bytes.is_empty()
    };
    let over = |lost: &Fate, kept: &Fate| {
        lost.bytes.start < kept.bytes.end && kept.bytes.start < lost.bytes.end
    };
    let mut note = |harm, is: &dyn Fn(&Fate, &Fate) -> bool| {
        if harmed.iter().any(|(lost, kept)| is(lost, kept)) {
            harms.note(harm);
        }
    };
    note(Harm::Subset, &|lost, _| is_lost(lost));
    note(Harm::ReorderedAcrossFiles, &|lost, kept| is_lost(lost) && lost.file != kept.file);
    note(Harm::ReorderedWithinFile, &|lost, kept| is_lost(lost) && within(lost, kept));
    note(Harm::MergedWrites, &|lost, kept| within(lost, kept) && over(lost, kept));
    let any = |what: Survived| fates.iter().any(|fate| fate.survived == what);
    let in_order = !harmed.iter().any(|(lost, _)| is_lost(lost));
    if in_order && any(Survived::Whole) && any(Survived::Not) {
        harms.note(Harm::Prefix);
    }
}
