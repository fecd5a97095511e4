//! A kernel that has no ring for us.

use std::fs::File;

use futures_executor::block_on;
use qbm_core::{Access, Buffer, Persist, Storage};
use qbm_io_std::{GatePolicy, StdDirectory, StdFile};
use qbm_io_uring::{UringDirectory, UringFile};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The process may open no more files, so that `io_uring_setup` fails.
#[test]
fn without_a_ring_a_directory_says_why_and_a_file_goes_on() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("file");
    File::create(&path).unwrap();
    let std = StdDirectory::open(folder.path(), GatePolicy::closed()).unwrap();
    let file = UringFile::new(StdFile::open_operator(&path, Access::Write).unwrap());
    assert!(file.is_direct());

    let limit = Rlimit { current: Some(50), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).unwrap();
    let all: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let refused = UringDirectory::new(std.clone()).unwrap_err().to_string();
    assert_eq!(refused, "io_uring cannot be used: Too many open files (os error 24)");
    block_on(async {
        let buffer = Buffer::from_slice(&[7; 4096]);
        let buffer = file.write_at(0, buffer, Persist::Now).await.unwrap();
        file.sync().await.unwrap();
        assert!(*file.read_at(0, buffer).await.unwrap() == [7; 4096]);
    });
    drop(all);
    UringDirectory::new(std).unwrap();
}
