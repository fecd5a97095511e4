//! Making bytes durable, and remembering that it once failed.
//!
//! # Invariant
//!
//! After the first failure no call succeeds: the kernel counts pages that it failed to write as
//! clean, so that a later `fdatasync` would say `Ok` about bytes that are gone.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{Errno, ReadWriteFlags};

use crate::transfer;

/// Whether a sync of one file has failed.
#[derive(Debug, Default)]
pub struct Durable {
    failed: AtomicBool,
}

impl Durable {
    /// Before something is made durable.
    ///
    /// # Errors
    ///
    /// If that has failed once.
    pub fn check(&self) -> io::Result<()> {
        if self.failed.load(Ordering::SeqCst) {
            return Err(io::Error::other("an earlier sync of this file failed; open it again"));
        }
        Ok(())
    }

    /// Afterwards: how it ended, which is remembered.
    ///
    /// # Errors
    ///
    /// That of `done`. A call that began before another one failed may still succeed. It says
    /// nothing about what the other one failed for: its caller has the error.
    pub fn note<T>(&self, done: io::Result<T>) -> io::Result<T> {
        done.inspect_err(|_| self.failed.store(true, Ordering::SeqCst))
    }

    /// Makes everything durable that was written to `file` before the call, and its length.
    pub(crate) fn sync(&self, file: &File) -> io::Result<()> {
        self.latch(|| file.sync_data())
    }

    /// Makes all names durable that were changed in `directory` before the call.
    pub(crate) fn sync_names(&self, directory: &File) -> io::Result<()> {
        // `fdatasync` would not do: ext4 counts a changed entry as no change of the data.
        self.latch(|| directory.sync_all())
    }

    /// Writes `bytes` at `offset`; they are durable when it returns.
    pub(crate) fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.latch(|| match write_through(file, bytes, offset) {
            Err(error) if is_missing(&error) => {
                transfer::write(bytes, offset, |part, offset| file.write_at(part, offset))?;
                file.sync_data()
            }
            result => result,
        })
    }

    fn latch(&self, operation: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.check()?;
        self.note(operation())
    }
}

/// `pwritev2` with `RWF_DSYNC`, until all is written.
fn write_through(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    transfer::write(bytes, offset, |part, offset| {
        let slices = [IoSlice::new(part)];
        Ok(rustix::io::pwritev2(file, &slices, offset, ReadWriteFlags::DSYNC)?)
    })
}

/// Whether the kernel or file system does not know such writes.
fn is_missing(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    [Errno::OPNOTSUPP, Errno::NOSYS].iter().any(|known| errno == Some(known.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_durable_after_a_failure() {
        let file = tempfile::tempfile().unwrap();
        let durable = Durable::default();
        durable.sync(&file).unwrap();
        durable.write(&file, b"abc", 0).unwrap();

        let failed = durable.latch(|| Err(Errno::IO.into())).unwrap_err();
        assert_eq!(failed.raw_os_error(), Some(Errno::IO.raw_os_error()));
        let text = "an earlier sync of this file failed; open it again";
        assert_eq!(durable.sync(&file).unwrap_err().to_string(), text);
        assert_eq!(durable.sync_names(&file).unwrap_err().to_string(), text);
        assert_eq!(durable.write(&file, b"xyz", 0).unwrap_err().to_string(), text);
        let mut bytes = [0; 3];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"abc", "a refused write writes nothing");
    }

    #[test]
    fn a_failed_write_latches_as_a_sync_does() {
        let file = File::open("/dev/null").unwrap();
        let durable = Durable::default();
        durable.write(&file, b"abc", 0).unwrap_err();
        let text = "an earlier sync of this file failed; open it again";
        assert_eq!(durable.sync(&file).unwrap_err().to_string(), text);
    }
}
