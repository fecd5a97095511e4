//! A command line that cannot be, told in one line.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::ErrorKind;

use crate::Program;

/// Says what is wrong with `arguments`, or prints the help that they ask for.
///
/// The exit status is 1, as it is in qemu-img and for every other error: 2 would be damage to
/// `check`. Only in `compare` 1 is an answer, and an error more.
pub(crate) fn refuse(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    let text = error.render().to_string();
    if !error.use_stderr() {
        print!("{text}");
        return ExitCode::SUCCESS;
    }
    let verb = arguments.get(1).filter(|name| Program::command().find_subcommand(name).is_some());
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        eprintln!("{}", text.trim_end());
    } else {
        let verb = verb.map_or(String::new(), |name| format!(" {}", name.display()));
        eprintln!("qbm: {}; see 'qbm{verb} --help'", one_line(&text));
    }
    ExitCode::from(if verb.map(OsString::as_os_str) == Some(OsStr::new("compare")) { 2 } else { 1 })
}

/// What is wrong and the tip to it, without the usage.
fn one_line(text: &str) -> String {
    let joined = |lines: &str| lines.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut paragraphs = text.split("\n\n").map(joined);
    let what = paragraphs.next().unwrap_or_default();
    let what = what.strip_prefix("error: ").unwrap_or(&what).to_owned();
    let tips = paragraphs.filter_map(|text| text.strip_prefix("tip: ").map(str::to_owned));
    tips.fold(what, |what, tip| format!("{what}; {tip}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn every_complaint_is_one_line() {
        let told = |arguments: &[&str]| {
            let error = Program::try_parse_from(arguments).expect_err("it is wrong");
            one_line(&error.render().to_string())
        };
        assert_eq!(
            told(&["qbm", "bitmap", "--ad", "a", "b"]),
            "unexpected argument '--ad' found; a similar argument exists: '--add'"
        );
        assert_eq!(
            told(&["qbm", "map"]),
            "the following required arguments were not provided: <IMAGE>"
        );
        assert!(told(&["qbm", "create", "a", "x"]).contains("invalid value 'x'"));
    }
}
