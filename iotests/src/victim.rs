//! A program that is killed at a moment drawn from a seed.
//!
//! The program prints a line for each thing it has finished. After the kill, every line that it
//! managed to print is known, also those that were still in the pipe: they are what it promised,
//! and what the check that follows may rely on.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use fastrand::Rng;

/// The number of SIGKILL, which no program can catch.
const SIGKILL: i32 = 9;

/// When to strike: as soon as the victim has printed `lines` lines, and `pause` later.
///
/// Lines make the moment follow the victim's progress, however fast the machine is; the pause puts
/// it anywhere between two lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Lines of output to wait for.
    pub lines: usize,
    /// Time to wait after the last of them.
    pub pause: Duration,
}

impl Moment {
    /// A moment with at most these lines and at most this pause, each as likely as another.
    pub fn draw(random: &mut Rng, latest: Self) -> Self {
        let longest = u64::try_from(latest.pause.as_nanos()).expect("a pause is short");
        Self {
            lines: random.usize(0..=latest.lines),
            pause: Duration::from_nanos(random.u64(0..=longest)),
        }
    }
}

/// A running program that is killed at the latest when this is dropped.
#[derive(Debug)]
pub struct Victim {
    child: Child,
    output: BufReader<ChildStdout>,
    /// The lines read so far.
    lines: Vec<String>,
}

/// What is left of a victim.
#[derive(Debug)]
pub struct Remains {
    /// The lines that it printed, without their ends; a last one that lacks its end is not there.
    pub lines: Vec<String>,
    /// How it ended.
    pub status: ExitStatus,
}

impl Remains {
    /// Whether it was killed, rather than done before its moment came.
    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(SIGKILL)
    }
}

impl Victim {
    /// Starts the program. Its output is read here; its other streams are the caller's to set.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = match command.stdout(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(error) => panic!("{command:?} cannot be started: {error}"),
        };
        let output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        Self { child, output, lines: Vec::new() }
    }

    /// Waits for the moment; returns early if the program ends before it.
    ///
    /// # Panics
    ///
    /// If the output cannot be read, or is not UTF-8.
    pub fn wait_for(&mut self, moment: Moment) {
        while self.lines.len() < moment.lines {
            let mut line = String::new();
            self.output.read_line(&mut line).expect("a pipe can be read");
            match line.strip_suffix('\n') {
                Some(line) => self.lines.push(line.to_owned()),
                None => return,
            }
        }
        // No wait for something else to happen: the moment itself is what was drawn.
        thread::sleep(moment.pause);
    }

    /// Kills the program, if it still runs, and waits until it is gone.
    ///
    /// # Panics
    ///
    /// If the output cannot be read, or is not UTF-8.
    pub fn kill(mut self) -> Remains {
        let status = self.end();
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).expect("a pipe can be read");
        let whole = rest.rfind('\n').map_or("", |end| &rest[..end]);
        let mut lines = std::mem::take(&mut self.lines);
        lines.extend(whole.lines().map(str::to_owned));
        Remains { lines, status }
    }

    fn end(&mut self) -> ExitStatus {
        self.child.kill().expect("one may kill one's own child");
        self.child.wait().expect("a child can be waited for")
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // After `kill` this finds the status that is known already.
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    const LATEST: Moment = Moment { lines: 50, pause: Duration::from_millis(2) };

    fn shell(script: &str) -> Victim {
        Victim::spawn(Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn every_line_printed_before_the_kill_is_known() {
        let counts = "i=0; while :; do i=$((i+1)); echo $i; done";
        for seed in 0..20 {
            let moment = Moment::draw(&mut Seed(seed).random(), LATEST);
            let mut victim = shell(counts);
            victim.wait_for(moment);
            let remains = victim.kill();
            assert!(remains.was_killed());
            assert!(remains.lines.len() >= moment.lines);
            let expected = (1..=remains.lines.len()).map(|number| number.to_string());
            assert!(expected.eq(remains.lines), "seed {seed}: a line is missing");
        }
    }

    #[test]
    fn a_program_that_ends_before_its_moment_was_not_killed() {
        let mut victim = shell("echo done; echo -n partial");
        victim.wait_for(LATEST);
        // Its output has ended, and so will it: by itself, or now.
        let remains = victim.kill();
        assert_eq!(remains.lines, ["done"]);
    }

    #[test]
    fn the_seed_alone_decides_the_moment() {
        let draw = |seed: u64| Moment::draw(&mut Seed(seed).random(), LATEST);
        assert_eq!(draw(3), draw(3));
        assert!((0..100).any(|seed| draw(seed) != draw(3)));
        assert!((0..1000).all(|seed| draw(seed).lines <= 50 && draw(seed).pause <= LATEST.pause));
    }

    #[test]
    fn a_dropped_victim_does_not_live_on() {
        let victim = shell("echo; exec cat /dev/zero >/dev/null");
        let process = format!("/proc/{}", victim.child.id());
        assert!(std::path::Path::new(&process).exists());
        drop(victim);
        assert!(!std::path::Path::new(&process).exists());
    }
}
