//! Futures that are never dropped take room in a ring for ever, and do no other harm.

use std::future::Future;
use std::task::{Context, Waker};

use futures_executor::block_on;
use qbm_core::{Access, Buffer, Persist, Storage};
use qbm_io_std::StdFile;
use qbm_io_uring::UringFile;

#[test]
fn a_full_ring_of_forgotten_operations_is_done_without() {
    let path = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = UringFile::new(StdFile::open_operator(path.path(), Access::Write).unwrap());
    assert!(file.is_direct());
    for index in 0..100_u8 {
        let buffer = Buffer::from_slice(&[index + 1; 4096]);
        let mut write = Box::pin(file.write_at(u64::from(index) * 4096, buffer, Persist::Later));
        let _pending = write.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        std::mem::forget(write);
    }
    block_on(async {
        file.settle().await;
        for index in 0..100_u8 {
            let found = file.read_at(u64::from(index) * 4096, Buffer::zeroed(4096)).await.unwrap();
            assert!(found.iter().all(|byte| *byte == index + 1), "page {index}");
        }
        let buffer = file.write_at(8192, Buffer::zeroed(4096), Persist::Now).await.unwrap();
        assert!(file.read_at(8192, buffer).await.unwrap().iter().all(|byte| *byte == 0));
        file.sync().await.unwrap();
    });
}
