//! Claims about any storage. None changes the length.

use std::io;
use std::pin::pin;

use futures_util::future::join_all;
use futures_util::poll;

use super::transfer::{Chance, LENGTH, fill, length, read, write};
use crate::{Buffer, ByteRange, Lock, Persist, Storage, Unmap};

/// Ranges that begin and end on, before and after blocks of usual sizes, as start and length.
const RANGES: [(usize, usize); 7] = [
    (0, 4096),
    (4096, 65_536),
    (1, 1),
    (511, 514),
    (4095, 8194),
    (70_000, 300_000),
    (LENGTH - 4097, 4097),
];

fn range(start: usize, length: usize) -> ByteRange {
    ByteRange::new(start as u64, length as u64)
}

/// Whatever is written, zeroed and synced in turn, reads show the sum of it.
pub async fn a_read_sees_every_write_before_it<F: Storage>(file: &F) {
    let mut expected = fill(file).await;
    let mut chance = Chance(1);
    for step in 0..300 {
        let start = chance.below(LENGTH);
        let bytes = chance.below(9000).min(LENGTH - start);
        let value = u8::try_from(step % 251 + 1).expect("at most 251");
        let persist = if step % 16 == 0 { Persist::Now } else { Persist::Later };
        match step % 4 {
            0 | 1 => {
                let buffer = Buffer::from_slice(&vec![value; bytes]);
                file.write_at(start as u64, buffer, persist).await.expect("write_at");
                expected[start..start + bytes].fill(value);
            }
            2 => {
                let unmap = if step % 8 == 2 { Unmap::Allowed } else { Unmap::Forbidden };
                file.write_zeroes(range(start, bytes), unmap).await.expect("write_zeroes");
                expected[start..start + bytes].fill(0);
            }
            _ => file.sync().await.expect("sync"),
        }
        let (from, to) = (start.saturating_sub(600), (start + bytes + 600).min(LENGTH));
        let found = read(file, from, to - from).await;
        assert!(found == expected[from..to], "step {step}: a read misses a write before it");
    }
    assert!(read(file, 0, LENGTH).await == expected, "a read misses a write before it");
}

/// Writes to different places may be under way together.
pub async fn writes_at_the_same_time_all_land<F: Storage>(file: &F) {
    fill(file).await;
    let part = 4099;
    let writes = (0..64_u8).map(async |number| {
        write(file, usize::from(number) * part, &vec![number; part]).await;
    });
    join_all(writes).await;
    let found = read(file, 0, 64 * part).await;
    let landed = found.iter().enumerate().all(|(at, byte)| usize::from(*byte) == at / part);
    assert!(landed, "a write was lost among others");
}

/// Where writes under way together overlap, any of their bytes may stay, and no others.
pub async fn overlapping_writes_leave_only_their_bytes<F: Storage>(file: &F) {
    let mut old = fill(file).await;
    for start in [4096, 5000, 65_537] {
        let (first, second) = (vec![1; 20_000], vec![2; 20_000]);
        let writes = [(start, first), (start + 7000, second)];
        join_all(writes.map(async |(at, bytes)| write(file, at, &bytes).await)).await;
        old[start..start + 7000].fill(1);
        old[start + 20_000..start + 27_000].fill(2);
        let found = read(file, 0, LENGTH).await;
        let overlap = start + 7000..start + 20_000;
        let theirs = found[overlap.clone()].iter().all(|byte| [1, 2].contains(byte));
        assert!(theirs, "where writes overlap is a byte of neither");
        // A mixture is allowed here, so whatever was found counts from now on.
        old[overlap.clone()].copy_from_slice(&found[overlap]);
        assert!(found == old, "overlapping writes reached past their ranges");
    }
}

/// A read over the end, or past it, is filled up with zeroes.
pub async fn a_read_past_the_end_is_zero<F: Storage>(file: &F) {
    let end = usize::try_from(length(file).await).expect("a length for tests");
    write(file, end - 100, &[1; 100]).await;
    let over = read(file, end - 100, 5000).await;
    assert!(over[..100] == [1; 100] && over[100..].iter().all(|byte| *byte == 0), "over the end");
    for distance in [0, 1, 511, 4096, 1 << 30] {
        let past = read(file, end + distance, 4096).await;
        assert!(past.iter().all(|byte| *byte == 0), "{distance} past the end");
    }
}

