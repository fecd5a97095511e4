//! The crash rig, as far as it fits into a test run; `cargo xtask sim` goes on.

use qbm_sim::rig::{Count, Family, run_case, run_workload, workloads};

/// P1 to P4 hold after every crash.
///
/// Method: writers and an operator of bitmaps, backups and sizes work on a simulated disk; at changes
/// of the medium the power is cut, what was not synced is kept, lost or torn as the seed says, and the
/// image is recovered, held against a model, backed up and restored. Three processes of a case crash.
#[test]
fn every_crash_image_recovers_to_what_was_promised() {
    let total = run_cases(Family::Plain, 130);
    assert!(total.images > 5_000, "too few crash images to mean anything: {total:?}");
    assert!(total.crashes >= 130 * 3, "too few crashes to mean anything: {total:?}");
    assert!(total.errors > 0 && total.late > 0, "no faults were injected: {total:?}");
}

/// So they do beside bitmaps that come and go in memory, mirrors and streams.
///
/// Method: the same, with more to do for the operator, and jobs as a task of their own. What a mirror has
/// left is the disk of an instant, and stays; where the disk has moved it is the same byte for byte.
#[test]
fn so_it_does_beside_jobs_and_bitmaps_in_memory() {
    let total = run_cases(Family::Wide, 60);
    assert!(total.images > 3_000, "too few crash images to mean anything: {total:?}");
    assert!(total.mirrors > 40 && total.streams > 5, "too few jobs: {total:?}");
    assert!(total.sets > 40, "too few bitmaps have come or gone: {total:?}");
}

/// Runs so many cases of `family`.
fn run_cases(family: Family, cases: u64) -> Count {
    let seed = match std::env::var("QBM_SEED") {
        Ok(text) => text.parse().expect("QBM_SEED is a number"),
        Err(_) => 1,
    };
    let mut total = Count::default();
    for seed in seed..seed + cases {
        println!("replay: QBM_SEED={seed} cargo test -p qbm-sim --test crash");
        total.add(run_case(family, seed));
    }
    println!("{total:?}");
    total
}

/// The same seed does the same, so that a finding can be seen again.
#[test]
fn a_case_is_the_same_each_time() {
    for family in Family::ALL {
        assert_eq!(run_case(family, 3), run_case(family, 3));
    }
}

/// P1 to P4 hold on a small scale whatever happens: every workload of up to two operations, or
/// one on an overlay, the power cut at each step, and each part kept of what was not synced.
/// `cargo xtask test` takes one more.
#[test]
fn every_small_workload_recovers_from_every_cut() {
    let mut total = Count::default();
    for number in 0..workloads(2) {
        total.add(run_workload(number));
    }
    assert!(total.images > 5_000, "too few crash images to mean anything: {total:?}");
}
