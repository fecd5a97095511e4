//! The tour of the README and the recipes for serving, run as they are printed.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use iotests::{qbm, run, tool};

/// The shell blocks of the section that begins with `heading`.
fn blocks(readme: &str, heading: &str) -> String {
    let section = readme.split_once(heading).unwrap().1;
    all_blocks(section.split("\n## ").next().unwrap().split("\n### ").next().unwrap())
}

/// The shell blocks of a text.
fn all_blocks(text: &str) -> String {
    text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// A script that runs `steps` with our program as `qbm`. What it has started ends with it, also where a step
/// fails.
fn script(steps: &str) -> String {
    let program = qbm();
    let program = program.get_program().to_str().unwrap();
    let stop = "trap 'kill $(cat *.pid 2>/dev/null) 2>/dev/null || :' EXIT";
    format!("set -e\n{stop}\nqbm() {{ {program} \"$@\"; }}\n{steps}")
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn the_recipes_for_serving_run_as_they_are_printed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = fs::read_to_string(root.join("docs/serving.md")).unwrap();
    let script = script(&all_blocks(&page).replace("10810", &free_port().to_string()));
    let folder = tempfile::tempdir().unwrap();
    let said = run(tool("bash").current_dir(folder.path()).args(["-c", &script])).success().stdout;
    for expected in
        ["qemu:dirty-bitmap:nightly", "1179648   0.4%   1 dirty", "268435456 100.0%   0 clean"]
    {
        assert!(said.contains(expected), "{expected:?} is not in: {said}");
    }
}

/// As far as systemd can tell without starting them.
#[test]
fn the_units_for_systemd_are_well_formed() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("contrib/systemd");
    let folder = tempfile::tempdir().unwrap();
    let mut verify = tool("systemd-analyze");
    verify.current_dir(folder.path()).args(["verify", "--man=no"]);
    for kind in ["socket", "service"] {
        let text = fs::read_to_string(units.join(format!("qbm@.{kind}"))).unwrap();
        let text = text.replace("/usr/bin/qbm", qbm().get_program().to_str().unwrap());
        let name = format!("qbm@vm.{kind}");
        fs::write(folder.path().join(&name), text).unwrap();
        verify.arg(format!("./{name}"));
    }
    let verified = run(&mut verify).success();
    assert_eq!(verified.stderr, "");
}

#[test]
fn the_tour_runs_as_it_is_printed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let tour = blocks(&readme, "## Five minutes with a disk of your own");
    assert!(tour.contains("qbm verify points"), "the tour is not where it was: {tour}");
    // The build is done, and the one thing a reader has to fill in is the name of a point.
    let (_build, steps) = tour.split_once('\n').unwrap();
    let first = "$(qbm points points | head -n 1 | cut -d ' ' -f 1)";
    let script = script(&steps.replace("FIRST-POINT", first));
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(root.join("docs"), folder.path().join("docs")).unwrap();
    let said = run(tool("bash").current_dir(folder.path()).args(["-c", &script])).success().stdout;
    for expected in [
        "full of \"backup\"",
        "incremental of \"backup\": 1 MiB of 1 GiB dirty",
        "sound",
        "65536    1  dirty",
    ] {
        assert!(said.contains(expected), "{expected:?} is not in: {said}");
    }
}