/// Transfers and ranges of no bytes are allowed, and do nothing.
pub async fn an_empty_transfer_changes_nothing<F: Storage>(file: &F) {
    let expected = fill(file).await;
    write(file, 4096, &[]).await;
    assert!(read(file, 4096, 0).await.is_empty());
    for unmap in [Unmap::Allowed, Unmap::Forbidden] {
        file.write_zeroes(range(512, 0), unmap).await.expect("write_zeroes");
    }
    file.discard(range(512, 0)).await.expect("discard");
    assert!(read(file, 0, LENGTH).await == expected, "an empty transfer changed something");
}

/// Zeroing makes just its range zero, whether space may be given back or not.
pub async fn a_zeroed_range_reads_as_zeroes<F: Storage>(file: &F) {
    let before = length(file).await;
    for unmap in [Unmap::Allowed, Unmap::Forbidden] {
        for (start, bytes) in RANGES {
            let mut expected = fill(file).await;
            file.write_zeroes(range(start, bytes), unmap).await.expect("write_zeroes");
            expected[start..start + bytes].fill(0);
            let found = read(file, 0, LENGTH).await;
            assert!(found == expected, "{bytes} bytes at {start} zeroed, {unmap:?}");
        }
    }
    assert_eq!(length(file).await, before, "zeroing changed the length");
}

/// What is outside a discarded range stays.
pub async fn a_discard_leaves_the_rest_alone<F: Storage>(file: &F) {
    let before = length(file).await;
    for (start, bytes) in RANGES {
        let expected = fill(file).await;
        file.discard(range(start, bytes)).await.expect("discard");
        let found = read(file, 0, LENGTH).await;
        let end = start + bytes;
        let kept = found[..start] == expected[..start] && found[end..] == expected[end..];
        assert!(kept, "the discard of {bytes} bytes at {start} reached further");
    }
    assert_eq!(length(file).await, before, "a discard changed the length");
}

/// A walk by block status ends, and what it calls zero is zero.
pub async fn block_status_never_hides_data_and_always_advances<F: Storage>(file: &F) {
    file.write_zeroes(range(0, LENGTH), Unmap::Allowed).await.expect("write_zeroes");
    walk(file, 0, LENGTH).await;
    for start in [0, 4095, 65_536, 300_001, 700_000] {
        write(file, start, &[5]).await;
    }
    file.write_zeroes(range(700_000, 1), Unmap::Forbidden).await.expect("write_zeroes");
    for first in [0, 1, 4095, 4096, 65_535, 299_999, 700_001] {
        walk(file, first, LENGTH).await;
    }
    write(file, LENGTH - 1, &[5]).await;
    walk(file, 700_000, LENGTH).await;
    walk(file, LENGTH - 1, LENGTH).await;
    walk(file, 299_000, 1500).await;
}

/// Walks from `first` to the end, asking about at most `most` bytes at once.
async fn walk<F: Storage>(file: &F, first: usize, most: usize) {
    let bytes = read(file, 0, LENGTH).await;
    let mut at = first;
    while at < LENGTH {
        let asked = most.min(LENGTH - at);
        let status = file.block_status(range(at, asked)).await.expect("block_status");
        let alike = usize::try_from(status.length).expect("a length for tests");
        assert!(alike >= 1, "block status does not advance at {at}");
        assert!(alike <= asked, "block status at {at} is about more than was asked");
        let zero = bytes[at..at + alike].iter().all(|byte| *byte == 0);
        assert!(status.data || zero, "block status hides data in {alike} bytes at {at}");
        at += alike;
    }
}

/// Of a narrowed buffer only the window is written and read.
pub async fn a_buffer_is_moved_in_its_window_alone<F: Storage>(file: &F) {
    let mut expected = fill(file).await;
    let buffer = Buffer::from_slice(&[9; 10_000]).narrow(3000..4001);
    let buffer = file.write_at(50, buffer, Persist::Later).await.expect("write_at");
    expected[50..50 + 1001].fill(9);
    assert!(read(file, 0, LENGTH).await == expected, "a write reached past its window");
    let buffer = file.read_at(100_000, buffer.widen().narrow(10..20)).await.expect("read_at");
    assert!(*buffer == expected[100_000..100_010], "a read missed its window");
    let whole = buffer.widen();
    let kept = whole[..10].iter().chain(&whole[20..]).all(|byte| *byte == 9);
    assert!(kept && whole.len() == 10_000, "a read reached past its window");
}

/// After `sync` nothing is in a cache alone.
pub async fn an_invalidated_cache_hides_nothing<F: Storage>(file: &F) {
    let mut expected = fill(file).await;
    write(file, 5000, &[9; 10_000]).await;
    expected[5000..15_000].fill(9);
    file.sync().await.expect("sync");
    file.invalidate_cache().await.expect("invalidate_cache");
    assert!(read(file, 0, LENGTH).await == expected, "bytes that were synced are gone");
}

