//! What names say to a terminal: nothing that it would obey.

use std::fs;
use std::path::Path;

use iotests::{Finished, qbm, run};

/// Clears a terminal, or sets its title.
const NAME: &str = "a\u{1b}[2J\u{9b}m\u{7f}\u{7}";
const PRINTED: &str = r"a\u001b[2J\u009bm\u007f\u0007";

fn ours(folder: &Path, arguments: &[&str]) -> Finished {
    run(qbm().current_dir(folder).args(arguments))
}

#[test]
fn names_are_escaped_for_terminals_and_the_same_in_json() {
    let folder = tempfile::tempdir().unwrap();
    // A descriptor cannot have such a name, nor name such a file; a folder above it can.
    fs::create_dir(folder.path().join(NAME)).unwrap();
    fs::write(folder.path().join(NAME).join("disk.raw"), [1; 4096]).unwrap();
    let (image, disk) = (format!("{NAME}/i.qbm"), format!("{NAME}/disk.raw"));
    let missing = format!("{NAME} missing");
    let calls: &[(&[&str], i32)] = &[
        (&["create", "--data-file", &disk, &image], 0),
        (&["info", &image], 0),
        (&["map", &image], 0),
        (&["check", &image], 0),
        (&["bitmap", "--add", &image, NAME], 1),
        (&["bitmap", "--clear", &image, NAME], 1),
        (&["info", &missing], 1),
        (&["map", &missing], 1),
        (&["check", &missing], 1),
        (&["resize", &missing, "1M"], 1),
        (&["compare", &missing, &missing], 2),
        (&["io", "-c", NAME, &image], 1),
        (&["backup", &missing, "target"], 1),
        (&["points", &missing], 1),
        (&["restore", &missing, "out.raw"], 1),
        (&["verify", &missing], 1),
        (&[NAME], 1),
    ];
    for (call, code) in calls {
        let Finished { stdout, stderr, .. } = ours(folder.path(), call).code(*code);
        let obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
        assert!(!stdout.contains(obeyed) && !stderr.contains(obeyed), "{call:?}: {stdout}{stderr}");
    }
    let told = ours(folder.path(), &["info", &image]).success().stdout;
    assert!(told.starts_with(&format!("image: {PRINTED}/i.qbm\n")), "{told}");
    let json = ours(folder.path(), &["info", "--output", "json", &image]).success().json();
    assert_eq!(json["filename"], image.as_str());
}
