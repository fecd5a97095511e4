//! A disk that is quick, and checks what the server asks of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use qbm_core::{Buffer, ByteRange, Persist, Unmap};
use qbm_nbd::{Context, Disk, Extent, Fault, Pace};

const SIZE: usize = 256 << 10;

/// 256 KiB in memory.
pub(super) struct SmallDisk(Mutex<Vec<u8>>);

impl Default for SmallDisk {
    fn default() -> Self {
        Self(Mutex::new(vec![0; SIZE]))
    }
}

impl SmallDisk {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, range: ByteRange) {
        let place = |byte| usize::try_from(byte).expect("within the disk");
        self.lock()[place(range.start())..place(range.end())].fill(0);
    }
}

impl Disk for SmallDisk {
    fn size(&self) -> u64 {
        SIZE as u64
    }

    fn read(&self, offset: u64, mut buffer: Buffer) -> Result<Buffer, Fault> {
        let offset = usize::try_from(offset).expect("within the disk");
        let length = buffer.len();
        buffer.copy_from_slice(&self.lock()[offset..][..length]);
        Ok(buffer)
    }

    fn write(&self, offset: u64, buffer: Buffer, _: Persist) -> Result<Buffer, Fault> {
        let offset = usize::try_from(offset).expect("within the disk");
        self.lock()[offset..][..buffer.len()].copy_from_slice(&buffer);
        Ok(buffer)
    }

    fn may_wait(&self, range: ByteRange) -> bool {
        range.start() % 2 == 1
    }

    fn write_zeroes(&self, range: ByteRange, _: Unmap, _: Pace) -> Result<(), Fault> {
        self.fill(range);
        Ok(())
    }

    fn discard(&self, range: ByteRange) -> Result<(), Fault> {
        self.fill(range);
        Ok(())
    }

    fn flush(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn extents(&self, _: &Context, range: ByteRange, most: usize) -> Result<Vec<Extent>, Fault> {
        assert!(!range.is_empty() && range.end() <= SIZE as u64 && most > 0, "{range:?} {most}");
        Ok(vec![Extent { length: range.length(), flags: 1 }])
    }
}
