//! The program under test, built from this tree.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::program::{run, tool};

/// The program `qbm`, to be given arguments and [run](run()).
///
/// The first call in a process builds it, in the profile and the target folder that the caller itself was
/// built in: the tests of one crate cannot ask cargo for the program of another.
///
/// # Panics
///
/// If it does not build.
pub fn qbm() -> Command {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    Command::new(PROGRAM.get_or_init(build))
}

/// Builds the program; the path is the one that cargo reports.
fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a crate of the workspace");
    let mut cargo = tool("cargo");
    cargo.current_dir(root).args(["build", "--quiet", "--message-format=json"]);
    // What cargo tells this test: build scripts that look at it would run again, and all that depends on
    // them would be built again, here and by the next cargo that runs no test.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    // The whole workspace, and that a test is among what is built, decides on the features of dependencies: like
    // this what `cargo test --workspace` has built already is not built once more.
    cargo.args(["--workspace", "--bin", "qbm", "--test", "descriptor_memory"]);
    let (target, profile) = place();
    cargo.args(["--profile", &profile]).arg("--target-dir").arg(target);
    let messages = run(&mut cargo).success().stdout;
    let executable = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_program = message.pointer("/target/name")?.as_str()? == "qbm";
        Some(PathBuf::from(message.get("executable")?.as_str()?)).filter(|_| is_program)
    });
    executable.expect("cargo says where it put the program")
}

/// The target folder and the profile that this process was built in, by where it lies: at
/// `TARGET/PROFILE/deps/NAME` a test, at `TARGET/PROFILE/NAME` a program.
fn place() -> (PathBuf, String) {
    let own = env::current_exe().expect("a process knows its program");
    let mut folders = own.ancestors().skip(1).filter(|folder| !folder.ends_with("deps"));
    let (Some(folder), Some(target)) = (folders.next(), folders.next()) else {
        panic!("{} is not in a target folder", own.display());
    };
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        // The folder of the profiles `dev` and `test`; the latter's dependencies are built.
        Some("debug") => "test",
        Some(name) => name,
        None => panic!("{} is in no profile's folder", own.display()),
    };
    (target.to_owned(), profile.to_owned())
}

#[cfg(test)]
mod tests {
    use super::qbm;

    #[test]
    fn the_program_is_built_and_found() {
        let program = qbm();
        assert!(std::path::Path::new(program.get_program()).is_file(), "{program:?}");
        assert_eq!(program.get_program(), qbm().get_program());
    }
}
