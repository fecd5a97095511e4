//! What to run, from the command line.

use std::collections::BTreeSet;
use std::str::FromStr;

use qbm_sim::rig::{Family, workloads};

pub(crate) const USAGE: &str = "[--small LENGTH | --workload NUMBER | --only PART,.. --schedule N] \
     [--family plain|wide] [--cases N] [--images N] [--minutes N] [--at-least-cases N] [--at-least-images N]";

/// Which cases there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cases {
    Drawn,
    Small,
    /// Some parts of one drawn case, in one order of what happens at once.
    Only {
        parts: BTreeSet<usize>,
        schedule: u64,
    },
}

/// What to run, and how much of it.
#[derive(Clone, Debug)]
pub(crate) struct Campaign {
    pub(crate) cases: Cases,
    /// Of what they are drawn.
    pub(crate) family: Family,
    /// The number of the first.
    pub(crate) seed: u64,
    /// How many.
    pub(crate) count: u64,
    pub(crate) images: u64,
    pub(crate) minutes: u64,
    /// It fails if less was done within its time.
    pub(crate) at_least_cases: u64,
    pub(crate) at_least_images: u64,
    #[cfg(qbm_mutants)]
    pub(crate) mutants: bool,
    #[cfg(qbm_mutants)]
    planted: Option<qbm_core::mutants::Mutant>,
}

impl Campaign {
    /// Plants the bug that was asked for, for this thread.
    pub(crate) fn plant(&self) {
        #[cfg(qbm_mutants)]
        qbm_core::mutants::plant(self.planted);
    }

    fn of_seed(seed: u64) -> Self {
        Self {
            cases: Cases::Drawn,
            family: Family::Plain,
            seed,
            count: u64::MAX,
            images: u64::MAX,
            minutes: 1_000_000,
            at_least_cases: 0,
            at_least_images: 0,
            #[cfg(qbm_mutants)]
            mutants: false,
            #[cfg(qbm_mutants)]
            planted: None,
        }
    }

    fn set(&mut self, option: &str, value: &str) -> Result<(), String> {
        match option {
            "--cases" => self.count = number(value)?,
            "--images" => self.images = number(value)?,
            "--minutes" => self.minutes = number(value)?,
            "--at-least-cases" => self.at_least_cases = number(value)?,
            "--at-least-images" => self.at_least_images = number(value)?,
            "--small" => {
                let length = number(value)?;
                if !(1..=5).contains(&length) {
                    return Err(format!("not a length of 1 to 5: {value}"));
                }
                (self.cases, self.seed, self.count) = (Cases::Small, 0, workloads(length));
            }
            "--workload" => (self.cases, self.seed, self.count) = (Cases::Small, number(value)?, 1),
            "--family" => {
                let family = Family::ALL.into_iter().find(|family| family.name() == value);
                self.family = family.ok_or_else(|| format!("no family of cases: {value}"))?;
            }
            "--only" => {
                let parts = value.split(',').map(number).collect::<Result<_, _>>()?;
                self.cases = Cases::Only { parts, schedule: 0 };
            }
            "--schedule" => match &mut self.cases {
                Cases::Only { schedule, .. } => *schedule = number(value)?,
                _ => return Err("--schedule comes after --only".to_owned()),
            },
            #[cfg(qbm_mutants)]
            "--plant" => {
                use qbm_core::mutants::Mutant;
                let all = Mutant::ALL.iter().chain(Mutant::ALLOCATION).chain(Mutant::WIDE);
                self.planted = all.copied().find(|mutant| format!("{mutant:?}") == value);
            }
            _ => return Err(format!("unknown option {option}")),
        }
        Ok(())
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("not a number: {text}"))
}

pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Campaign, String> {
    let seed = match std::env::var("QBM_SEED") {
        Ok(text) => text.parse().map_err(|_| format!("QBM_SEED is not a number: {text}"))?,
        Err(_) => fastrand::u64(..1 << 40),
    };
    let mut campaign = Campaign::of_seed(seed);
    while let Some(option) = arguments.next() {
        #[cfg(qbm_mutants)]
        if option == "--mutants" {
            campaign.mutants = true;
            continue;
        }
        let value = arguments.next().ok_or(format!("{option} needs a value"))?;
        campaign.set(&option, &value)?;
    }
    Ok(campaign)
}
