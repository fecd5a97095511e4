//! Random sequences of operations, compared with bitvec after every step.

use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::{Areas, Bits, PAGE_BITS, PAGE_BYTES, TailBits};
use super::{Reference, file_of, index};

#[derive(Clone, Debug)]
enum Operation {
    Set(Range<u64>),
    Clear(Range<u64>),
    SetAll,
    /// Unites with a bitmap of another length, of which the range is set.
    Union {
        len: u64,
        set: Range<u64>,
    },
    /// Ors bytes, all of the given value, into the page of a bit.
    OrBytes {
        at: u64,
        count: usize,
        byte: u8,
    },
    /// Publishes the page of a bit of another bitmap, of which the range is set.
    Publish {
        at: u64,
        set: Range<u64>,
    },
    /// Asks everything that can be asked about the range.
    Look(Range<u64>),
}

/// A position up to `len`, often at a border of words or pages.
fn position(len: u64) -> impl Strategy<Value = u64> {
    let beside = move |unit: u64| {
        (0..=len / unit, 0..3_u64)
            .prop_map(move |(index, beside)| (index * unit + beside).saturating_sub(1).min(len))
    };
    prop_oneof![0..=len, beside(64), beside(PAGE_BITS)]
}

fn range(len: u64) -> impl Strategy<Value = Range<u64>> {
    (position(len), position(len)).prop_map(|(a, b)| a.min(b)..a.max(b))
}

fn operation(len: u64) -> impl Strategy<Value = Operation> {
    use Operation::*;
    let other = (0..=2 * len).prop_flat_map(|len| (Just(len), range(len)));
    prop_oneof![
        4 => range(len).prop_map(Set),
        3 => range(len).prop_map(Clear),
        1 => Just(SetAll),
        1 => other.prop_map(|(len, set)| Union { len, set }),
        1 => (position(len), 0..=PAGE_BYTES, any::<u8>())
            .prop_map(|(at, count, byte)| OrBytes { at, count, byte }),
        1 => (position(len), range(len)).prop_map(|(at, set)| Publish { at, set }),
        6 => range(len).prop_map(Look),
    ]
}

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![
        prop::sample::select(vec![0, 1, 63, 64, 65, 127, 128, 129]),
        prop::sample::select(vec![PAGE_BITS - 1, PAGE_BITS, PAGE_BITS + 1, 2 * PAGE_BITS]),
        0..200_u64,
        0..4 * PAGE_BITS,
    ]
}

fn usize_range(range: &Range<u64>) -> Range<usize> {
    index(range.start)..index(range.end)
}

impl Operation {
    fn apply(&self, bits: &mut Bits, model: &mut Reference) {
        match self {
            Self::Set(range) => {
                bits.set(range.clone());
                model[usize_range(range)].fill(true);
            }
            Self::Clear(range) => {
                bits.clear(range.clone());
                model[usize_range(range)].fill(false);
            }
            Self::SetAll => {
                bits.set_all();
                model.fill(true);
            }
            Self::Union { len, set } => {
                let other = Bits::new(*len);
                other.set(set.clone());
                bits.union(&other);
                let end = set.end.min(bits.len());
                model[index(set.start.min(end))..index(end)].fill(true);
            }
            Self::OrBytes { at, count, byte } => or_bytes(bits, model, *at, &vec![*byte; *count]),
            Self::Publish { at, set } => publish(bits, model, *at, set),
            Self::Look(range) => look(bits, model, range),
        }
    }
}

/// The page of bit `at`, unless the bitmap ends before it.
fn page_of(bits: &Bits, at: u64) -> Option<usize> {
    (at < bits.len()).then(|| index(at / PAGE_BITS))
}

fn or_bytes(bits: &Bits, model: &mut Reference, at: u64, bytes: &[u8]) {
    let Some(page) = page_of(bits, at) else { return };
    let first = page * index(PAGE_BITS);
    let set = Reference::from_slice(bytes);
    let tail = bits.or_page_bytes(page, bytes);
    let inside = set.len().min(model.len() - first);
    model[first..first + inside] |= &set[..inside];
    let expected = if set[inside..].any() { TailBits::Dropped } else { TailBits::Zero };
    assert_eq!(tail, expected);
}

fn publish(bits: &Bits, model: &mut Reference, at: u64, set: &Range<u64>) {
    let Some(page) = page_of(bits, at) else { return };
    let other = Bits::new(bits.len());
    other.set(set.clone());
    let mut snapshot = [0; PAGE_BYTES];
    other.page_bytes(page, &mut snapshot);
    bits.publish(page, &snapshot);
    let first = page as u64 * PAGE_BITS;
    let start = set.start.max(first);
    let end = set.end.min(first + PAGE_BITS);
    model[index(start.min(end))..index(end)].fill(true);
}

fn look(bits: &Bits, model: &Reference, range: &Range<u64>) {
    let slice = &model[usize_range(range)];
    assert_eq!(bits.contains(range.clone()), slice.all());
    assert_eq!(bits.count_in(range.clone()), slice.count_ones() as u64);
    let after = |found: Option<usize>| found.map(|bit| range.start + bit as u64);
    let rest = &model[index(range.start)..];
    assert_eq!(bits.next_set(range.start), after(rest.first_one()));
    assert_eq!(bits.next_clear(range.start), after(rest.first_zero()));
    assert_eq!(bits.next_set_in(range.clone()), after(slice.first_one()));
    assert_eq!(bits.next_clear_in(range.clone()), after(slice.first_zero()));
    if range.start < bits.len() {
        assert_eq!(bits.get(range.start), rest[0]);
    }
    let set: Vec<u64> = slice.iter_ones().map(|bit| range.start + bit as u64).collect();
    check_areas(bits.areas_in(range.clone()), &set);
}

/// Areas hold exactly the bits `set`, and none of them touches the next.
fn check_areas(areas: Areas<'_>, set: &[u64]) {
    let areas: Vec<_> = areas.collect();
    assert!(areas.windows(2).all(|pair| pair[0].end < pair[1].start), "{areas:?}");
    assert!(areas.into_iter().flatten().eq(set.iter().copied()));
}

proptest! {
    #[test]
    fn any_sequence_of_operations_does_what_bitvec_does(
        (len, operations) in length().prop_flat_map(|len| (Just(len), vec(operation(len), 1..20)))
    ) {
        let mut bits = Bits::new(len);
        let mut model = Reference::repeat(false, index(len));
        for operation in operations {
            operation.apply(&mut bits, &mut model);
            prop_assert_eq!(bits.count(), model.count_ones() as u64);
        }
        model.set_uninitialized(false);
        prop_assert_eq!(file_of(&bits), model.into_vec());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// 16 TiB at 64 KiB, with a few short runs in it.
    #[test]
    fn a_sparse_bitmap_of_16_tib_finds_what_bitvec_finds(
        runs in vec((position((1 << 28) - 1), 1..300_u64), 1..30)
    ) {
        let len = 1 << 28;
        let bits = Bits::new(len);
        let mut model = Reference::repeat(false, index(len));
        for (start, count) in runs {
            let run = start..(start + count).min(len);
            bits.set(run.clone());
            model[usize_range(&run)].fill(true);
        }
        let set: Vec<u64> = model.iter_ones().map(|bit| bit as u64).collect();
        prop_assert_eq!(bits.count(), set.len() as u64);
        check_areas(bits.areas(), &set);
    }
}
