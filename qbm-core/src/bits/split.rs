//! Cutting a range of bits at the borders of pages and words.

use std::ops::Range;

/// Cuts `range` at every multiple of `UNIT`: the index of the unit and the bits within it, none
/// of the pieces empty.
#[inline]
pub(super) fn split<const UNIT: u64>(
    range: Range<u64>,
) -> impl Iterator<Item = (usize, Range<u64>)> {
    let first = range.start / UNIT;
    let end = if range.is_empty() { first } else { range.end.div_ceil(UNIT) };
    (first..end).map(move |unit| {
        let base = unit * UNIT;
        let within = range.start.saturating_sub(base)..(range.end - base).min(UNIT);
        (usize::try_from(unit).expect("the units are in memory"), within)
    })
}
