//! The programs that the tests need beside the Rust toolchain, installed where they are missing.
//!
//! Nothing is asked of the system's package manager while nothing is missing, so that a machine
//! that has them all needs neither root nor a network.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

mod backports;

/// A program, and the Debian package that has it.
struct Tool {
    program: &'static str,
    package: &'static str,
}

const TOOLS: [Tool; 15] = [
    // The reference that the program is run beside.
    Tool { program: "qemu-img", package: "qemu-utils" },
    // Clients of the server that are not QEMU's.
    Tool { program: "nbdinfo", package: "libnbd-bin" },
    Tool { program: "nbdsh", package: "python3-libnbd" },
    Tool { program: "nbd-client", package: "nbd-client" },
    Tool { program: "certtool", package: "gnutls-bin" },
    Tool { program: "fio", package: "fio" },
    // A machine whose disk is on the server, and what unpacks its kernel.
    Tool { program: "qemu-system-x86_64", package: "qemu-system-x86" },
    Tool { program: "dpkg-deb", package: "dpkg" },
    // Reads the units that serve a disk.
    Tool { program: "systemd-analyze", package: "systemd" },
    // A server that ours is measured beside.
    Tool { program: "nbdkit", package: "nbdkit" },
    // The file system that the power is cut under: made, attached, and shut down.
    Tool { program: "mke2fs", package: "e2fsprogs" },
    Tool { program: "losetup", package: "mount" },
    Tool { program: "xfs_io", package: "xfsprogs" },
    // Counts the system calls of a write.
    Tool { program: "strace", package: "strace" },
    // Builds the fuzzing engine.
    Tool { program: "c++", package: "g++" },
];

/// Installs the tools that are missing.
///
/// # Errors
///
/// If some are missing and cannot be installed; the message names their packages.
pub(crate) fn ensure() -> Result<()> {
    let missing: Vec<&str> =
        TOOLS.iter().filter(|tool| !is_installed(tool.program)).map(|tool| tool.package).collect();
    if !missing.is_empty() {
        install(&missing)
            .with_context(|| format!("the tests need the Debian packages {}", missing.join(" ")))?;
    }
    ensure_guest().context("the kernel of a guest, in target/guest")
}

/// Unpacks Debian's kernel for virtual machines and its busybox. They are not installed: this machine
/// shall not boot them.
fn ensure_guest() -> Result<()> {
    let folder = process::root().join("target/guest");
    if folder.join("complete").is_file() {
        return Ok(());
    }
    if !is_installed("apt-get") {
        bail!(
            "there is no apt-get here; unpack linux-image-cloud-amd64 and busybox-static by hand"
        );
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    process::run(as_root("apt-get")?.arg("update"))?;
    let download = |package: &str| -> Result<PathBuf> {
        let place = folder.join(package);
        fs::create_dir(&place)?;
        process::run(process::command("apt-get").current_dir(&place).args(["download", package]))?;
        let file = fs::read_dir(&place)?.next().context("nothing was downloaded")??;
        Ok(file.path())
    };
    // This one has no file, and names the one that has them.
    let newest = download("linux-image-cloud-amd64")?;
    let names = Command::new("dpkg-deb").arg("--field").arg(newest).arg("Depends").output()?;
    let names = String::from_utf8(names.stdout)?;
    let kernel = names.split_whitespace().next().context("the newest kernel has no name")?;
    for package in [kernel, "busybox-static"] {
        let file = download(package)?;
        let root = folder.join("root");
        process::run(process::command("dpkg-deb").arg("--extract").arg(file).arg(root))?;
    }
    Ok(fs::write(folder.join("complete"), "")?)
}

/// Installs the subcommand `cargo NAME` from source unless it is there.
///
/// # Errors
///
/// If it cannot be built.
pub(crate) fn ensure_cargo_subcommand(name: &str, version: &str) -> Result<()> {
    let package = format!("cargo-{name}");
    let is_there = Command::new(&package).arg("--version").output();
    if is_there.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    process::run(&mut process::cargo(["install", "--locked", "--version", version, &package]))
}

/// Installs packages, and removes none for them.
///
/// # Errors
///
/// If they cannot be.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    if !is_installed("apt-get") {
        bail!("there is no apt-get here; install their like by hand");
    }
    process::run(as_root("apt-get")?.arg("update"))?;
    for package in packages {
        if install_one(package, &[]).is_err() {
            // It does not fit what is here, which may be from the backports of this release.
            backports::install(package)?;
        }
    }
    Ok(())
}

/// Installs one package; `options` are apt's.
fn install_one(package: &str, options: &[&str]) -> Result<()> {
    let mut apt = as_root("apt-get")?;
    apt.args(["install", "--yes", "--no-install-recommends", "--no-remove"]);
    process::run(apt.args(options).arg(package))
}

/// `program` run as root, by sudo if need be and if it asks for no password.
fn as_root(program: &str) -> Result<Command> {
    let environment = "DEBIAN_FRONTEND=noninteractive";
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let mut command = process::command(if is_root { "env" } else { "sudo" });
    if !is_root {
        if !is_installed("sudo") {
            bail!("this is not root, and there is no sudo");
        }
        command.args(["--non-interactive", "env"]);
    }
    command.args([environment, program]);
    Ok(command)
}

/// Whether `program` is in the search path or where the system's own programs are.
fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path);
    let system = ["/usr/sbin", "/sbin"].map(|folder| Path::new(folder).to_owned());
    folders.chain(system).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::is_installed;

    #[test]
    fn a_program_is_found_by_its_whole_name_only() {
        assert!(is_installed("sh"));
        assert!(!is_installed("sh-that-nobody-has"));
    }
}
