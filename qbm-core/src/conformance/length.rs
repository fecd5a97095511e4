//! Claims about the length of a storage that can change it.

use super::transfer::{length, read, write};
use crate::{ByteRange, Storage, Unmap};

async fn set_len<F: Storage>(file: &F, bytes: u64) {
    file.set_len(bytes).await.expect("set_len");
    assert_eq!(length(file).await, bytes, "set_len sets the length");
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// A write past the end makes it longer; the gap reads as zeroes.
pub async fn a_write_past_the_end_makes_it_longer<F: Storage>(file: &F) {
    set_len(file, 0).await;
    write(file, 10, b"abc").await;
    assert_eq!(length(file).await, 13, "a write past the end sets the length");
    write(file, 12, b"def").await;
    assert_eq!(length(file).await, 15, "a write over the end sets the length");
    write(file, 100_000, b"ghi").await;
    assert_eq!(length(file).await, 100_003, "a write far past the end sets the length");
    assert_eq!(read(file, 0, 15).await, b"\0\0\0\0\0\0\0\0\0\0abdef");
    assert!(is_zero(&read(file, 15, 99_985).await), "the gap reads as zeroes");
    write(file, 0, b"x").await;
    assert_eq!(length(file).await, 100_003, "a write inside leaves the length");
}

/// What was cut off does not come back, and what is added reads as zeroes.
pub async fn what_set_len_adds_reads_as_zeroes<F: Storage>(file: &F) {
    for (cut, longer) in [(0, 1), (1, 5000), (4095, 4097), (5000, 70_000), (8192, 200_000)] {
        set_len(file, 0).await;
        write(file, 0, &[3; 10_000]).await;
        set_len(file, cut).await;
        set_len(file, longer).await;
        let bytes = read(file, 0, 200_000).await;
        let (kept, added) = bytes.split_at(usize::try_from(cut).expect("a length for tests"));
        assert!(kept.iter().all(|byte| *byte == 3), "cut to {cut}: what is left stays");
        assert!(is_zero(added), "cut to {cut}, extended to {longer}: what is added is zero");
        file.sync().await.expect("sync");
    }
}

/// What was cut off does not come back in the gap that a write past the end leaves.
pub async fn a_write_past_a_cut_leaves_zeroes_between<F: Storage>(file: &F) {
    for (cut, start) in [(0, 1), (1, 9000), (4095, 4097), (5000, 50_000)] {
        set_len(file, 0).await;
        write(file, 0, &[3; 10_000]).await;
        set_len(file, cut).await;
        let cut = usize::try_from(cut).expect("a length for tests");
        write(file, start, &[4]).await;
        assert!(is_zero(&read(file, cut, start - cut).await), "cut to {cut}: the gap is zero");
    }
}

/// The identity has the new length, and stays that of the same storage.
pub async fn the_identity_follows_the_length<F: Storage>(file: &F) {
    set_len(file, 0).await;
    let Some(before) = file.identity().await.expect("identity") else { return };
    for bytes in [1, 10_000, 4096] {
        set_len(file, bytes).await;
        let now = file.identity().await.expect("identity").expect("an identity, as before");
        assert_eq!(now.size, bytes, "the identity has another length");
        let same = (now.device, now.inode) == (before.device, before.inode);
        assert!(same, "a new length makes it no other storage");
    }
}

/// Zeroing and discarding past the end do not make it longer.
pub async fn zeroes_and_discards_past_the_end_are_left_out<F: Storage>(file: &F) {
    set_len(file, 0).await;
    write(file, 0, &[3; 10_000]).await;
    for range in [ByteRange::new(8000, 100_000), ByteRange::new(50_000, 4096)] {
        for unmap in [Unmap::Allowed, Unmap::Forbidden] {
            file.write_zeroes(range, unmap).await.expect("write_zeroes");
            assert_eq!(length(file).await, 10_000, "zeroing {range:?} keeps the length");
        }
        file.discard(range).await.expect("discard");
        assert_eq!(length(file).await, 10_000, "a discard of {range:?} keeps the length");
    }
    assert!(read(file, 0, 8000).await == [3; 8000], "what is before the range stays");
    assert!(is_zero(&read(file, 8000, 2000).await), "up to the end it is zeroed");
}

/// A write of no bytes past the end does not make it longer.
pub async fn an_empty_write_past_the_end_adds_nothing<F: Storage>(file: &F) {
    set_len(file, 10).await;
    write(file, 1000, &[]).await;
    assert_eq!(length(file).await, 10, "an empty write sets no length");
}
