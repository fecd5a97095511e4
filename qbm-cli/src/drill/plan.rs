//! What a writer does: the same list for the writer, and for the judge of what it left.

use fastrand::Rng;

/// Bytes that are written at a time.
pub const BLOCK: u64 = 4096;
/// Writers at once.
pub const THREADS: u64 = 4;
/// Bytes that carry a stamp of their own: what no medium tears.
pub const SECTOR: usize = 512;

/// One life of a writer.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// Counted from 1.
    pub number: u32,
    /// What its choices follow.
    pub seed: u64,
    /// The size of the disk in bytes.
    pub size: u64,
}

/// One thing that a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Stamps a block.
    Write(u64),
    /// Zeroes a block.
    Zero(u64),
    /// Discards a block.
    Discard(u64),
    /// Flushes, and says so.
    Flush,
}

/// The deeds of one thread of a life, without end.
#[derive(Debug)]
pub struct Deeds {
    rng: Rng,
    thread: u64,
    /// The blocks that threads write each for itself, in turn: so the last one decides.
    own: std::ops::Range<u64>,
    /// The blocks that all threads write, zero and discard.
    common: std::ops::Range<u64>,
}

impl Life {
    /// What the thread `thread` does.
    pub fn deeds(&self, thread: u64) -> Deeds {
        let mut window = Rng::with_seed(self.seed);
        let blocks = self.size / BLOCK;
        let common = blocks - blocks / 8..blocks;
        // A part of the disk, so that backups have something to leave out.
        let start = window.u64(..common.start * 7 / 8) / THREADS * THREADS;
        let own = start..start + common.start / 8 / THREADS * THREADS;
        Deeds { rng: Rng::with_seed(self.seed ^ (thread + 1) << 32), thread, own, common }
    }

    /// What the deed `index` of a thread leaves in a block.
    pub fn stamp(&self, index: u32) -> u64 {
        u64::from(self.number) << 32 | u64::from(index)
    }
}

impl Deeds {
    /// Whether `block` is one that a single thread writes.
    pub fn is_own(&self, block: u64) -> bool {
        self.own.contains(&block)
    }
}

impl Iterator for Deeds {
    type Item = Deed;

    fn next(&mut self) -> Option<Deed> {
        let rng = &mut self.rng;
        let turn = rng.u64(..(self.own.end - self.own.start) / THREADS);
        let own = self.own.start + turn * THREADS + self.thread;
        let common = rng.u64(self.common.clone());
        Some(match rng.u8(..32) {
            0 => Deed::Flush,
            1 => Deed::Zero(common),
            2 => Deed::Discard(common),
            3 => Deed::Write(common),
            _ => Deed::Write(own),
        })
    }
}

/// The bytes of a block that carries `stamp`.
pub fn stamped(block: u64, stamp: u64, bytes: &mut [u8]) {
    for sector in bytes.chunks_exact_mut(SECTOR) {
        for words in sector.chunks_exact_mut(16) {
            words[..8].copy_from_slice(&stamp.to_le_bytes());
            words[8..].copy_from_slice(&block.to_le_bytes());
        }
    }
}

/// The stamp of each sector of a block, `None` where it is not one of this block.
pub fn stamps(block: u64, bytes: &[u8]) -> impl Iterator<Item = Option<u64>> {
    bytes.chunks_exact(SECTOR).map(move |sector| {
        let word = |at: usize| u64::from_le_bytes(sector[at..at + 8].try_into().expect("8 bytes"));
        let alike = sector.chunks_exact(16).all(|words| words == &sector[..16]);
        (alike && word(8) == block).then(|| word(0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_threads_share_a_block_of_their_own() {
        let life = Life { number: 1, seed: 7, size: 1 << 20 };
        for thread in 0..THREADS {
            let deeds = life.deeds(thread);
            let (own, common) = (deeds.own.clone(), deeds.common.clone());
            for deed in deeds.take(1000) {
                let (Deed::Write(block) | Deed::Zero(block) | Deed::Discard(block)) = deed else {
                    continue;
                };
                assert!(common.contains(&block) || block % THREADS == thread % THREADS);
                assert!(common.contains(&block) != own.contains(&block));
            }
        }
    }

    #[test]
    fn a_stamp_is_read_back_and_a_torn_sector_is_not() {
        let mut bytes = vec![0; 4096];
        stamped(9, 77, &mut bytes);
        assert!(stamps(9, &bytes).all(|stamp| stamp == Some(77)));
        assert!(stamps(8, &bytes).all(|stamp| stamp.is_none()));
        bytes[600] ^= 1;
        assert_eq!(stamps(9, &bytes).filter(Option::is_none).count(), 1);
    }
}
