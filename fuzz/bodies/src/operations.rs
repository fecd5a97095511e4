//! Any sequence of operations on an image, with errors, kills and power cuts between them, keeps what
//! was promised: the reference model of the crash rig judges.

use qbm_core::image::Persistence;
use qbm_core::job::CopyMode;
use qbm_core::{Id, Persist};
use qbm_sim::rig::{MAX_SIZE, Operation, Request, Step, run_script};
use qbm_sim::{Fault, Grain, Kind, Loss};

use crate::input::Input;

/// The most steps of a case.
const MAX_STEPS: usize = 32;
/// The most power cuts of a case, each of which takes as long as many operations.
const MAX_CUTS: usize = 2;

/// Reads the bytes as steps, and runs them.
///
/// # Panics
///
/// If a promise is broken.
pub fn operations(bytes: &[u8]) {
    let mut input = Input(bytes);
    let seed = input.at_most(u64::from(u16::MAX));
    let mut steps = Vec::new();
    while let Some(step) = step(&mut input).filter(|_| steps.len() < MAX_STEPS) {
        let is_cut = |step: &Step| matches!(step, Step::PowerLoss(_) | Step::Kill | Step::Reopen);
        if !is_cut(&step) || steps.iter().filter(|step| is_cut(step)).count() < MAX_CUTS {
            steps.push(step);
        }
    }
    run_script(steps, seed);
}

fn step(input: &mut Input<'_>) -> Option<Step> {
    let number = |input: &mut Input<'_>| u32::from(input.byte().unwrap_or(0));
    let first = input.byte()?;
    if let Some(operation) = wide(first, input) {
        return Some(Step::Do(operation));
    }
    let operation = match first % 24 {
        0..6 => Operation::Change {
            range: range(input),
            what: [Request::Write, Request::Write, Request::Zeroes, Request::Discard]
                [usize::from(input.byte().unwrap_or(0) % 4)],
            persist: if number(input) % 4 == 0 { Persist::Now } else { Persist::Later },
        },
        6 | 7 => Operation::Flush,
        8 | 9 => Operation::BackUp(format!("point-{}", number(input))),
        10 => Operation::GiveUp(Id(u128::from(number(input)))),
        11 => Operation::Resize(1 + index(input.at_most(MAX_SIZE as u64 - 1))),
        12 => Operation::Rebuild,
        13 => Operation::Add,
        14 => Operation::Remove,
        15 => Operation::Clear,
        16 => Operation::Enable,
        17 => Operation::Disable,
        18 => Operation::Merge,
        19 | 20 => return Some(Step::Fail(fault(input))),
        21 => return Some(Step::PowerLoss(loss(input))),
        22 => return Some(Step::Kill),
        _ => return Some(Step::Reopen),
    };
    Some(Step::Do(operation))
}

/// What came later has first bytes of its own, so that inputs saved before mean what they meant.
fn wide(first: u8, input: &mut Input<'_>) -> Option<Operation> {
    let operation = match first {
        ..240 => return None,
        240..243 => Operation::AddInMemory,
        243..246 => Operation::Set(Persistence::Persistent),
        246..249 => Operation::Set(Persistence::InMemory),
        249 => Operation::OpenAgain,
        250 | 251 => Operation::Stream,
        252.. => Operation::Mirror {
            copy_mode: [CopyMode::Background, CopyMode::WriteBlocking][usize::from(first % 2)],
            moves: input.byte().unwrap_or(0) % 4 == 1,
        },
    };
    Some(operation)
}

/// Mostly granules, whole; sometimes any bytes.
fn range(input: &mut Input<'_>) -> std::ops::Range<usize> {
    let first = input.byte().unwrap_or(0);
    if first >= 128 {
        let range = input.range(MAX_SIZE as u64);
        return index(range.start)..index(range.end);
    }
    let start = usize::from(first % 20) * 512;
    start..start + 512
}

fn fault(input: &mut Input<'_>) -> Fault {
    // No read fails: what is then doubted is for another rig to look at.
    const KINDS: [Kind; 8] = [
        Kind::Write,
        Kind::DurableWrite,
        Kind::Sync,
        Kind::SetLen,
        Kind::Create,
        Kind::Rename,
        Kind::Remove,
        Kind::SyncDirectory,
    ];
    Fault {
        kind: Some(KINDS[usize::from(input.byte().unwrap_or(0)) % KINDS.len()]),
        after: u64::from(input.byte().unwrap_or(0) % 16),
        count: 1 + u64::from(input.byte().unwrap_or(0) % 3),
        error: std::io::ErrorKind::StorageFull,
    }
}

fn loss(input: &mut Input<'_>) -> Loss {
    match input.byte().unwrap_or(0) % 6 {
        0 => Loss::Everything,
        1 => Loss::Nothing,
        2 => Loss::Torn(Grain::Byte),
        3 => Loss::Torn(Grain::Sector),
        4 => Loss::Torn(Grain::Page),
        _ => Loss::Only(input.at_most(u64::from(u32::MAX - 1))),
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("a small disk")
}
