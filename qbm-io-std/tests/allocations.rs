//! The path of a request to marked granules allocates nothing.

use std::sync::Arc;

use futures_executor::block_on;
use qbm_core::descriptor::Durability;
use qbm_core::image::{self, BitmapAction, CreateOptions, OpenOptions};
use qbm_core::{Access, Buffer, ByteRange, Granularity, Host, Image, Persist, Result, Unmap};
use qbm_io_std::{GatePolicy, StdDirectory, StdHost};

#[global_allocator]
static COUNTED: dhat::Alloc = dhat::Alloc;

const SIZE: u64 = 16 << 20;

/// An image with a bitmap, all of whose granules are marked.
async fn marked(directory: StdDirectory) -> Result<Image<StdDirectory>> {
    let host: Arc<dyn Host> = Arc::new(StdHost);
    let (file, durability) = ("d.raw".to_owned(), Durability::Exact);
    let options = CreateOptions { file, data: None, size: SIZE, durability };
    image::create(&directory, "i.qbm", options, &*host).await?;
    let image = Image::open(directory, "i.qbm", OpenOptions::new(Access::Write), host).await?;
    let (name, granularity) = ("b".to_owned(), Granularity::DEFAULT);
    image.transaction(&[BitmapAction::Add { name, granularity, disabled: false }]).await?;
    image.write_zeroes(ByteRange::new(0, SIZE), Unmap::Forbidden).await?;
    Ok(image)
}

#[test]
fn requests_to_marked_granules_allocate_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let directory = StdDirectory::open(folder.path(), GatePolicy::closed()).unwrap();
    block_on(async {
        let image = marked(directory).await.unwrap();
        let mut buffer = Buffer::zeroed(65_536);
        let _profiler = dhat::Profiler::builder().testing().build();
        for offset in (0..SIZE).step_by(65_536) {
            buffer = image.write(offset, buffer, Persist::Later).await.unwrap();
            buffer = image.read(offset, buffer).await.unwrap();
            let range = ByteRange::new(offset, 65_536);
            image.write_zeroes(range, Unmap::Forbidden).await.unwrap();
        }
        assert_eq!(dhat::HeapStats::get().total_blocks, 0);
    });
}
