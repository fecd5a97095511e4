//! The contract of the core, over real file systems.

#![expect(clippy::unwrap_used, reason = "a test that panics says where")]

use std::cell::Cell;
use std::path::Path;

use futures_executor::block_on;
use qbm_core::{Directory, conformance};
use qbm_io_std::{GatePolicy, StdDirectory};
use qbm_io_uring::UringDirectory;

const DISK: &str = env!("CARGO_TARGET_TMPDIR");

/// Checks directories within `parent`; whether their files have direct transfers.
fn check(parent: &str, wrap: impl Fn(StdDirectory) -> UringDirectory) -> bool {
    let folder = tempfile::tempdir_in(Path::new(parent)).unwrap();
    let count = Cell::new(0);
    let empty = async || {
        count.set(count.get() + 1);
        let path = folder.path().join(count.get().to_string());
        std::fs::create_dir(&path).unwrap();
        wrap(StdDirectory::open(&path, GatePolicy::closed()).unwrap())
    };
    block_on(async {
        conformance::check_directory(empty).await;
        empty().await.create("file").await.unwrap().is_direct()
    })
}

#[test]
fn a_directory_on_a_disk_keeps_the_contract_with_direct_transfers() {
    let direct = check(DISK, |std| UringDirectory::new(std).unwrap());
    assert!(direct, "{DISK}: this test needs a file system with O_DIRECT");
}

#[test]
fn a_directory_in_memory_keeps_the_contract() {
    check("/dev/shm", |std| UringDirectory::new(std).unwrap());
}

#[test]
fn a_directory_without_rings_keeps_the_contract() {
    assert!(!check(DISK, UringDirectory::without_rings));
}
