//! `qbm-sim`: runs cases of the crash rig, in parallel, and says what was done.
#![forbid(unsafe_code)]

mod arguments;
#[cfg(qbm_mutants)]
mod mutants;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arguments::{Campaign, Cases};
use qbm_sim::Harm;
use qbm_sim::rig::{Case, Count, Family, finding, run_case, run_workload, shrink};

fn main() -> ExitCode {
    let campaign = match arguments::parse(std::env::args().skip(1)) {
        Ok(campaign) => campaign,
        Err(what) => {
            eprintln!("qbm-sim: {what}\nusage: qbm-sim {}", arguments::USAGE);
            return ExitCode::FAILURE;
        }
    };
    println!("QBM_SEED={}", campaign.seed);
    #[cfg(qbm_mutants)]
    if campaign.mutants {
        return mutants::run(campaign.seed);
    }
    match &campaign.cases {
        Cases::Only { parts, schedule } => again(&campaign, parts, *schedule),
        _ => run(&campaign),
    }
}

/// Runs a part of one case.
fn again(campaign: &Campaign, parts: &BTreeSet<usize>, schedule: u64) -> ExitCode {
    campaign.plant();
    let case = Case::draw(campaign.family, campaign.seed).only(parts, schedule);
    print!("{case}");
    match finding(&case) {
        Some(what) => {
            println!("{what}");
            ExitCode::FAILURE
        }
        None => {
            println!("0 findings");
            ExitCode::SUCCESS
        }
    }
}

/// Runs all cases, on all processors.
fn run(campaign: &Campaign) -> ExitCode {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let found = AtomicBool::new(false);
    let mut total = Count::default();
    std::thread::scope(|scope| {
        let work = |first| work(campaign, (first, threads), &found);
        let workers: Vec<_> = (0..threads).map(|first| scope.spawn(move || work(first))).collect();
        for worker in workers {
            match worker.join() {
                Ok(count) => total.add(count),
                Err(_) => found.store(true, Ordering::Relaxed),
            }
        }
    });
    if found.into_inner() {
        return ExitCode::FAILURE;
    }
    println!(
        "{} cases, {} crashes, {} crash images, {} restores compared, {} errors injected, \
         {} late operations: 0 findings",
        total.cases, total.crashes, total.images, total.restores, total.errors, total.late
    );
    println!(
        "  {} mirrors, {} streams, {} bitmaps made persistent or so no longer",
        total.mirrors, total.streams, total.sets
    );
    for harm in Harm::ALL {
        println!("  {:<24}{:>10}", format!("{harm:?}"), total.harms.of(harm));
    }
    enough(campaign, &total)
}

/// Whether as much was done as was asked for.
fn enough(campaign: &Campaign, total: &Count) -> ExitCode {
    if total.images < campaign.at_least_images || total.cases < campaign.at_least_cases {
        println!(
            "too few: {} cases and {} crash images were wanted",
            campaign.at_least_cases, campaign.at_least_images
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Runs every `threads`-th case, until enough has been done or something is found.
fn work(campaign: &Campaign, (first, threads): (u64, u64), found: &AtomicBool) -> Count {
    campaign.plant();
    let mut total = Count::default();
    let end = Instant::now() + Duration::from_secs(60 * campaign.minutes);
    let mut index = first;
    while index < campaign.count
        && total.images < campaign.images.div_ceil(threads)
        && Instant::now() < end
        && !found.load(Ordering::Relaxed)
    {
        let number = campaign.seed.wrapping_add(index);
        match campaign.cases {
            Cases::Small => total.add(run_workload(number)),
            _ => match std::panic::catch_unwind(|| run_case(campaign.family, number)) {
                Ok(count) => total.add(count),
                Err(_) if found.swap(true, Ordering::Relaxed) => {}
                Err(_) => report(campaign.family, number),
            },
        }
        index += threads;
    }
    total
}

/// Says how to see again what the case `seed` of `family` finds, as small as it gets.
fn report(family: Family, seed: u64) {
    const AGAIN: &str = "cargo run --release -p qbm-sim --";
    eprintln!("replay: QBM_SEED={seed} {AGAIN} --family {} --cases 1", family.name());
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(small) = shrink(family, seed) {
        eprintln!("{}\nin {} parts of it:\n{}", small.what, small.parts(), small.case());
        eprintln!("replay: QBM_SEED={seed} {AGAIN} {}", small.arguments().join(" "));
    }
}
