//! Merging across granularities, against the definition: granules that share a byte.

use std::collections::BTreeSet;
use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::Bits;
use super::bits_where;
use crate::Granularity;
use crate::units::MAX_SIZE;

/// 512 bytes to 8 KiB.
fn granularities() -> impl Iterator<Item = Granularity> {
    (9..=13).map(|shift| Granularity::from_bytes(1 << shift).unwrap())
}

/// The bytes of granule `index` of a disk of `size` bytes.
fn granule(granularity: Granularity, index: u64, size: u64) -> Range<u64> {
    index * granularity.bytes()..((index + 1) * granularity.bytes()).min(size)
}

/// Unites `theirs_set`, at every pair of granularities, and compares with the definition.
fn check_every_pair(size: u64, marked: &[bool], marked_before: u64) {
    for (own, theirs) in granularities().flat_map(|own| granularities().map(move |g| (own, g))) {
        let before = |index: u64| marked_before > 0 && index.is_multiple_of(marked_before);
        let into = bits_where(own.granules_of(size), before);
        let other = bits_where(theirs.granules_of(size), |index| {
            marked[usize::try_from(index).unwrap() % marked.len()]
        });
        into.union_scaled(&other, own, theirs, size);
        for index in 0..into.len() {
            let bytes = granule(own, index, size);
            let touched = (0..other.len()).filter(|index| other.get(*index)).any(|index| {
                let theirs = granule(theirs, index, size);
                theirs.start < bytes.end && bytes.start < theirs.end
            });
            let expected = before(index) || touched;
            assert_eq!(into.get(index), expected, "{index} at {own:?} from {theirs:?}, {size}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_granule_is_marked_if_it_shares_a_byte_with_a_marked_one(
        size in prop_oneof![0..3_u64, 510..515_u64, 8190..8195_u64, 0..60_000_u64],
        marked in vec(prop::bool::weighted(0.2), 1..40),
        marked_before in 0..20_u64,
    ) {
        check_every_pair(size, &marked, marked_before);
    }
}

#[test]
fn a_coarse_mark_is_cut_at_the_end_of_the_disk() {
    let (fine, coarse) = (Granularity::MIN, Granularity::from_bytes(8192).unwrap());
    let other = Bits::new(1);
    other.set_all();
    let into = Bits::new(16);
    into.union_scaled(&other, fine, coarse, 1025);
    assert!(into.areas().eq(std::iter::once(0..3)));
}

#[test]
fn what_lies_past_the_own_length_is_left_out_and_so_is_what_lies_past_the_disk() {
    let (fine, coarse) = (Granularity::MIN, Granularity::from_bytes(2048).unwrap());
    for (own, own_len, theirs, their_len) in [(fine, 7, coarse, 9), (coarse, 3, fine, 21)] {
        for size in [4096, 1 << 20, MAX_SIZE] {
            let (into, other) = (Bits::new(own_len), Bits::new(their_len));
            other.set(1..their_len);
            into.union_scaled(&other, own, theirs, size);
            let from = theirs.bytes() / own.bytes();
            let end = own_len.min(own.granules_of(size));
            assert!(into.areas().eq(std::iter::once(from..end)), "{own:?} {size}");
        }
    }
}

/// The largest disk, so that nothing on the way may overflow.
#[test]
fn the_end_of_the_largest_disk_can_be_merged() {
    let (own, theirs) = (Granularity::MAX, Granularity::from_bytes(1 << 30).unwrap());
    let (into, other) = (Bits::new(own.granules_of(MAX_SIZE)), Bits::new(1 << 33));
    other.set(other.len() - 1..other.len());
    into.union_scaled(&other, own, theirs, MAX_SIZE);
    assert!(into.areas().eq(std::iter::once(into.len() - 1..into.len())));
    let back = Bits::new(other.len());
    back.union_scaled(&into, theirs, own, MAX_SIZE);
    assert!(back.areas().eq(std::iter::once(other.len() - 2..other.len())));
}

#[test]
fn a_union_keeps_what_either_had() {
    let sets = [BTreeSet::from([0, 5, 40_000, 69_999]), BTreeSet::from([1, 5, 33_000, 70_100])];
    let [into, other] = sets.each_ref().map(|set| bits_where(70_200, |bit| set.contains(&bit)));
    into.union(&other);
    let all: BTreeSet<u64> = &sets[0] | &sets[1];
    assert!(into.areas().flatten().eq(all));
}
