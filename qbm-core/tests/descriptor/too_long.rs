//! A file too long to be a descriptor is refused by its length.

use std::future::ready;
use std::io;

use futures_executor::block_on;
use qbm_core::descriptor::MAX_DESCRIPTOR_BYTES;
use qbm_core::directory::read_whole;
use qbm_core::{BlockStatus, Buffer, ByteRange, Identity, Limits, Lock, Persist, Storage, Unmap};

/// A file of `0` spaces that must not be read beyond what a descriptor may have.
#[derive(Debug)]
struct Spaces(u64);

impl Storage for Spaces {
    async fn read_at(&self, _offset: u64, buffer: Buffer) -> io::Result<Buffer> {
        assert!(self.0 <= MAX_DESCRIPTOR_BYTES as u64, "a file this long is not read");
        Ok(Buffer::from_slice(&vec![b' '; buffer.len()]))
    }

    fn len(&self) -> impl Future<Output = io::Result<u64>> + Send {
        ready(Ok(self.0))
    }

    async fn write_at(&self, _: u64, _: Buffer, _: Persist) -> io::Result<Buffer> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    async fn write_zeroes(&self, _: ByteRange, _: Unmap) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    async fn discard(&self, _: ByteRange) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    async fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    async fn invalidate_cache(&self) -> io::Result<()> {
        Ok(())
    }

    async fn settle(&self) {}

    async fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    async fn block_status(&self, range: ByteRange) -> io::Result<BlockStatus> {
        Ok(BlockStatus { length: range.length(), data: true })
    }

    async fn identity(&self) -> io::Result<Option<Identity>> {
        Ok(None)
    }

    async fn lock(&self, _: Lock) -> io::Result<()> {
        Ok(())
    }

    fn limits(&self) -> Limits {
        Limits { alignment: 1, max_transfer: u32::MAX }
    }
}

#[test]
fn a_gibibyte_of_spaces_is_refused_without_reading_it() {
    for length in [MAX_DESCRIPTOR_BYTES as u64 + 1, 1 << 30, u64::MAX] {
        let error = block_on(read_whole(&Spaces(length), MAX_DESCRIPTOR_BYTES));
        let error = error.expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(error.to_string(), format!("{length} bytes, and at most 1048576 are read"));
    }
    let longest = Spaces(MAX_DESCRIPTOR_BYTES as u64);
    let text = block_on(read_whole(&longest, MAX_DESCRIPTOR_BYTES)).expect("just short enough");
    assert_eq!(text.len(), MAX_DESCRIPTOR_BYTES);
}
