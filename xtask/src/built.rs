//! Programs of the workspace, built as they are released.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::process::{cargo, command, root, run};

/// A small test that is built along with a program. With one, and for the whole workspace, cargo gives the
/// dependencies the features that `cargo test --workspace` gives them, and they are built once for all.
const ALONG: &str = "descriptor_memory";

/// How the engine is built.
#[derive(Clone, Copy)]
pub(crate) enum Engine {
    /// As it is.
    Sound,
    /// With the bugs that can be planted in it, in a target folder of its own.
    Planted,
}

impl Engine {
    /// The target folder that it is built in.
    fn target(self) -> PathBuf {
        match self {
            Self::Sound => root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or("target".into())),
            Self::Planted => root().join("target/mutants"),
        }
    }

    /// Lets `cargo` build it like this.
    pub(crate) fn within(self, cargo: &mut Command) -> &mut Command {
        match self {
            Self::Sound => cargo,
            Self::Planted => {
                cargo.env("RUSTFLAGS", "--cfg qbm_mutants").env("CARGO_TARGET_DIR", self.target())
            }
        }
    }
}

/// Builds the program `name`; returns where it is.
///
/// # Errors
///
/// If it does not build.
pub(crate) fn build(engine: Engine, name: &str) -> Result<PathBuf> {
    let mut cargo = cargo(["build", "--quiet", "--release", "--workspace", "--test", ALONG]);
    run(engine.within(&mut cargo).args(["--bin", name]))?;
    Ok(engine.target().join("release").join(name))
}

/// Builds the program `name`; to be run with `arguments`.
///
/// # Errors
///
/// If it does not build.
pub(crate) fn program<const N: usize>(
    engine: Engine,
    name: &str,
    arguments: [&str; N],
) -> Result<Command> {
    let mut program = command(&build(engine, name)?.to_string_lossy());
    program.args(arguments);
    Ok(program)
}