/// After `settle` a write whose future was dropped has happened, in part or not, for good.
pub async fn nothing_happens_after_settle<F: Storage>(file: &F) {
    let old = fill(file).await;
    for _ in 0..20 {
        let mut write = pin!(file.write_at(4096, Buffer::zeroed(65_536), Persist::Later));
        let _dropped_before_its_end = poll!(write.as_mut());
    }
    // A future that was never polled has not begun.
    drop(file.write_at(200_000, Buffer::zeroed(4096), Persist::Later));
    file.settle().await;
    let settled = read(file, 0, LENGTH).await;
    for (at, byte) in settled.iter().enumerate() {
        let may_be_zero = (4096..4096 + 65_536).contains(&at);
        assert!(*byte == old[at] || *byte == 0 && may_be_zero, "byte {at} is neither old nor new");
    }
    file.sync().await.expect("sync");
    assert!(read(file, 0, LENGTH).await == settled, "a dropped write came after settle");
    file.settle().await;
}

/// The limits are such that a caller can keep them.
pub async fn limits_are_usable<F: Storage>(file: &F) {
    let limits = file.limits();
    assert!(limits.alignment.is_power_of_two(), "the alignment is a power of two");
    assert!(limits.max_transfer >= limits.alignment, "a transfer has room for the alignment");
    assert_eq!(limits.max_transfer % limits.alignment, 0, "the largest transfer is aligned");
}

/// Two handles of one storage show the same identity, and it has the length.
pub async fn handles_have_one_identity<F: Storage>(one: &F, other: &F) {
    write(one, 0, &[1]).await;
    one.sync().await.expect("sync");
    let first = one.identity().await.expect("identity");
    assert_eq!(first, other.identity().await.expect("identity"), "two handles, two identities");
    assert_eq!(first, one.identity().await.expect("identity"), "it changes without a change");
    if let Some(identity) = first {
        assert_eq!(identity.size, length(one).await, "the identity has another length");
    }
}

async fn assert_refused<F: Storage>(file: &F, lock: Lock, claim: &str) {
    let error = file.lock(lock).await.expect_err(claim);
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "{claim}");
    assert!(!error.to_string().is_empty(), "a refusal says who holds the lock");
}

/// While one handle is locked for writing, others get no lock; when it is dropped, they do.
pub async fn a_writer_excludes_all_others<F: Storage>(open: impl AsyncFn() -> F) {
    let (writer, other) = (open().await, open().await);
    writer.lock(Lock::Write).await.expect("the first lock");
    assert_refused(&other, Lock::Write, "a writer excludes writers").await;
    assert_refused(&other, Lock::Read, "a writer excludes readers").await;
    drop(writer);
    other.lock(Lock::Write).await.expect("a lock ends with its handle");
}

/// Readers exclude writers, and do not exclude each other.
pub async fn readers_exclude_writers_alone<F: Storage>(open: impl AsyncFn() -> F) {
    let (one, two, writer) = (open().await, open().await, open().await);
    one.lock(Lock::Read).await.expect("the first reader");
    two.lock(Lock::Read).await.expect("a second reader");
    assert_refused(&writer, Lock::Write, "readers exclude writers").await;
    drop(one);
    assert_refused(&writer, Lock::Write, "the second reader excludes writers").await;
    drop(two);
    writer.lock(Lock::Write).await.expect("without readers, a writer");
}

/// A lock can be changed either way, and a refused change leaves it as it was.
pub async fn a_second_lock_changes_the_first<F: Storage>(open: impl AsyncFn() -> F) {
    let (one, two) = (open().await, open().await);
    one.lock(Lock::Write).await.expect("the first lock");
    one.lock(Lock::Write).await.expect("the same lock again");
    one.lock(Lock::Read).await.expect("from writing to reading");
    two.lock(Lock::Read).await.expect("beside a former writer");
    assert_refused(&one, Lock::Write, "a reader cannot turn writer beside another").await;
    two.lock(Lock::Read).await.expect("a refused change leaves nothing behind");
    drop(two);
    assert_refused(&open().await, Lock::Write, "a refused change keeps the lock as it was").await;
    one.lock(Lock::None).await.expect("from reading to nothing");
    open().await.lock(Lock::Write).await.expect("beside one that does nothing");
    one.lock(Lock::Write).await.expect("from nothing to writing");
    assert_refused(&open().await, Lock::Read, "the changed lock holds").await;
}
