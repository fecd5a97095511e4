//! Reads and writes that may not fail, and a seeded choice of them.

use crate::{Buffer, Persist, Storage};

/// Bytes that the claims about storage use.
pub(super) const LENGTH: usize = 1 << 20;

/// Writes `bytes` at `offset`.
pub(super) async fn write<F: Storage>(file: &F, offset: usize, bytes: &[u8]) {
    let buffer = Buffer::from_slice(bytes);
    let buffer = file.write_at(offset as u64, buffer, Persist::Later).await.expect("write_at");
    assert_eq!(&*buffer, bytes, "a write gives its buffer back unchanged");
}

/// The `length` bytes at `offset`, read over bytes that are not zero.
pub(super) async fn read<F: Storage>(file: &F, offset: usize, length: usize) -> Vec<u8> {
    let buffer = Buffer::from_slice(&vec![0xEE; length]);
    let buffer = file.read_at(offset as u64, buffer).await.expect("read_at");
    assert_eq!(buffer.len(), length, "a read is never short");
    buffer.to_vec()
}

/// Fills the first [`LENGTH`] bytes with something that is nowhere zero, and returns it.
pub(super) async fn fill<F: Storage>(file: &F) -> Vec<u8> {
    let mut chance = Chance(7);
    let bytes: Vec<u8> =
        (0..LENGTH).map(|_| u8::try_from(chance.below(255) + 1).expect("at most 255")).collect();
    write(file, 0, &bytes).await;
    bytes
}

/// The length of `file`.
pub(super) async fn length<F: Storage>(file: &F) -> u64 {
    file.len().await.expect("len")
}

/// Numbers that look random and are the same in each run.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        // Constants of Knuth's MMIX generator; its upper bits are the good ones.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = usize::try_from(self.0 >> 33).expect("31 bits");
        number % limit
    }
}
