//! The path of a request allocates nothing once its thread has a ring.

use futures_executor::block_on;
use futures_util::future::join;
use qbm_core::{Access, Buffer, Persist, Storage};
use qbm_io_std::StdFile;
use qbm_io_uring::UringFile;

#[global_allocator]
static COUNTED: dhat::Alloc = dhat::Alloc;

#[test]
fn requests_allocate_nothing_when_warm() {
    let path = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = UringFile::new(StdFile::open_operator(path.path(), Access::Write).unwrap());
    assert!(file.is_direct());
    block_on(async {
        let mut buffer = Buffer::zeroed(65_536);
        buffer = file.write_at(0, buffer, Persist::Now).await.unwrap();
        let _profiler = dhat::Profiler::builder().testing().build();
        for offset in (0..1 << 20).step_by(65_536) {
            buffer = file.write_at(offset, buffer, Persist::Later).await.unwrap();
            buffer = file.read_at(offset, buffer).await.unwrap();
            buffer = file.write_at(offset, buffer.narrow(1..100), Persist::Later).await.unwrap();
            buffer = file.read_at(offset + 7, buffer).await.unwrap().widen();
        }
        file.sync().await.unwrap();
        // By a ring, since they are two.
        let (write, sync) = (file.write_at(0, buffer, Persist::Later), file.sync());
        let (written, synced) = join(write, sync).await;
        drop(written.unwrap());
        synced.unwrap();
        assert_eq!(dhat::HeapStats::get().total_blocks, 0);
    });
}
