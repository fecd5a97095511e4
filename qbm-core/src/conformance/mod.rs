//! The contracts of [`Storage`] and [`Directory`] in code.
//!
//! Every backend runs this suite, the simulator included. Each function checks one claim, is
//! named by it, and panics where it does not hold. Of the claims about crashes only that part is
//! here that shows without one.
//!
//! Any executor will do. Errors of the medium are not expected, and panic too.

pub mod directory;
pub mod length;
pub mod storage;
mod transfer;

use crate::{Directory, Storage};

/// The least length of a storage given to [`check_storage`], in bytes.
pub const STORAGE_LENGTH: u64 = transfer::LENGTH as u64;

/// Checks all of [`directory`], and all of [`storage`] and [`length`] on files in it.
///
/// `empty` makes a directory without a name in it, a new one at each call.
///
/// # Panics
///
/// Where a claim does not hold.
pub async fn check_directory<D: Directory>(empty: impl AsyncFn() -> D) {
    directory::a_name_that_is_not_there_is_not_found(&empty().await).await;
    directory::a_created_file_is_empty(&empty().await).await;
    directory::create_refuses_a_name_that_is_taken(&empty().await).await;
    directory::handles_of_one_name_are_one_file(&empty().await).await;
    directory::a_handle_for_reading_can_be_locked(&empty().await).await;
    directory::rename_drops_the_file_that_had_the_name(&empty().await).await;
    directory::a_removed_file_lives_on_in_its_handles(&empty().await).await;
    directory::all_names_are_listed(&empty().await).await;
    directory::a_replaced_file_has_the_new_contents(&empty().await).await;

    let directory = empty().await;
    let file = directory.create("lengths").await.expect("create");
    check_lengths(&file).await;

    let file = directory.create("storage").await.expect("create");
    file.set_len(STORAGE_LENGTH).await.expect("set_len");
    let open = async || directory.open("storage", crate::Access::Write).await.expect("open");
    check_storage(open).await;
}

/// Checks all of [`storage`], which leaves the length as it is.
///
/// `open` opens a storage of at least [`STORAGE_LENGTH`] bytes for writing, the same one at each
/// call. Its contents are lost.
///
/// # Panics
///
/// Where a claim does not hold.
pub async fn check_storage<F: Storage>(open: impl AsyncFn() -> F) {
    check_contents(&open).await;
    storage::a_writer_excludes_all_others(&open).await;
    storage::readers_exclude_writers_alone(&open).await;
    storage::a_second_lock_changes_the_first(&open).await;
}

/// Checks all of [`storage`] but the locks, for a storage that cannot have them.
///
/// `open` is as for [`check_storage`].
///
/// # Panics
///
/// Where a claim does not hold.
pub async fn check_contents<F: Storage>(open: impl AsyncFn() -> F) {
    let file = open().await;
    storage::a_read_sees_every_write_before_it(&file).await;
    storage::writes_at_the_same_time_all_land(&file).await;
    storage::overlapping_writes_leave_only_their_bytes(&file).await;
    storage::a_read_past_the_end_is_zero(&file).await;
    storage::an_empty_transfer_changes_nothing(&file).await;
    storage::a_zeroed_range_reads_as_zeroes(&file).await;
    storage::a_discard_leaves_the_rest_alone(&file).await;
    storage::block_status_never_hides_data_and_always_advances(&file).await;
    storage::a_buffer_is_moved_in_its_window_alone(&file).await;
    storage::nothing_happens_after_settle(&file).await;
    storage::an_invalidated_cache_hides_nothing(&file).await;
    storage::limits_are_usable(&file).await;
    storage::handles_have_one_identity(&file, &open().await).await;
}

/// Checks all of [`length`] on a storage whose length can change. Its contents are lost.
///
/// # Panics
///
/// Where a claim does not hold.
pub async fn check_lengths<F: Storage>(file: &F) {
    length::a_write_past_the_end_makes_it_longer(file).await;
    length::what_set_len_adds_reads_as_zeroes(file).await;
    length::a_write_past_a_cut_leaves_zeroes_between(file).await;
    length::the_identity_follows_the_length(file).await;
    length::zeroes_and_discards_past_the_end_are_left_out(file).await;
    length::an_empty_write_past_the_end_adds_nothing(file).await;
}
