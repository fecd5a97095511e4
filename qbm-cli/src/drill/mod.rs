//! `qbm drill`: proves on the user's own disk that no `kill -9` loses a mark.
//!
//! A child process ([`writer`]) writes through the engine and is killed at a random moment. Then
//! the image is opened again and [judged](judge): every change since the last backup must be
//! marked, what was flushed must be there, and the next backup must restore to the disk as it is.

pub mod judge;
pub mod plan;
pub mod writer;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use fastrand::Rng;
use indicatif::ProgressBar;
use serde_json::json;

use self::judge::Tally;
use self::plan::Life;
use crate::aio::Aio;
use crate::output::{self, Output};
use crate::size;

/// The longest that a writer lives, in milliseconds.
const LONGEST_LIFE: u64 = 120;

/// Prove on this machine that no kill loses a mark
///
/// A process writes random patterns through an image and is killed, again and again. After each kill
/// every changed granule must be marked, and a backup must restore to the disk byte for byte.
/// Exit status: 0 nothing was lost, 1 something was.
#[derive(Args, Debug)]
pub struct DrillArgs {
    /// Where to make the image, in a directory of its own that is removed again
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// How often the writer is killed
    #[arg(long, default_value_t = 200)]
    kills: u32,
    /// What the random choices follow [default: a new one each time]
    #[arg(long)]
    seed: Option<u64>,
    /// The size of the disk
    #[arg(long, default_value = "64M", value_parser = size::parse)]
    size: u64,
    /// Write to an overlay over another image
    #[arg(long)]
    overlay: bool,
    /// How the writer moves its bytes
    #[arg(long, value_enum, default_value = "threads")]
    aio: Aio,
    /// Keep the directory
    #[arg(long)]
    keep: bool,
    /// How to print it
    #[arg(long, value_enum, default_value = "human")]
    output: Output,
}

/// What is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// An image of its own.
    Flat,
    /// An image over another one, which has the first half of the disk.
    Overlay,
}

/// Where a drill takes place: an image, its backups, and what is known of both.
#[derive(Debug)]
pub struct Site {
    directory: PathBuf,
    size: u64,
    seed: u64,
    lives: u32,
    judge: judge::Judge,
}

/// A writer at work.
#[derive(Debug)]
pub struct Writer {
    life: Life,
    child: Mortal,
    /// What it has said so far.
    said: Arc<Mutex<Vec<String>>>,
    /// Ends with the writer.
    listener: JoinHandle<()>,
}

/// A process that does not outlive this, whatever goes wrong around it.
#[derive(Debug)]
struct Mortal(Child);

impl Mortal {
    fn kill(&mut self) -> std::io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(drop)
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        // It is dead already, or there is nobody left to tell.
        let _killed = self.kill();
    }
}

/// What a dead writer left to be judged.
#[derive(Debug)]
pub struct Testament {
    life: Life,
    /// What it had said.
    lines: Vec<String>,
}

