//! Making a case that finds something smaller: parts are left out for as long as what is left finds
//! something still.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Case, Family};

/// In how many orders of what happens at once a smaller case is tried.
const SCHEDULES: u64 = 12;

/// A case that finds something, and what.
#[derive(Clone, Debug)]
pub struct Finding {
    family: Family,
    seed: u64,
    parts: BTreeSet<usize>,
    schedule: u64,
    /// Which promise is broken.
    pub what: String,
}

impl Finding {
    /// How many processes, errors, drops and operations it takes.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// The case.
    pub fn case(&self) -> Case {
        Case::draw(self.family, self.seed).only(&self.parts, self.schedule)
    }

    /// The arguments that run it again.
    pub fn arguments(&self) -> [String; 6] {
        let parts: Vec<String> = self.parts.iter().map(usize::to_string).collect();
        let (family, schedule) = (self.family.name().to_owned(), self.schedule.to_string());
        let option = str::to_owned;
        [
            option("--family"),
            family,
            option("--only"),
            parts.join(","),
            option("--schedule"),
            schedule,
        ]
    }
}

/// The first line of what a case finds; `None` if it finds nothing.
pub fn finding(case: &Case) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(|| case.run())).err()?;
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
    Some(text.lines().next().unwrap_or_default().to_owned())
}

/// A smaller case than that of `seed` in `family`, which finds something; `None` if it was the order of what
/// happened at once, and no other one was met that does.
///
/// Method: ever smaller runs of parts are left out, for as long as the rest finds something in one of a
/// few orders of what happens at once. A part of one process says nothing about another, so the
/// processes come first, by the numbers of the parts.
pub fn shrink(family: Family, seed: u64) -> Option<Finding> {
    let all: BTreeSet<usize> = (0..Case::draw(family, seed).parts()).collect();
    let mut smallest = still_finds((family, seed), all)?;
    let mut length = smallest.parts.len().div_ceil(2);
    loop {
        let mut smaller = false;
        let mut from = 0;
        while from < smallest.parts.len() {
            let mut fewer = smallest.parts.clone();
            smallest.parts.iter().skip(from).take(length).for_each(|part| {
                fewer.remove(part);
            });
            match still_finds((family, seed), fewer) {
                Some(found) => {
                    smallest = found;
                    smaller = true;
                }
                None => from += length,
            }
        }
        match (length, smaller) {
            (1, false) => return Some(smallest),
            (1, true) => {}
            _ => length = length.div_ceil(2),
        }
    }
}

fn still_finds((family, seed): (Family, u64), parts: BTreeSet<usize>) -> Option<Finding> {
    let found = (0..SCHEDULES).find_map(|schedule| {
        let what = finding(&Case::draw(family, seed).only(&parts, schedule))?;
        Some((schedule, what))
    });
    found.map(|(schedule, what)| Finding { family, seed, parts, schedule, what })
}
