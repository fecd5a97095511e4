//! What of a read has not come yet. A server may send it in pieces, and in any order.

use std::ops::Range;

/// Gaps that a server may leave between what it has sent; one that leaves more is out of step. Servers
/// leave none: they send from the first byte to the last.
const MAX_GAPS: usize = 1024;

/// The bytes of a read that have not come, as ranges that grow and do not touch.
#[derive(Debug)]
pub(super) struct Missing {
    gaps: Vec<Range<usize>>,
}

impl Missing {
    /// All of `length` bytes.
    pub(super) fn all(length: usize) -> Self {
        Self { gaps: if length == 0 { Vec::new() } else { std::iter::once(0..length).collect() } }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.gaps.is_empty()
    }

    /// That the bytes of `run` come now; whether that can be: there are some, they are missing, and all
    /// in one gap.
    pub(super) fn take(&mut self, run: Range<usize>) -> bool {
        let index = self.gaps.partition_point(|gap| gap.end <= run.start);
        let Some(gap) = self.gaps.get_mut(index) else { return false };
        if run.is_empty() || run.start < gap.start || run.end > gap.end {
            return false;
        }
        let (before, after) = (gap.start..run.start, run.end..gap.end);
        match (before.is_empty(), after.is_empty()) {
            (true, true) => drop(self.gaps.remove(index)),
            (true, false) => *gap = after,
            (false, true) => *gap = before,
            (false, false) => {
                *gap = after;
                self.gaps.insert(index, before);
            }
        }
        self.gaps.len() <= MAX_GAPS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every two runs of eight bytes, against a set of bytes.
    #[test]
    fn a_byte_comes_once() {
        let runs = || (0..8).flat_map(|start| (start..=9).map(move |end| start..end));
        for first in runs() {
            for second in runs() {
                let mut missing = Missing::all(8);
                let mut bytes: Vec<usize> = (0..8).collect();
                for run in [first.clone(), second.clone()] {
                    let can_be = !run.is_empty() && run.clone().all(|byte| bytes.contains(&byte));
                    assert_eq!(missing.take(run.clone()), can_be, "{first:?} {second:?}");
                    if can_be {
                        bytes.retain(|byte| !run.contains(byte));
                    }
                }
                assert_eq!(missing.is_empty(), bytes.is_empty(), "{first:?} {second:?}");
            }
        }
        assert!(Missing::all(0).is_empty());
    }

    #[test]
    fn gaps_are_limited_in_number() {
        let mut missing = Missing::all(1 << 20);
        let taken = (0..).take_while(|index| missing.take(index * 2 + 1..index * 2 + 2)).count();
        assert_eq!(taken, MAX_GAPS - 1, "each leaves one gap more");
    }
}
