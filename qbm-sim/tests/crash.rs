//! The crash rig, as far as it fits into a test run; `cargo xtask sim` goes on.

use qbm_sim::rig::{Count, run_case, run_workload, workloads};

/// P1 to P4 hold after every crash.
///
/// Method: writers and an operator of bitmaps, backups and sizes work on a simulated disk; at changes
/// of the medium the power is cut, what was not synced is kept, lost or torn as the seed says, and the
/// image is recovered, held against a model, backed up and restored. Three processes of a case crash.
#[test]
fn every_crash_image_recovers_to_what_was_promised() {
    let seed = match std::env::var("QBM_SEED") {
        Ok(text) => text.parse().expect("QBM_SEED is a number"),
        Err(_) => 1,
    };
    let mut total = Count::default();
    for seed in seed..seed + 130 {
        println!("replay: QBM_SEED={seed} cargo test -p qbm-sim --test crash");
        total.add(run_case(seed));
    }
    println!("{total:?}");
    assert!(total.images > 5_000, "too few crash images to mean anything: {total:?}");
    assert!(total.crashes >= 130 * 3, "too few crashes to mean anything: {total:?}");
    assert!(total.errors > 0 && total.late > 0, "no faults were injected: {total:?}");
}

/// The same seed does the same, so that a finding can be seen again.
#[test]
fn a_case_is_the_same_each_time() {
    assert_eq!(run_case(3), run_case(3));
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
