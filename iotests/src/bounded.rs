//! Programs that have little memory, and must end soon.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use wait4::Wait4;

use crate::program::{Finished, not_started, tool};

/// How long a program may take by the clock, on a machine that has other things to do.
const PATIENCE: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// The memory that a program gets: all but its code, and what it only reads of files.
///
/// A limit and no measurement. The peak that the system tells of a child counts what its parent
/// had when it started it, so that it would depend on which tests ran before.
pub const MEMORY: u64 = 64 << 20;

/// A program that has ended, and what it took.
#[derive(Debug)]
pub struct Spent {
    /// How it ended.
    pub finished: Finished,
    /// Time of processors, in the program and in the kernel for it.
    pub processor: Duration,
}

/// Runs the command in [`MEMORY`], without an input.
///
/// # Panics
///
/// If it cannot be started, says what is not UTF-8, or has not ended after 30 seconds.
#[track_caller]
pub fn run_bounded(command: &Command) -> Spent {
    run_within(command, &PATIENCE)
}

#[track_caller]
fn run_within(command: &Command, patience: &Timespec) -> Spent {
    let mut command = limited(command);
    // Files, so that nobody has to read while it runs.
    let [mut stdout, mut stderr] = [(); 2].map(|()| tempfile::tempfile().expect("a file"));
    let share = |file: &File| Stdio::from(file.try_clone().expect("one more handle"));
    command.stdin(Stdio::null()).stdout(share(&stdout)).stderr(share(&stderr));
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => not_started(&command, &error),
    };
    let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("our child");
    let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(patience));
    if ended.expect("a process can be waited for") == 0 {
        child.kill().and_then(|()| child.wait()).expect("one may kill one's own child");
        panic!("{command:?} has not ended after {} seconds", patience.tv_sec);
    }
    let used = child.wait4().expect("it has ended");
    let [stdout, stderr] = [&mut stdout, &mut stderr].map(|file| {
        let mut text = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut text)).expect("a file can be read");
        text
    });
    Spent {
        finished: Finished::new(&command, Output { status: used.status, stdout, stderr }),
        processor: used.rusage.utime + used.rusage.stime,
    }
}

/// `command` by way of a shell, which can limit itself.
fn limited(command: &Command) -> Command {
    let mut shell = tool("sh");
    let script = format!("ulimit -d {} && exec \"$0\" \"$@\"", MEMORY >> 10);
    shell.args(["-c", &script]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        shell.current_dir(folder);
    }
    shell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_its_folder_and_environment_and_no_more_memory_than_it_may() {
        let mut command = tool("sh");
        command.current_dir("/usr").env("NAME", "value").env_remove("HOME");
        command.args(["-c", "echo \"$PWD $NAME ${HOME-none}\"; ulimit -d; echo err >&2; exit 3"]);
        let Finished { stdout, stderr, .. } = run_bounded(&command).finished.code(3);
        assert_eq!((&*stdout, &*stderr), ("/usr value none\n65536\n", "err\n"));
        let hold = |bytes: u64| {
            let script = format!("head -c {bytes} /dev/zero | tail -c {bytes} | wc -c");
            run_bounded(tool("sh").args(["-c", &script])).finished.success()
        };
        assert_eq!(hold(MEMORY / 4).stderr, "");
        assert!(hold(MEMORY + 1).stderr.contains("memory"), "{:?}", hold(MEMORY + 1));
    }

    #[test]
    fn time_is_that_of_processors() {
        let idle = run_bounded(tool("sleep").arg("0.5"));
        let busy = run_bounded(tool("timeout").args(["0.5", "sh", "-c", "while :; do :; done"]));
        assert!(idle.processor < busy.processor, "{idle:?} {busy:?}");
    }

    #[test]
    #[should_panic(expected = "has not ended after 1 seconds")]
    fn a_program_that_hangs_fails_the_test() {
        run_within(tool("sleep").arg("60"), &Timespec { tv_sec: 1, tv_nsec: 0 });
    }
}
