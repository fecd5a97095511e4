//! The conformance suite finds what it is there to find: each claim, a defect that breaks it.

mod defect;
mod memory;

use std::panic::catch_unwind;

use futures_executor::block_on;
use qbm_core::conformance::{check_directory, directory as d, length as l, storage as s};
use qbm_core::{Access, Directory, Storage};

use defect::Defect::{self, *};
use memory::{MemoryDirectory, MemoryFile};

/// A claim, as a test of backends with a defect.
type Claim = fn(Defect);

macro_rules! directory {
    ($claim:path) => {
        |defect| block_on($claim(&MemoryDirectory::new(defect)))
    };
}

macro_rules! empty_file {
    ($claim:path) => {
        |defect| block_on(async { $claim(&create(&MemoryDirectory::new(defect), 0).await).await })
    };
}

macro_rules! file {
    ($claim:path) => {
        |defect| {
            block_on(async { $claim(&create(&MemoryDirectory::new(defect), LENGTH).await).await })
        }
    };
}

macro_rules! handles {
    ($claim:path) => {
        |defect| {
            block_on(async {
                let directory = MemoryDirectory::new(defect);
                create(&directory, LENGTH).await;
                $claim(async || open(&directory).await).await;
            })
        }
    };
}

const LENGTH: u64 = qbm_core::conformance::STORAGE_LENGTH;

async fn create(directory: &MemoryDirectory, length: u64) -> MemoryFile {
    let file = directory.create("file").await.expect("a new name");
    file.set_len(length).await.expect("memory");
    file
}

async fn open(directory: &MemoryDirectory) -> MemoryFile {
    directory.open("file", Access::Write).await.expect("it is there")
}

fn handles_have_one_identity(defect: Defect) {
    block_on(async {
        let directory = MemoryDirectory::new(defect);
        let file = create(&directory, LENGTH).await;
        s::handles_have_one_identity(&file, &open(&directory).await).await;
    });
}

const FOUND_BY: &[(Defect, Claim)] = &[
    (DropsTheLastByte, file!(s::a_read_sees_every_write_before_it)),
    (DropsDurableWrites, file!(s::a_read_sees_every_write_before_it)),
    (ZeroesRoundInwards, file!(s::a_read_sees_every_write_before_it)),
    (WritesBackWhatItRead, file!(s::writes_at_the_same_time_all_land)),
    (WritesDifferences, file!(s::overlapping_writes_leave_only_their_bytes)),
    (WritesBackWhatItRead, file!(s::overlapping_writes_leave_only_their_bytes)),
    (ReadLeavesTheRest, file!(s::a_read_past_the_end_is_zero)),
    (EmptyRangeIsABlock, file!(s::an_empty_transfer_changes_nothing)),
    (ZeroesRoundOutwards, file!(s::a_zeroed_range_reads_as_zeroes)),
    (ZeroesRoundInwards, file!(s::a_zeroed_range_reads_as_zeroes)),
    (ZeroesOnlyWhatItMayUnmap, file!(s::a_zeroed_range_reads_as_zeroes)),
    (DiscardRoundsOutwards, file!(s::a_discard_leaves_the_rest_alone)),
    (StatusLooksAtOneByte, file!(s::block_status_never_hides_data_and_always_advances)),
    (StatusStalls, file!(s::block_status_never_hides_data_and_always_advances)),
    (StatusSaysTooMuch, file!(s::block_status_never_hides_data_and_always_advances)),
    (WritesTheWholeBuffer, file!(s::a_buffer_is_moved_in_its_window_alone)),
    (ReadsOverTheWholeBuffer, file!(s::a_buffer_is_moved_in_its_window_alone)),
    (DroppedWriteComesLate, file!(s::nothing_happens_after_settle)),
    (OddAlignment, file!(s::limits_are_usable)),
    (IdentityIsThatOfTheHandle, handles_have_one_identity),
    (LocksExcludeNothing, handles!(s::a_writer_excludes_all_others)),
    (WriterAdmitsReaders, handles!(s::a_writer_excludes_all_others)),
    (LockOutlivesItsHandle, handles!(s::a_writer_excludes_all_others)),
    (RefusesInOtherWords, handles!(s::a_writer_excludes_all_others)),
    (ReadersAdmitWriters, handles!(s::readers_exclude_writers_alone)),
    (ReadersExcludeReaders, handles!(s::readers_exclude_writers_alone)),
    (RefusedChangeDropsTheLock, handles!(s::a_second_lock_changes_the_first)),
    (SecondLockIsIgnored, handles!(s::a_second_lock_changes_the_first)),
    (NoLockIsOne, handles!(s::a_second_lock_changes_the_first)),
    (AddsGarbage, empty_file!(l::a_write_past_the_end_makes_it_longer)),
    (NeverShrinks, empty_file!(l::what_set_len_adds_reads_as_zeroes)),
    (AddsGarbage, empty_file!(l::what_set_len_adds_reads_as_zeroes)),
    (CutBytesReturn, empty_file!(l::what_set_len_adds_reads_as_zeroes)),
    (GapKeepsCutBytes, empty_file!(l::a_write_past_a_cut_leaves_zeroes_between)),
    (IdentityIsThatOfTheOpening, empty_file!(l::the_identity_follows_the_length)),
    (ZeroingAdds, empty_file!(l::zeroes_and_discards_past_the_end_are_left_out)),
    (EmptyWriteAdds, empty_file!(l::an_empty_write_past_the_end_adds_nothing)),
    (OpenCreates, directory!(d::a_name_that_is_not_there_is_not_found)),
    (RemoveFindsAnything, directory!(d::a_name_that_is_not_there_is_not_found)),
    (CreatedFilesHaveBytes, directory!(d::a_created_file_is_empty)),
    (CreateReplaces, directory!(d::create_refuses_a_name_that_is_taken)),
    (HandlesAreCopies, directory!(d::handles_of_one_name_are_one_file)),
    (ReadersAdmitWriters, directory!(d::a_handle_for_reading_can_be_locked)),
    (RenameKeepsTheOldName, directory!(d::rename_drops_the_file_that_had_the_name)),
    (RenameRefusesATakenName, directory!(d::rename_drops_the_file_that_had_the_name)),
    (RenameCopies, directory!(d::rename_drops_the_file_that_had_the_name)),
    (RemoveEmptiesTheFile, directory!(d::a_removed_file_lives_on_in_its_handles)),
    (ListIsCut, directory!(d::all_names_are_listed)),
    (ListRepeats, directory!(d::all_names_are_listed)),
    (RenameRefusesATakenName, directory!(d::a_replaced_file_has_the_new_contents)),
];

#[test]
fn a_backend_without_a_defect_passes() {
    block_on(check_directory(async || MemoryDirectory::new(Nothing)));
    for (_, claim) in FOUND_BY {
        claim(Nothing);
    }
}

#[test]
fn every_planted_defect_is_found_by_its_claim() {
    for (number, (defect, claim)) in FOUND_BY.iter().enumerate() {
        let result = catch_unwind(|| claim(*defect));
        assert!(result.is_err(), "{defect:?} passes the claim of line {number} of the table");
    }
}

/// What the claims find one by one, the whole suite finds, so that it leaves none of them out.
#[test]
fn the_whole_suite_finds_every_planted_defect() {
    for (defect, _) in FOUND_BY {
        let suite = || block_on(check_directory(async || MemoryDirectory::new(*defect)));
        assert!(catch_unwind(suite).is_err(), "{defect:?} passes the suite");
    }
}
