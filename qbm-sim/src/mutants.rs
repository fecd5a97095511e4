//! Plants each bug of the engine in turn and runs cases until one finds it.

use std::num::NonZero;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use qbm_core::mutants::{Mutant, plant};
use qbm_sim::rig::{Case, Family, Subject, finding};

/// The most cases that a planted bug may stay hidden for.
const MOST_CASES: u64 = 50_000;

/// Cases that have found bugs which few cases find, to be tried first. One that no longer does, since
/// the rig has changed, only costs time.
const WITNESSES: &[(Mutant, u64)] = &[
    (Mutant::KillTrustData, 2913),
    (Mutant::NoCopyFirst, 1974),
    (Mutant::TicketOnDrop, 1597),
    (Mutant::RebuildUnrecorded, 102_647_015_050),
    (Mutant::LastRoundsSkipped, 1471),
];

/// Prints a table of the planted bugs, and fails unless each was found.
pub(crate) fn run(seed: u64) -> ExitCode {
    // What a case that finds something says is not wanted here.
    std::panic::set_hook(Box::new(|_| {}));
    println!("{:<24} {:>7}  finding", "planted bug", "cases");
    let flat: &'static [Subject] = &[Subject::Flat];
    let overlays: &'static [Subject] = &[Subject::OverShort, Subject::OverLong];
    let of = |mutants: &'static [Mutant], family: Family, subjects: &'static [Subject]| {
        mutants.iter().map(move |mutant| (*mutant, family, subjects))
    };
    let all = of(Mutant::ALL, Family::Plain, flat);
    let all = all.chain(of(Mutant::ALLOCATION, Family::Plain, overlays));
    let all: Vec<_> = all.chain(of(Mutant::WIDE, Family::Wide, &Subject::ALL)).collect();
    let next = AtomicUsize::new(0);
    let survivors = AtomicUsize::new(0);
    let work = || {
        while let Some((mutant, family, subjects)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (cases, finding) = hunt(*mutant, *family, (subjects, seed));
            survivors.fetch_add(usize::from(finding.is_none()), Ordering::Relaxed);
            let finding = finding.unwrap_or_else(|| "SURVIVES".to_owned());
            println!("{:<24} {cases:>7}  {finding}", format!("{mutant:?}"));
        }
    };
    // A bug is planted for one thread, so each can hunt its own.
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(work);
        }
    });
    let survivors = survivors.into_inner();
    println!("{} of {} planted bugs found", all.len() - survivors, all.len());
    if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How many cases of `family` and `subjects` it took to find `mutant`, and what they found.
fn hunt(
    mutant: Mutant,
    family: Family,
    (subjects, seed): (&[Subject], u64),
) -> (u64, Option<String>) {
    let witnesses = WITNESSES.iter().filter(|(of, _)| *of == mutant).map(|(_, case)| *case);
    let fresh = (0..).map(|case| seed.wrapping_add(case));
    let fresh = fresh.filter(|case| subjects.contains(&Subject::of_case(*case)));
    for (count, case) in (1..=MOST_CASES).zip(witnesses.chain(fresh)) {
        plant(Some(mutant));
        let found = finding(&Case::draw(family, case));
        plant(None);
        if let Some(what) = found {
            // A finding without the bug is one of the engine itself, and hides what the bug does.
            let by_the_bug = finding(&Case::draw(family, case)).is_none();
            return (count, by_the_bug.then(|| format!("{what} (case {case})")));
        }
    }
    (MOST_CASES, None)
}
