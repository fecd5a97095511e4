//! `qbm serve` with the clients that people use: QEMU's tools, libnbd's, and those that go astray.
#![expect(clippy::unwrap_used, reason = "tests")]

mod aio;
mod clients;
mod crashes;
mod daemon;
mod fio;
mod imageio;
mod jobs;
mod live;
mod logs;
mod monitors;
mod persistence;
mod places;
mod qmp;
mod schema;
mod several;
mod status;
mod tls;

use std::path::{Path, PathBuf};

use iotests::{Finished, qbm, run, tool};

const MIB: u64 = 1 << 20;

/// Runs an installed program in `folder`.
fn in_folder(folder: &Path, program: &str, arguments: &[&str]) -> Finished {
    run(tool(program).current_dir(folder).args(arguments))
}

/// Runs ours.
fn ours(folder: &Path, arguments: &[&str]) -> Finished {
    run(qbm().current_dir(folder).args(arguments))
}

/// qemu-io commands, on what is served at `uri`.
fn qemu_io(folder: &Path, uri: &str, commands: &[&str]) -> Finished {
    let mut arguments = vec!["-f", "raw"];
    arguments.extend(commands.iter().flat_map(|command| ["-c", command]));
    arguments.push(uri);
    in_folder(folder, "qemu-io", &arguments).success()
}

/// Python code with a handle `h` of libnbd, and the address of what is served as `uri`.
fn nbdsh(folder: &Path, uri: &str, script: &str) -> Finished {
    let script = format!("uri = {uri:?}\n{script}");
    let mut command = tool("nbdsh");
    // With the system's Python, which has the module, not one that comes before it in the path.
    command.env("PATH", "/usr/bin:/bin");
    run(command.current_dir(folder).args(["-c", &script])).success()
}

/// The folder of a package from the Python Package Index, which is installed at the first call, beside what the
/// build has made.
///
/// # Panics
///
/// If it is not there, and cannot be installed.
fn python_package(package: &str) -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = tmp.join(package.replace("==", "-"));
    if !folder.exists() {
        let coming = tempfile::tempdir_in(tmp).unwrap();
        let place = coming.path().to_str().unwrap();
        let options = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", place, package];
        let installed = run(tool("python3").args(options));
        assert!(
            installed.status.success(),
            "this test needs {package} from the Python Package Index, and pip cannot install it: {}",
            installed.stderr
        );
        std::fs::rename(coming.keep(), &folder).unwrap();
    }
    folder
}

/// The granules of 64 KiB that the bitmap `nightly` of `vm.qbm` marks.
fn marked(folder: &Path) -> Vec<u64> {
    let map = ours(folder, &["map", "--bitmap", "nightly", "--output", "json", "vm.qbm"]);
    let map = map.success().json();
    let dirty = map.as_array().unwrap().iter().filter(|extent| extent["dirty"] == true);
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    let granules = dirty.flat_map(|extent| {
        let (start, length) = (number(&extent["start"]), number(&extent["length"]));
        start / GRANULE..(start + length).div_ceil(GRANULE)
    });
    granules.collect()
}

const GRANULE: u64 = 64 << 10;
