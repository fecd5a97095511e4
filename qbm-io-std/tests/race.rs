//! Names that are swapped for symbolic links while they are opened.

#![expect(clippy::unwrap_used, reason = "a test that panics says where")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use futures_executor::block_on;
use qbm_core::{Access, Directory, Storage};
use qbm_io_std::{GatePolicy, StdDirectory};
use rustix::fs::{CWD, RenameFlags, renameat_with};

/// How often each of the two swapped names is opened.
const ROUNDS: u32 = 50_000;

/// How often a name was opened, and how often it was refused.
#[derive(Debug, Default)]
struct Outcomes {
    opened: u32,
    refused: u32,
}

/// Swaps `one` and `other` in the image's directory all the time, and opens `name` meanwhile.
fn race(folder: &Path, (one, other): (&str, &str), name: &str) -> Outcomes {
    let image = folder.join("image");
    let directory = StdDirectory::open(&image, GatePolicy::closed()).unwrap();
    let done = AtomicBool::new(false);
    let (one, other) = (image.join(one), image.join(other));
    let mut outcomes = Outcomes::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        for _ in 0..ROUNDS {
            match block_on(directory.open(name, Access::Write)) {
                Ok(file) => {
                    outcomes.opened += 1;
                    let length = block_on(file.len()).unwrap();
                    if length != 4 {
                        done.store(true, Ordering::Relaxed);
                        panic!("a name led out of the image's directory");
                    }
                }
                Err(_) => outcomes.refused += 1,
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    outcomes
}

#[test]
fn no_swapped_link_leads_out_of_the_directory() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("image/sub")).unwrap();
    fs::create_dir(path("other")).unwrap();
    // What may be opened has 4 bytes, and what may not has 6.
    fs::write(path("image/disk.raw"), "disk").unwrap();
    fs::write(path("image/sub/disk.raw"), "disk").unwrap();
    fs::write(path("other/disk.raw"), "secret").unwrap();
    symlink(path("other/disk.raw"), path("image/link.raw")).unwrap();
    symlink(path("other"), path("image/link")).unwrap();
    let outcomes = [
        race(folder.path(), ("disk.raw", "link.raw"), "disk.raw"),
        race(folder.path(), ("sub", "link"), "sub/disk.raw"),
    ];
    for outcome in outcomes {
        // Both must have been met, or nothing was raced.
        assert!(outcome.opened > 0 && outcome.refused > 0, "{outcome:?}");
    }
}
