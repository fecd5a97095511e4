//! Programs of the workspace, built as they are released.

use std::ffi::OsStr;
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
    /// Lets `cargo` build it like this.
    pub(crate) fn within(self, cargo: &mut Command) -> &mut Command {
        match self {
            Self::Sound => cargo,
            Self::Planted => cargo
                .env("RUSTFLAGS", "--cfg qbm_mutants")
                .env("CARGO_TARGET_DIR", root().join("target/mutants")),
        }
    }
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
    let mut build = cargo(["build", "--quiet", "--release", "--workspace", "--test", ALONG]);
    engine.within(&mut build);
    run(build.args(["--bin", name]))?;
    let target =
        build.get_envs().find_map(|(key, value)| value.filter(|_| key == "CARGO_TARGET_DIR"));
    let target = target.map(OsStr::to_owned).or_else(|| std::env::var_os("CARGO_TARGET_DIR"));
    let folder = root().join(target.unwrap_or_else(|| "target".into()));
    let path = folder.join("release").join(name);
    let mut program = command(&path.to_string_lossy());
    program.args(arguments);
    Ok(program)
}
