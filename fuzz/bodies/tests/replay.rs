//! The saved inputs of the fuzz targets hold, and every target has some.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use qbm_fuzz_bodies::TARGETS;

/// The paths in the folder `name` of the fuzz targets' crate.
fn paths_in(name: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(name);
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Their names without an extension.
fn names_in(name: &str) -> BTreeSet<String> {
    let stem = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    paths_in(name).iter().map(stem).collect()
}

#[test]
fn every_saved_input_holds() {
    for (target, body) in TARGETS {
        let inputs = paths_in(&format!("corpus/{target}"));
        assert!(!inputs.is_empty(), "{target} has no saved input");
        for input in inputs {
            // Shown if the body panics.
            println!("{}", input.display());
            body(&fs::read(&input).unwrap());
        }
    }
}

#[test]
fn every_target_has_a_program_and_saved_inputs_and_there_are_no_others() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(targets, names_in("fuzz_targets"));
    assert_eq!(targets, names_in("corpus"));
}
