//! Pages as bytes, against a serialiser that goes bit by bit.

use proptest::prelude::*;

use super::super::{Bits, PAGE_BITS, PAGE_BYTES, TailBits};
use super::{bits_where, file_of, index};

/// The file of a bitmap of `len` bits, by the definition of the format.
fn naive_file(len: u64, set: impl Fn(u64) -> bool) -> Vec<u8> {
    let mut file = vec![0; index(len.div_ceil(8))];
    for bit in (0..len).filter(|bit| set(*bit)) {
        file[index(bit / 8)] |= 1 << (bit % 8);
    }
    file
}

fn load(len: u64, file: &[u8]) -> Bits {
    let bits = Bits::new(len);
    for (page, bytes) in file.chunks(PAGE_BYTES).enumerate() {
        assert_eq!(bits.or_page_bytes(page, bytes), TailBits::Zero);
    }
    bits
}

proptest! {
    #[test]
    fn a_file_has_each_bit_where_the_format_says(
        len in prop_oneof![0..200_u64, PAGE_BITS - 2..PAGE_BITS + 3, 0..3 * PAGE_BITS],
        step in 1..100_u64,
    ) {
        let set = |bit: u64| bit.is_multiple_of(step) || bit % 7 == 3;
        let file = naive_file(len, set);
        prop_assert_eq!(&file_of(&bits_where(len, set)), &file);
        prop_assert_eq!(file_of(&load(len, &file)), file);
    }
}

#[test]
fn each_bit_past_the_length_is_dropped_and_reported() {
    for len in [1, 63, 64, 65, 100, PAGE_BITS - 1, PAGE_BITS + 9] {
        let last = Bits::new(len).page_count() - 1;
        let inside = len - last as u64 * PAGE_BITS;
        for bit in (0..200).chain(PAGE_BITS - 2..PAGE_BITS) {
            let bits = Bits::new(len);
            let bytes = naive_file(PAGE_BITS, |at| at == bit);
            let tail = bits.or_page_bytes(last, &bytes);
            assert_eq!(tail == TailBits::Dropped, bit >= inside, "bit {bit}, length {len}");
            assert_eq!(bits.count(), u64::from(bit < inside));
        }
    }
}

#[test]
fn setting_all_leaves_the_tail_zero() {
    let bits = Bits::new(PAGE_BITS + 11);
    bits.set_all();
    let file = file_of(&bits);
    assert_eq!(&file[PAGE_BYTES..], [0xff, 0x07]);
}

#[test]
#[should_panic(expected = "a snapshot of another bitmap")]
fn publishing_a_bit_past_the_length_is_refused() {
    Bits::new(3).publish(0, &[0x08]);
}

#[test]
fn loading_zeroes_allocates_nothing() {
    let bits = Bits::new(PAGE_BITS);
    assert_eq!(bits.or_page_bytes(0, &[0; PAGE_BYTES]), TailBits::Zero);
    assert!(bits.pages[0].get().is_none() && bits.page_is_empty(0));
}

#[test]
fn a_page_is_empty_until_a_bit_is_set_and_after_all_are_cleared() {
    let mut bits = Bits::new(2 * PAGE_BITS);
    bits.set(PAGE_BITS + 5..PAGE_BITS + 6);
    assert!(bits.page_is_empty(0) && !bits.page_is_empty(1));
    bits.clear(PAGE_BITS..PAGE_BITS + 6);
    assert!(bits.page_is_empty(1));
}

#[test]
#[should_panic(expected = "page 1 of 1")]
fn a_page_past_the_last_is_refused() {
    Bits::new(3).page_len(1);
}
