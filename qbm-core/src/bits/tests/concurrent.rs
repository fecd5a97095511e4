//! Many threads at once: no mark and no page is lost.

use std::hint;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::super::{Bits, PAGE_BITS, PAGE_BYTES, PageSet};

const THREADS: u64 = 4;

/// Keeps two threads in step, so that they meet in the few nanoseconds where a lost update lies.
#[derive(Default)]
struct Pace([AtomicU64; 2]);

impl Pace {
    /// Returns once both threads have come to `step`.
    fn meet(&self, own: usize, step: u64) {
        self.0[own].store(step, Ordering::Release);
        let mut spins = 0;
        while self.0[1 - own].load(Ordering::Acquire) < step {
            spins += 1;
            // Where there is one processor for both, spinning on only keeps the other away.
            if spins % 1000 == 0 { thread::yield_now() } else { hint::spin_loop() }
        }
    }
}

#[test]
fn bits_of_one_word_set_at_the_same_moment_are_all_set() {
    let bits = Bits::new(2 * PAGE_BITS);
    let pace = Pace::default();
    let set_half = |own: usize| {
        for step in 0..PAGE_BITS {
            pace.meet(own, step);
            let bit = 2 * step + own as u64;
            bits.set(bit..bit + 1);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| set_half(0));
        set_half(1);
    });
    assert_eq!(bits.next_clear(0), None);
}

#[test]
fn a_page_inserted_at_the_moment_of_a_take_is_taken_then_or_next() {
    let set = PageSet::new(64);
    let pace = Pace::default();
    let rounds = 2000;
    let mut taken = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..rounds {
                pace.meet(0, 2 * round);
                (0..64).for_each(|page| set.insert(page));
                pace.meet(0, 2 * round + 1);
            }
        });
        for round in 0..rounds {
            pace.meet(1, 2 * round);
            (0..20).for_each(|_| set.take(&mut taken));
            pace.meet(1, 2 * round + 1);
            set.take(&mut taken);
        }
    });
    for page in 0..64 {
        let times = taken.iter().filter(|taken| **taken == page).count() as u64;
        assert_eq!(times, rounds, "page {page}");
    }
}

#[test]
fn setters_of_the_same_words_and_pages_lose_nothing() {
    let bits = Bits::new(3 * PAGE_BITS + 77);
    let start = Barrier::new(4);
    thread::scope(|scope| {
        for own in 0..THREADS {
            let (bits, start) = (&bits, &start);
            scope.spawn(move || {
                start.wait();
                for bit in (own..bits.len()).step_by(4) {
                    bits.set(bit..bit + 1);
                    assert!(bits.get(bit));
                }
            });
        }
    });
    assert_eq!(bits.next_clear(0), None);
    assert_eq!(bits.count(), bits.len());
}

#[test]
fn united_pages_and_set_bits_lose_nothing() {
    for _ in 0..50 {
        let bits = Bits::new(PAGE_BITS);
        let start = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                bits.publish(0, &[0x55; PAGE_BYTES]);
            });
            start.wait();
            (0..PAGE_BITS / 2).for_each(|pair| bits.set(2 * pair + 1..2 * pair + 2));
        });
        assert_eq!(bits.count(), PAGE_BITS);
    }
}

/// Writers mark and then insert the page; one committer takes the pages and then publishes
/// snapshots of them. After a last round nothing may be missing: it would never become durable.
#[test]
fn every_mark_is_published_by_the_round_that_takes_its_page() {
    let wanted = Bits::new(5 * PAGE_BITS);
    let durable = Bits::new(wanted.len());
    let pending = PageSet::new(wanted.page_count());
    let commit = || {
        let mut pages = Vec::new();
        pending.take(&mut pages);
        for page in pages {
            let mut snapshot = [0; PAGE_BYTES];
            wanted.page_bytes(page, &mut snapshot);
            durable.publish(page, &snapshot);
        }
    };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let committer = scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                commit();
            }
        });
        let writers: Vec<_> = (0..THREADS)
            .map(|own| {
                let (wanted, pending) = (&wanted, &pending);
                scope.spawn(move || {
                    for bit in (own..wanted.len()).step_by(4) {
                        // A stride that changes the page at every step.
                        let bit = bit * 32_771 % wanted.len();
                        wanted.set(bit..bit + 1);
                        Bits::pages_of(bit..bit + 1).for_each(|page| pending.insert(page));
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Release);
        committer.join().unwrap();
    });
    commit();
    assert!(pending.is_empty());
    assert_eq!(durable.next_clear(0), None);
}

#[test]
fn a_taken_page_is_gone_until_it_is_put_back() {
    let set = PageSet::new(130);
    let pages = [0, 63, 64, 129];
    assert!(set.is_empty());
    pages.iter().rev().for_each(|page| set.insert(*page));
    set.insert(63);
    let mut taken = vec![7];
    set.take(&mut taken);
    assert_eq!(taken, [7, 0, 63, 64, 129], "appended, ascending, each once");
    assert!(set.is_empty());
    set.restore(&pages[2..]);
    taken.clear();
    set.take(&mut taken);
    assert_eq!(taken, [64, 129]);
}
