//! Plants each bug of the engine in turn and runs cases until one finds it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use qbm_core::mutants::{Mutant, plant};
use qbm_sim::rig::run_case;

/// The most cases that a planted bug may stay hidden for.
const MOST_CASES: u64 = 20_000;

/// Prints a table of the planted bugs, and fails unless each was found.
pub(crate) fn run(seed: u64) -> ExitCode {
    // What a case that finds something says is not wanted here.
    std::panic::set_hook(Box::new(|_| {}));
    let mut survivors = 0;
    println!("{:<24} {:>7}  finding", "planted bug", "cases");
    for mutant in Mutant::ALL {
        let (cases, finding) = hunt(*mutant, seed);
        survivors += u32::from(finding.is_none());
        let finding = finding.unwrap_or_else(|| "SURVIVES".to_owned());
        println!("{:<24} {cases:>7}  {finding}", format!("{mutant:?}"));
    }
    let killed = Mutant::ALL.len() - survivors as usize;
    println!("{killed} of {} planted bugs found", Mutant::ALL.len());
    if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How many cases it took to find `mutant`, and what they found.
fn hunt(mutant: Mutant, seed: u64) -> (u64, Option<String>) {
    for case in 0..MOST_CASES {
        plant(Some(mutant));
        let outcome = catch_unwind(AssertUnwindSafe(|| run_case(seed.wrapping_add(case))));
        plant(None);
        if let Err(panic) = outcome {
            // A finding without the bug is one of the engine itself, and hides what the bug does.
            if catch_unwind(AssertUnwindSafe(|| run_case(seed.wrapping_add(case)))).is_err() {
                return (case + 1, None);
            }
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let text = text.unwrap_or_default();
            return (case + 1, Some(text.lines().next().unwrap_or_default().to_owned()));
        }
    }
    (MOST_CASES, None)
}
