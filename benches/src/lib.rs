//! What the benches share: storage that counts what is asked of it, and medians.
#![forbid(unsafe_code)]

pub mod counted;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// A disk of `size` bytes with a mebibyte of data every `step` bytes, none of which is like another.
///
/// # Errors
///
/// If it cannot be written.
pub fn make_disk(path: &Path, size: u64, step: u64) -> anyhow::Result<File> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    file.set_len(size)?;
    let mut piece = vec![0_u8; 1 << 20];
    let mut state = 1_u64;
    let mut offset = 0;
    while offset < size {
        for byte in piece.chunks_exact_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            byte.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all_at(&piece, offset)?;
        offset += step;
    }
    file.sync_all()?;
    Ok(file)
}

/// How long `work` takes.
///
/// # Errors
///
/// Those of `work`.
pub fn time(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed())
}

/// Both sides in turn, `rounds` times after one to warm up: the medians, and that of the ratios. Many
/// short rounds are less troubled by whatever else the machine does than few long ones, and the ratio
/// of two that follow each other less than that of two medians. `QBM_BENCH_ROUNDS` in the environment
/// bounds them, for where the answers are wanted and not the times.
///
/// # Errors
///
/// Those of either side.
pub fn compare(
    rounds: usize,
    mut ours: impl FnMut() -> anyhow::Result<Duration>,
    mut theirs: impl FnMut() -> anyhow::Result<Duration>,
) -> anyhow::Result<Comparison> {
    let most = std::env::var("QBM_BENCH_ROUNDS").ok();
    let rounds = most.map(|most| most.parse::<usize>()).transpose()?.map_or(rounds, |most| {
        // A median is of something.
        rounds.min(most.max(1))
    });
    ours()?;
    theirs()?;
    let (mut times, mut ratios) = ((Vec::new(), Vec::new()), Vec::new());
    for _ in 0..rounds {
        let (ours, theirs) = (ours()?, theirs()?);
        ratios.push(ours.as_secs_f64() / theirs.as_secs_f64());
        times.0.push(ours);
        times.1.push(theirs);
    }
    ratios.sort_by(f64::total_cmp);
    let ratio = ratios[ratios.len() / 2];
    Ok(Comparison { ours: Spread::of(times.0), theirs: Spread::of(times.1), ratio })
}

/// What two sides took.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    /// Ours.
    pub ours: Spread,
    /// The rival's.
    pub theirs: Spread,
    /// How much longer ours takes: 1.3 is 30 % longer.
    pub ratio: f64,
}

/// A median and what lies around it.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// The median.
    pub median: Duration,
    /// The fastest.
    pub least: Duration,
    /// The slowest.
    pub most: Duration,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        let (least, most) = (times[0], times[times.len() - 1]);
        Self { median: times[times.len() / 2], least, most }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        write!(f, "{:.2} ms ({:.2} to {:.2})", ms(self.median), ms(self.least), ms(self.most))
    }
}