/// Runs the command.
///
/// # Errors
///
/// If the drill itself could not be done. What it finds is its exit status.
pub fn run(args: &DrillArgs) -> anyhow::Result<ExitCode> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let directory = args.dir.join(format!("qbm-drill-{}", std::process::id()));
    std::fs::create_dir(&directory).with_context(|| directory.display().to_string())?;
    let drilled = drill(args, &directory, seed);
    if args.keep {
        eprintln!("kept: {}", directory.display());
    } else {
        std::fs::remove_dir_all(&directory).with_context(|| directory.display().to_string())?;
    }
    let tally = drilled.with_context(|| format!("seed {seed}"))?;
    print(args, &tally, seed);
    Ok(if tally.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn drill(args: &DrillArgs, directory: &Path, seed: u64) -> anyhow::Result<Tally> {
    let subject = if args.overlay { Subject::Overlay } else { Subject::Flat };
    let mut site = Site::prepare(directory, subject, args.size, seed)?;
    let mut random = Rng::with_seed(seed);
    // Hidden where standard error is not a terminal.
    let bar = ProgressBar::new(args.kills.into());
    for _ in 0..args.kills {
        let writer = site.spawn(Command::new(std::env::current_exe()?), args.aio)?;
        std::thread::sleep(Duration::from_millis(random.u64(..LONGEST_LIFE)));
        let testament = writer.kill()?;
        site.judge(&testament)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(site.tally())
}

impl Site {
    /// Makes an image of `size` bytes in `directory`, and a full backup of it.
    ///
    /// # Errors
    ///
    /// If the directory cannot be written, or the disk would be too small to mean anything.
    pub fn prepare(
        directory: &Path,
        subject: Subject,
        size: u64,
        seed: u64,
    ) -> anyhow::Result<Self> {
        if size < 1 << 20 {
            bail!("the disk of a drill has at least 1 MiB");
        }
        let directory =
            directory.canonicalize().with_context(|| directory.display().to_string())?;
        let judge = judge::Judge::prepare(&directory, size, subject)?;
        Ok(Self { directory, size, seed, lives: 0, judge })
    }

    /// Starts a writer with `program`, which is `qbm`, and which moves its bytes by `aio`.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn spawn(&mut self, mut program: Command, aio: Aio) -> anyhow::Result<Writer> {
        self.lives += 1;
        let seed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(self.lives.into());
        let life = Life { number: self.lives, seed, size: self.size };
        let mut child = program
            .arg("drill-writer")
            .arg(&self.directory)
            .args([life.number.to_string(), life.seed.to_string()])
            .args(["--aio", aio.name()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the writer")?;
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        // Read as it comes, so that the writer never waits for us.
        let said = Arc::new(Mutex::new(Vec::new()));
        let listener = std::thread::spawn({
            let said = Arc::clone(&said);
            move || output.lines().map_while(Result::ok).for_each(|line| lock(&said).push(line))
        });
        Ok(Writer { life, child: Mortal(child), said, listener })
    }

    /// Holds what is on the medium against what `testament` says.
    ///
    /// # Errors
    ///
    /// If the image cannot be opened or backed up: that is a finding too.
    pub fn judge(&mut self, testament: &Testament) -> anyhow::Result<()> {
        self.judge.judge(testament.life, &testament.lines)
    }

    /// How many writers have written here.
    pub fn lives(&self) -> u32 {
        self.lives
    }

    /// What was found so far.
    pub fn tally(&self) -> Tally {
        self.judge.tally()
    }
}

impl Writer {
    /// Kills it where it is.
    ///
    /// # Errors
    ///
    /// If it had ended by itself, which it does only when something failed.
    pub fn kill(mut self) -> anyhow::Result<Testament> {
        let ended = self.child.0.try_wait()?;
        let testament = self.bury(usize::MAX)?;
        if let Some(status) = ended {
            bail!("the writer ended by itself ({status}): {:?}", testament.lines.last());
        }
        Ok(testament)
    }

    /// Takes the medium away from it with `cut`, then kills it.
    ///
    /// Its testament is what it had said before the cut began. A flush that ends while a file
    /// system is being shut down proves nothing: ext4 may then say yes to a sync whose journal
    /// entries it drops.
    ///
    /// # Errors
    ///
    /// If it cannot be killed.
    pub fn cut_off(self, cut: impl FnOnce()) -> anyhow::Result<Testament> {
        let before = lock(&self.said).len();
        cut();
        self.bury(before)
    }

    /// Kills it; the first `count` lines that it said count.
    fn bury(mut self, count: usize) -> anyhow::Result<Testament> {
        self.child.kill()?;
        self.listener.join().expect("a listener hears all");
        let mut lines = std::mem::take(&mut *lock(&self.said));
        lines.truncate(count);
        Ok(Testament { life: self.life, lines })
    }
}

fn lock<T>(said: &Mutex<T>) -> MutexGuard<'_, T> {
    said.lock().expect("whoever holds it cannot panic")
}

fn print(args: &DrillArgs, tally: &Tally, seed: u64) {
    if args.output == Output::Json {
        return output::print_json(&json!({
            "seed": seed,
            "kills": tally.judged,
            "writes": tally.writes,
            "granules-changed": tally.changed,
            "marks-kept": tally.kept,
            "marks-lost": tally.lost,
            "false-marks": tally.false_marks,
            "flushed-blocks-checked": tally.flushed,
            "flushed-blocks-lost": tally.flushed_lost,
            "restores-equal": tally.restores,
            "restores-wrong": tally.wrong_restores,
            "full-backup-bytes": tally.full_bytes,
            "incremental-bytes": tally.incremental_bytes,
        }));
    }
    let rows = [
        ("kills", tally.judged.to_string()),
        ("writes acknowledged by a flush", tally.writes.to_string()),
        ("granules changed since a backup", tally.changed.to_string()),
        ("marks kept", tally.kept.to_string()),
        ("marks LOST", tally.lost.to_string()),
        ("false marks", tally.false_marks.to_string()),
        ("flushed blocks checked", tally.flushed.to_string()),
        ("flushed blocks LOST", tally.flushed_lost.to_string()),
        ("restores equal to the disk", tally.restores.to_string()),
        ("restores WRONG", tally.wrong_restores.to_string()),
        ("full backups would have read", output::bytes(tally.full_bytes)),
        ("incremental backups read", output::bytes(tally.incremental_bytes)),
    ];
    for (what, count) in rows {
        println!("{what:<32} {count:>12}");
    }
    println!("seed {seed}");
}
