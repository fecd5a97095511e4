//! The contract of the core, over a real file system.

use futures_executor::block_on;
use qbm_core::conformance;
use qbm_io_std::{GatePolicy, StdDirectory};

#[test]
fn a_directory_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let count = std::cell::Cell::new(0);
    block_on(conformance::check_directory(async || {
        count.set(count.get() + 1);
        let path = folder.path().join(count.get().to_string());
        std::fs::create_dir(&path).unwrap();
        StdDirectory::open(&path, GatePolicy::closed()).unwrap()
    }));
}
