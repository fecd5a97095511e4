//! What comes of a finding, with a bug planted in the engine; only in a build with `--cfg qbm_mutants`,
//! as by `cargo xtask mutants`.
#![cfg(qbm_mutants)]

use std::process::Command;

use qbm_core::mutants::{Mutant, plant};
use qbm_sim::rig::{Case, Family, finding, shrink};

/// One sync less in the engine is found, made small, and seen again from the line that was printed.
#[test]
fn a_planted_bug_is_shrunk_to_a_dozen_parts_and_replayed_from_its_line() {
    for mutant in [Mutant::NoSync, Mutant::NoDataFlush, Mutant::NoDirSync, Mutant::NoFileSync] {
        plant(Some(mutant));
        let found = (1..1000).find(|seed| finding(&Case::draw(Family::Plain, *seed)).is_some());
        let seed = found.expect("the rig finds every planted bug");
        let small =
            shrink(Family::Plain, seed).expect("some order of what happens at once shows it");
        println!("{mutant:?}: seed {seed}, {} parts:\n{}", small.parts(), small.case());
        assert!(small.parts() <= 12, "{mutant:?} takes {} parts", small.parts());
        assert_eq!(finding(&small.case()).as_ref(), Some(&small.what));
        plant(None);
        assert_eq!(finding(&small.case()), None, "the engine itself is sound");

        let replay = |planted: &str| {
            let mut program = Command::new(env!("CARGO_BIN_EXE_qbm-sim"));
            program.args(small.arguments()).env("QBM_SEED", seed.to_string());
            program.args(["--plant", planted]).output().expect("it was built")
        };
        let output = replay(&format!("{mutant:?}"));
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && said.contains(&small.what), "{said}");
        let output = replay("none");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
