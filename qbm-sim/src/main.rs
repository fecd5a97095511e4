//! `qbm-sim`: runs cases of the crash rig, in parallel, and says what was done.
#![forbid(unsafe_code)]

#[cfg(qbm_mutants)]
mod mutants;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use qbm_sim::rig::{Count, run_case, run_workload, workloads};

const USAGE: &str = "[--small LENGTH | --workload NUMBER] [--cases N] [--images N] [--minutes N]";

/// What to run, from the command line.
struct Campaign {
    /// Runs a case by its number.
    run: fn(u64) -> Count,
    /// The number of the first.
    seed: u64,
    cases: u64,
    images: u64,
    minutes: u64,
    #[cfg(qbm_mutants)]
    mutants: bool,
}

fn main() -> ExitCode {
    let campaign = match parse(std::env::args().skip(1)) {
        Ok(campaign) => campaign,
        Err(what) => {
            eprintln!("qbm-sim: {what}\nusage: qbm-sim {USAGE}");
            return ExitCode::FAILURE;
        }
    };
    println!("QBM_SEED={}", campaign.seed);
    #[cfg(qbm_mutants)]
    if campaign.mutants {
        return mutants::run(campaign.seed);
    }
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let workers: Vec<_> = (0..threads)
        .map(|first| {
            let campaign = Campaign { ..campaign };
            std::thread::spawn(move || work(&campaign, first, threads))
        })
        .collect();
    let mut total = Count::default();
    for worker in workers {
        match worker.join() {
            Ok(count) => total.add(count),
            Err(_) => return ExitCode::FAILURE,
        }
    }
    println!(
        "{} cases, {} crash images ({} after kill -9), {} restores compared, {} errors injected, \
         {} late operations: 0 findings",
        total.cases, total.images, total.after_kill, total.restores, total.errors, total.late
    );
    ExitCode::SUCCESS
}

/// Runs every `threads`-th case, until enough has been done.
fn work(campaign: &Campaign, first: u64, threads: u64) -> Count {
    let mut total = Count::default();
    let end = Instant::now() + Duration::from_secs(60 * campaign.minutes);
    let mut index = first;
    while index < campaign.cases
        && total.images < campaign.images.div_ceil(threads)
        && Instant::now() < end
    {
        total.add((campaign.run)(campaign.seed.wrapping_add(index)));
        index += threads;
    }
    total
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Campaign, String> {
    let seed = match std::env::var("QBM_SEED") {
        Ok(text) => text.parse().map_err(|_| format!("QBM_SEED is not a number: {text}"))?,
        Err(_) => fastrand::u64(..1 << 40),
    };
    let mut campaign = Campaign {
        run: run_case,
        seed,
        cases: u64::MAX,
        images: u64::MAX,
        minutes: 1_000_000,
        #[cfg(qbm_mutants)]
        mutants: false,
    };
    while let Some(option) = arguments.next() {
        #[cfg(qbm_mutants)]
        if option == "--mutants" {
            campaign.mutants = true;
            continue;
        }
        let value = arguments.next().ok_or(format!("{option} needs a number"))?;
        let value = value.parse().map_err(|_| format!("not a number: {value}"))?;
        match option.as_str() {
            "--cases" => campaign.cases = value,
            "--images" => campaign.images = value,
            "--minutes" => campaign.minutes = value,
            "--small" => {
                let length = u32::try_from(value).ok().filter(|length| (1..=5).contains(length));
                let length = length.ok_or(format!("not a length of 1 to 5: {value}"))?;
                campaign = Campaign { run: run_workload, seed: 0, ..campaign };
                campaign.cases = workloads(length);
            }
            "--workload" => {
                campaign = Campaign { run: run_workload, seed: value, cases: 1, ..campaign };
            }
            _ => return Err(format!("unknown option {option}")),
        }
    }
    Ok(campaign)
}
