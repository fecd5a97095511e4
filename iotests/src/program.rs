//! Programs that run to their end, with all they said.

use std::io::Write;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::thread;

/// The installed program `name`, such as `qemu-img`, to be given arguments and [run](run()).
pub fn tool(name: &str) -> Command {
    Command::new(name)
}

/// How a program ended, and all that it said.
#[derive(Debug)]
pub struct Finished {
    /// The command, for messages.
    line: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

/// Runs the command to its end, without an input.
///
/// # Panics
///
/// If it cannot be started, or says what is not UTF-8.
#[track_caller]
pub fn run(command: &mut Command) -> Finished {
    match command.stdin(Stdio::null()).output() {
        Ok(output) => Finished::new(command, output),
        Err(error) => not_started(command, &error),
    }
}

/// Runs the command to its end, with `input` as its standard input.
///
/// # Panics
///
/// If it cannot be started, or says what is not UTF-8. That it does not read all of the input is
/// fine.
#[track_caller]
pub fn run_with_input(command: &mut Command, input: &str) -> Finished {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => not_started(command, &error),
    };
    let mut stdin = child.stdin.take().expect("its input is a pipe");
    let output = thread::scope(|scope| {
        // From a thread of its own, since the program may fill its output first. A program that
        // ends early breaks the pipe, which is its right.
        scope.spawn(move || stdin.write_all(input.as_bytes()).unwrap_or_default());
        child.wait_with_output().expect("a child can be waited for")
    });
    Finished::new(command, output)
}

#[track_caller]
pub(crate) fn not_started(command: &Command, error: &std::io::Error) -> ! {
    let program = command.get_program().display();
    panic!("{program} cannot be started ({error}); `cargo xtask test` installs what tests need")
}

impl Finished {
    #[track_caller]
    pub(crate) fn new(command: &Command, output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("programs speak UTF-8");
        Self {
            line: format!("{command:?}"),
            status: output.status,
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// It must have succeeded.
    ///
    /// # Panics
    ///
    /// If it did not, with all that it said.
    #[track_caller]
    pub fn success(self) -> Self {
        self.code(0)
    }

    /// It must have ended with this exit code.
    ///
    /// # Panics
    ///
    /// If it did not, with all that it said.
    #[track_caller]
    pub fn code(self, expected: i32) -> Self {
        let Self { line, status, stdout, stderr } = &self;
        assert_eq!(
            status.code(),
            Some(expected),
            "{line}: {status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        );
        self
    }

    /// What it printed, as JSON.
    ///
    /// # Panics
    ///
    /// If that is no JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        match serde_json::from_str(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!("{}: {error}\n--- stdout\n{}", self.line, self.stdout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_a_program_says_is_kept() {
        let finished = run(tool("sh").args(["-c", "echo out; echo err >&2; exit 3"])).code(3);
        assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("out\n", "err\n"));
    }

    #[test]
    #[should_panic(expected = "--- stderr\nthe reason")]
    fn a_failure_shows_what_the_program_said() {
        run(tool("sh").args(["-c", "echo the reason >&2; false"])).success();
    }

    #[test]
    fn an_input_larger_than_a_pipe_arrives() {
        let input = "line\n".repeat(100_000);
        assert_eq!(run_with_input(&mut tool("cat"), &input).success().stdout, input);
    }

    #[test]
    fn an_input_that_no_one_reads_is_no_failure() {
        run_with_input(&mut tool("true"), &"line\n".repeat(100_000)).success();
    }

    #[test]
    #[should_panic(expected = "`cargo xtask test` installs")]
    fn a_missing_program_fails_the_test() {
        run(&mut tool("a-program-that-nobody-has"));
    }
}
