//! The defects that a backend may have.

/// What is wrong with a backend; each breaks one sentence of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    Nothing,
    // Transfers.
    DropsTheLastByte,
    DropsDurableWrites,
    /// Reads the whole file, and writes it back changed: what came in between is lost.
    WritesBackWhatItRead,
    /// Changes what is there by the difference to what it read, as parity of a RAID is kept.
    WritesDifferences,
    DroppedWriteComesLate,
    WritesTheWholeBuffer,
    ReadLeavesTheRest,
    ReadsOverTheWholeBuffer,
    // Zeroes.
    ZeroesRoundOutwards,
    ZeroesRoundInwards,
    ZeroesOnlyWhatItMayUnmap,
    ZeroingAdds,
    EmptyRangeIsABlock,
    DiscardRoundsOutwards,
    StatusLooksAtOneByte,
    StatusStalls,
    StatusSaysTooMuch,
    // The length.
    AddsGarbage,
    CutBytesReturn,
    GapKeepsCutBytes,
    EmptyWriteAdds,
    NeverShrinks,
    // What it says of itself.
    IdentityIsThatOfTheOpening,
    IdentityIsThatOfTheHandle,
    OddAlignment,
    // Locks.
    LocksExcludeNothing,
    LockOutlivesItsHandle,
    WriterAdmitsReaders,
    ReadersAdmitWriters,
    ReadersExcludeReaders,
    RefusesInOtherWords,
    RefusedChangeDropsTheLock,
    SecondLockIsIgnored,
    NoLockIsOne,
    // Names.
    OpenCreates,
    CreateReplaces,
    CreatedFilesHaveBytes,
    HandlesAreCopies,
    RenameKeepsTheOldName,
    RenameRefusesATakenName,
    RenameCopies,
    RemoveFindsAnything,
    RemoveEmptiesTheFile,
    ListIsCut,
    ListRepeats,
}
