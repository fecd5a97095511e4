//! The runs of a union, against the bits of all small bitmaps.

use super::super::Bits;
use super::super::runs::runs_of_union;

const LENGTH: u64 = 6;

fn bits_of(pattern: u64) -> Bits {
    let bits = Bits::new(LENGTH);
    (0..LENGTH).filter(|bit| pattern >> bit & 1 == 1).for_each(|bit| bits.set(bit..bit + 1));
    bits
}

/// Every pair of bitmaps of six bits, and every range of them.
#[test]
fn the_runs_of_a_union_are_those_of_its_bits() {
    for (first, second) in (0..1 << LENGTH).flat_map(|a| (0..1 << LENGTH).map(move |b| (a, b))) {
        let (a, b) = (bits_of(first), bits_of(second));
        for (start, end) in (0..=LENGTH).flat_map(|s| (s..=LENGTH).map(move |e| (s, e))) {
            let mut next = start;
            let mut last = None;
            for run in runs_of_union(&[&a, &b], start..end) {
                assert_eq!(run.bits.start, next, "no gap");
                assert!(!run.bits.is_empty() && last != Some(run.set), "maximal");
                for bit in run.bits.clone() {
                    assert_eq!(run.set, (first | second) >> bit & 1 == 1, "{first} {second} {bit}");
                }
                next = run.bits.end;
                last = Some(run.set);
            }
            assert_eq!(next, end, "all of the range");
        }
    }
}

/// A run that two bitmaps hold in turns, across the border of a page.
#[test]
fn a_run_goes_on_from_one_bitmap_to_the_other() {
    let (a, b) = (Bits::new(100_000), Bits::new(100_000));
    a.set(10..32_768);
    b.set(32_760..40_000);
    a.set(40_000..50_000);
    let runs: Vec<_> = runs_of_union(&[&a, &b], 0..100_000).map(|run| run.bits).collect();
    assert_eq!(runs, [0..10, 10..50_000, 50_000..100_000]);
}
