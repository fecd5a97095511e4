//! Every range of a bitmap of up to 130 bits, and the same around the border of two pages.

use std::ops::Range;

use super::super::{Bits, PAGE_BITS};

/// Every range within `0..end`, the empty ones too.
fn ranges(end: u64) -> impl Iterator<Item = Range<u64>> {
    (0..=end).flat_map(move |start| (start..=end).map(move |end| start..end))
}

/// Ranges that begin and end at and beside the borders of words.
fn sharp_ranges(end: u64) -> Vec<Range<u64>> {
    let sharp = |at: &u64| (at + 1) % 64 <= 2 || at + 2 >= end;
    ranges(end).filter(|range| sharp(&range.start) && sharp(&range.end)).collect()
}

fn shifted(range: &Range<u64>, base: u64) -> Range<u64> {
    range.start + base..range.end + base
}

/// The length of what two ranges share.
fn overlap(a: &Range<u64>, b: &Range<u64>) -> u64 {
    a.end.min(b.end).saturating_sub(a.start.max(b.start))
}

/// Compares every answer about a bitmap of `len` bits, of which `set` are set, with the definition.
fn check_answers(bits: &Bits, set: &Range<u64>, looked_at: Range<u64>) {
    for bit in looked_at {
        assert_eq!(bits.get(bit), set.contains(&bit), "bit {bit} of {set:?}");
        let next_set = (bit < set.end && !set.is_empty()).then(|| bit.max(set.start));
        assert_eq!(bits.next_set(bit), next_set, "from {bit} of {set:?}");
        let next_clear = if set.contains(&bit) { set.end } else { bit };
        let next_clear = (next_clear < bits.len()).then_some(next_clear);
        assert_eq!(bits.next_clear(bit), next_clear, "from {bit} of {set:?}");
    }
    let areas: Vec<_> = Some(set.clone()).into_iter().filter(|set| !set.is_empty()).collect();
    assert_eq!(bits.areas().collect::<Vec<_>>(), areas);
    assert_eq!(bits.count(), overlap(set, set));
}

fn check_all_ranges(len: u64, base: u64) {
    let sharp: Vec<_> = sharp_ranges(len - base).iter().map(|r| shifted(r, base)).collect();
    for set in ranges(len - base).map(|range| shifted(&range, base)) {
        let bits = Bits::new(len);
        bits.set(set.clone());
        check_answers(&bits, &set, base..len);
        for part in &sharp {
            let shared = overlap(&set, part);
            assert_eq!(bits.count_in(part.clone()), shared, "{part:?} of {set:?}");
            let whole = shared == part.end - part.start;
            assert_eq!(bits.contains(part.clone()), whole, "{part:?} of {set:?}");
            let area = set.start.max(part.start)..set.end.min(part.end);
            let area = (shared > 0).then_some(area);
            assert_eq!(bits.next_area(part.clone()), area, "{part:?} of {set:?}");
        }
    }
}

#[test]
fn every_range_of_a_small_bitmap_is_answered_as_defined() {
    for len in [1, 63, 64, 65, 127, 128, 129, 130] {
        check_all_ranges(len, 0);
    }
}

#[test]
fn every_range_across_a_page_border_is_answered_as_defined() {
    check_all_ranges(PAGE_BITS + 65, PAGE_BITS - 65);
}

#[test]
fn clearing_a_range_leaves_exactly_the_rest() {
    for base in [0, PAGE_BITS - 65] {
        let len = base + 130;
        let sharp: Vec<_> = sharp_ranges(130).iter().map(|r| shifted(r, base)).collect();
        for set in &sharp {
            for cleared in &sharp {
                let mut bits = Bits::new(len);
                bits.set(set.clone());
                bits.clear(cleared.clone());
                for bit in base..len {
                    let left = set.contains(&bit) && !cleared.contains(&bit);
                    assert_eq!(bits.get(bit), left, "bit {bit} of {set:?} without {cleared:?}");
                }
            }
        }
    }
}

#[test]
fn a_bitmap_without_bits_answers_too() {
    let mut bits = Bits::new(0);
    bits.set_all();
    bits.set(0..0);
    bits.clear(0..0);
    assert!(bits.contains(0..0));
    assert_eq!((bits.count(), bits.page_count(), bits.file_len()), (0, 0, 0));
    assert_eq!((bits.next_set(0), bits.next_clear(0), bits.areas().next()), (None, None, None));
}

#[test]
fn an_empty_range_allocates_no_page() {
    let bits = Bits::new(2 * PAGE_BITS);
    for at in [0, 1, 64, PAGE_BITS - 1, PAGE_BITS, 2 * PAGE_BITS] {
        bits.set(at..at);
        assert_eq!(Bits::pages_of(at..at).count(), 0);
        assert!(bits.contains(at..at));
    }
    assert!(bits.pages.iter().all(|page| page.get().is_none()));
}

#[test]
fn the_pages_of_a_range_are_those_its_bits_lie_in() {
    assert_eq!(Bits::pages_of(0..1), 0..1);
    assert_eq!(Bits::pages_of(0..PAGE_BITS), 0..1);
    assert_eq!(Bits::pages_of(PAGE_BITS - 1..PAGE_BITS + 1), 0..2);
    assert_eq!(Bits::pages_of(PAGE_BITS..3 * PAGE_BITS + 1), 1..4);
}

#[test]
#[should_panic(expected = "bits 4..6 of 5")]
fn a_range_past_the_length_is_refused() {
    Bits::new(5).set(4..6);
}
