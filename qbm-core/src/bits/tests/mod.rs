//! The bitmap against bitvec, and against definitions written out bit by bit.

mod concurrent;
mod exhaustive;
mod large;
mod merge;
mod model;
mod runs;
mod serialise;

use bitvec::order::Lsb0;
use bitvec::vec::BitVec;

use super::{Bits, PAGE_BYTES};

/// The reference: bit 0 is the lowest of byte 0, as in the file.
type Reference = BitVec<u8, Lsb0>;

/// A bitmap of `len` bits with those set that `set` says.
fn bits_where(len: u64, set: impl Fn(u64) -> bool) -> Bits {
    let bits = Bits::new(len);
    (0..len).filter(|bit| set(*bit)).for_each(|bit| bits.set(bit..bit + 1));
    bits
}

/// The bytes of the file of `bits`.
fn file_of(bits: &Bits) -> Vec<u8> {
    let mut file = Vec::new();
    for page in 0..bits.page_count() {
        let mut bytes = [0xff; PAGE_BYTES];
        bits.page_bytes(page, &mut bytes);
        let (inside, past) = bytes.split_at(bits.page_len(page));
        assert!(past.iter().all(|byte| *byte == 0), "page {page} past the file");
        file.extend_from_slice(inside);
    }
    assert_eq!(file.len() as u64, bits.file_len());
    file
}

/// A length or position as the reference takes it.
fn index(bit: u64) -> usize {
    usize::try_from(bit).unwrap()
}
