//! Finding what is set: single bits, and maximal runs of them.

use std::iter::FusedIterator;
use std::ops::Range;

use super::split::split;
use super::{Bits, PAGE_BITS};

impl Bits {
    /// The first bit set at or after `from`; `None` also if `from` is past the length.
    pub fn next_set(&self, from: u64) -> Option<u64> {
        self.next_set_in(from.min(self.len)..self.len)
    }

    /// The first bit clear at or after `from` and before the length.
    pub fn next_clear(&self, from: u64) -> Option<u64> {
        self.next_clear_in(from.min(self.len)..self.len)
    }

    /// The first bit set in `range`; what lies past it costs nothing.
    pub fn next_set_in(&self, range: Range<u64>) -> Option<u64> {
        self.check(&range);
        split::<PAGE_BITS>(range).find_map(|(page, part)| {
            let bit = self.page(page)?.first_set(part)?;
            Some(page as u64 * PAGE_BITS + bit)
        })
    }

    /// The first bit clear in `range`; what lies past it costs nothing.
    pub fn next_clear_in(&self, range: Range<u64>) -> Option<u64> {
        self.check(&range);
        split::<PAGE_BITS>(range).find_map(|(page, part)| {
            let bit = match self.page(page) {
                Some(page) => page.first_clear(part)?,
                None => part.start,
            };
            Some(page as u64 * PAGE_BITS + bit)
        })
    }

    /// The first run of bits set in `within`, cut at its borders.
    pub fn next_area(&self, within: Range<u64>) -> Option<Range<u64>> {
        let start = self.next_set_in(within.clone())?;
        let end = self.next_clear_in(start..within.end).unwrap_or(within.end);
        Some(start..end)
    }

    /// The runs of bits set, ascending.
    pub fn areas(&self) -> Areas<'_> {
        self.areas_in(0..self.len)
    }

    /// The runs of bits set in `range`, ascending and cut at its borders.
    pub fn areas_in(&self, range: Range<u64>) -> Areas<'_> {
        self.check(&range);
        Areas { bits: self, rest: range }
    }
}

/// The runs of bits set, from [`Bits::areas`] and [`Bits::areas_in`].
///
/// It holds a position and no more. Runs are disjoint and ascending, and do not touch unless bits
/// are being set meanwhile.
#[derive(Clone, Debug)]
pub struct Areas<'a> {
    bits: &'a Bits,
    rest: Range<u64>,
}

impl Iterator for Areas<'_> {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        let area = self.bits.next_area(self.rest.clone());
        self.rest.start = area.as_ref().map_or(self.rest.end, |area| area.end);
        area
    }
}

impl FusedIterator for Areas<'_> {}
