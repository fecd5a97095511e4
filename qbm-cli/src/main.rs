//! `qbm`: all of it is in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    qbm_cli::start(std::env::args_os())
}
