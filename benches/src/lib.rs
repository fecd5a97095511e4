//! What the benches share: storage that counts what is asked of it, and medians.
#![forbid(unsafe_code)]

pub mod counted;

use std::time::{Duration, Instant};

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

/// Both sides in turn, `rounds` times after one to warm up: the medians, and their ratio. Many short
/// rounds are less troubled by whatever else the machine does than few long ones.
///
/// # Errors
///
/// Those of either side.
pub fn compare(
    rounds: usize,
    mut ours: impl FnMut() -> anyhow::Result<Duration>,
    mut theirs: impl FnMut() -> anyhow::Result<Duration>,
) -> anyhow::Result<Comparison> {
    ours()?;
    theirs()?;
    let mut times = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        times.0.push(ours()?);
        times.1.push(theirs()?);
    }
    Ok(Comparison { ours: Spread::of(times.0), theirs: Spread::of(times.1) })
}

/// What two sides took.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    /// Ours.
    pub ours: Spread,
    /// The rival's.
    pub theirs: Spread,
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

impl Comparison {
    /// How much longer ours takes: 1.3 is 30 % longer.
    pub fn ratio(&self) -> f64 {
        self.ours.median.as_secs_f64() / self.theirs.median.as_secs_f64()
    }
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
        write!(f, "{:.1} ms ({:.1} to {:.1})", ms(self.median), ms(self.least), ms(self.most))
    }
}
