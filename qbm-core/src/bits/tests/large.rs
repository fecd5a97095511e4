//! What memory a bitmap takes, at 16 TiB and 64 KiB.

use super::super::{Bits, PAGE_BITS, Page};

const LEN: u64 = 1 << 28;

/// Bits of memory: the table and the pages that are there.
fn memory(bits: &Bits) -> u64 {
    let present = bits.pages.iter().filter(|page| page.get().is_some()).count();
    8 * (size_of_val(&*bits.pages) + present * size_of::<Page>()) as u64
}

#[test]
fn a_full_bitmap_takes_at_most_1_03_bits_a_granule_and_an_empty_one_almost_none() {
    let mut bits = Bits::new(LEN);
    assert!(memory(&bits) < LEN / 100, "{} bits when empty", memory(&bits));
    bits.set_all();
    assert_eq!(bits.count(), LEN);
    assert!(memory(&bits) * 100 <= LEN * 103, "{} bits when full", memory(&bits));
    bits.clear(0..LEN);
    assert!(memory(&bits) < LEN / 100, "{} bits when cleared", memory(&bits));
}

#[test]
fn memory_follows_what_is_set() {
    let mut bits = Bits::new(LEN);
    let empty = memory(&bits);
    bits.set(LEN - 1..LEN);
    bits.set(PAGE_BITS - 1..PAGE_BITS + 1);
    assert_eq!(memory(&bits) - empty, 3 * PAGE_BITS);
    bits.clear(0..PAGE_BITS);
    assert_eq!(memory(&bits) - empty, 2 * PAGE_BITS);
    assert_eq!(bits.areas().collect::<Vec<_>>(), [PAGE_BITS..PAGE_BITS + 1, LEN - 1..LEN]);
}
