//! `qbm`: parses the command line, runs the command, and says in one line what went wrong.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use qbm_cli::{Program, run};

fn main() -> ExitCode {
    match run(Program::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("qbm: {error:#}");
            ExitCode::FAILURE
        }
    }
}
