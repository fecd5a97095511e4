//! Bits and pages in memory: nothing is lost, and what came before a mark is seen after it.

use std::sync::Arc;

use super::explore::{Model, join, spawn};
use crate::bits::{Bits, PAGE_BYTES, PageSet};
use crate::mutants::Mutant;
use crate::sync::{AtomicBool, Ordering};

#[test]
fn marks_of_one_word_are_all_kept_and_bring_what_was_before_them() {
    let planted = &[Mutant::LoadThenStore, Mutant::MarkRelaxed];
    Model { preemptions: Some(4), floor: 60_000, planted }.explore(|| {
        let bits = Arc::new(Bits::new(64));
        let setters = [1, 2].map(|bit| {
            let (bits, before) = (Arc::clone(&bits), Arc::new(AtomicBool::new(false)));
            let seen = Arc::clone(&before);
            let thread = spawn(move || {
                before.store(true, Ordering::Relaxed);
                bits.set(bit..bit + 1);
            });
            (bit, seen, thread)
        });
        for (bit, before, _) in &setters {
            let marked = bits.get(*bit);
            assert!(!marked || before.load(Ordering::Relaxed), "bit {bit} came before its time");
        }
        join(setters.map(|(_, _, thread)| thread));
        assert!(bits.contains(1..3), "a mark is lost");
    });
}

#[test]
fn a_page_that_is_taken_brings_the_marks_of_all_who_noted_it() {
    let planted = &[Mutant::InsertIfAbsent];
    Model { preemptions: Some(3), floor: 2_500, planted }.explore(|| {
        // In two words of one page.
        let granules = [0, 70];
        let shared = Arc::new((Bits::new(128), PageSet::new(1)));
        let setters = granules.map(|granule| {
            let shared = Arc::clone(&shared);
            spawn(move || {
                shared.0.set(granule..granule + 1);
                shared.1.insert(0);
            })
        });
        let (bits, pages) = &*shared;
        let (mut taken, mut snapshot) = (Vec::new(), [0; PAGE_BYTES]);
        pages.take(&mut taken);
        if !taken.is_empty() {
            bits.page_bytes(0, &mut snapshot);
        }
        join(setters);
        if pages.is_empty() {
            let written = Bits::new(128);
            written.publish(0, &snapshot);
            assert!(granules.iter().all(|granule| written.get(*granule)), "a mark is forgotten");
        }
    });
}
