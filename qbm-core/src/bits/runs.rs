//! The runs of a union of bitmaps, set and clear ones alike, without making the union.

use std::ops::Range;

use super::Bits;

/// A run of bits that are alike in the union of several bitmaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Its bits; at least one.
    pub(crate) bits: Range<u64>,
    /// Whether they are set in at least one of the bitmaps.
    pub(crate) set: bool,
}

/// The runs of the union of `layers` in `range`, ascending, without gaps, cut at its borders. Runs
/// that follow each other differ, unless bits are being set meanwhile.
///
/// # Panics
///
/// If `range` ends past the length of a layer.
pub(crate) fn runs_of_union<'a>(
    layers: &'a [&'a Bits],
    range: Range<u64>,
) -> impl Iterator<Item = Run> + 'a {
    let mut rest = range;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let set = layers.iter().any(|layer| layer.get(rest.start));
        let end = if set { next_clear(layers, &rest) } else { next_set(layers, &rest) };
        let run = Run { bits: rest.start..end, set };
        rest.start = end;
        Some(run)
    })
}

/// The first bit of `range` that a layer has; its end if there is none.
fn next_set(layers: &[&Bits], range: &Range<u64>) -> u64 {
    // A layer is asked no further than to where another has a bit.
    layers.iter().fold(range.end, |end, layer| layer.next_set_in(range.start..end).unwrap_or(end))
}

/// The first bit of `range` that no layer has; its end if there is none.
fn next_clear(layers: &[&Bits], range: &Range<u64>) -> u64 {
    let mut bit = range.start;
    loop {
        let clear = |bit, layer: &&Bits| layer.next_clear_in(bit..range.end).unwrap_or(range.end);
        let past = layers.iter().fold(bit, clear);
        if past == bit {
            return bit;
        }
        bit = past;
    }
}
