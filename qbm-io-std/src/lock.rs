//! The byte-range locks that QEMU takes on images, so that it and we exclude each other.
//!
//! QEMU numbers what a user of an image may do: 0 is to read consistent data, 1 to write, 2 to
//! write without changing, 3 to resize. Who does `i` holds a shared lock on byte `100 + i`, and
//! who forbids it to others one on byte `200 + i`. Nobody waits for a user to go: the bytes are taken
//! first, and then it is looked whether another user holds a byte that speaks against them. Two
//! users who come at the same instant may so refuse each other; never do both get in.
//!
//! A killed process leaves its locks to the operations that the kernel still does for it, if they are
//! done by `io_uring`. That is well, since they could come after ours, and they are waited for.
//!
//! The locks are OFD locks. They belong to the open file description, which duplicates share: they
//! go when this handle is closed, and another handle in this very process conflicts like one
//! elsewhere. On a block device they hold among those who open the same device node.

use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use qbm_core::Lock;

use crate::holder;

/// Where the bytes of what is done start.
const USED: u8 = 100;
/// Where the bytes of what is forbidden to others start.
const FORBIDDEN: u8 = 200;

/// How long the operations of a killed process may take: longer than a medium that works. It is also
/// how long one waits in vain for a process that this user may not look into.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long to wait before looking again.
const PAUSE: Duration = Duration::from_millis(5);

/// [`Lock::Read`]: reads; others may not write and not resize.
const READ: &[u8] = &[USED, FORBIDDEN + 1, FORBIDDEN + 3];
/// [`Lock::Write`]: reads, writes and resizes; others may do nothing that changes the file.
const WRITE: &[u8] = &[USED, USED + 1, USED + 3, FORBIDDEN + 1, FORBIDDEN + 2, FORBIDDEN + 3];

/// The locks of one handle.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    held: Mutex<&'static [u8]>,
}

impl Locks {
    /// Takes `lock` on `file` in place of what is held, or leaves that as it was.
    pub(crate) fn take(&self, file: &File, lock: Lock) -> io::Result<()> {
        let wanted = match lock {
            Lock::None => &[],
            Lock::Read => READ,
            Lock::Write => WRITE,
        };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        while let Err(refusal) = change(file, &mut held, wanted) {
            let byte = match refusal {
                Refusal::Held(byte) => byte,
                Refusal::Failed(errno) => return Err(errno.into()),
            };
            let holder = holder::find(file, byte);
            if holder.is_some() || begun.elapsed() > PATIENCE {
                let text = holder::describe(holder);
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
            }
            // As far as one can see, whoever took it is dead.
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Lets go of what is held, before `file` is closed.
    ///
    /// Closing alone would not do: a child that another thread is just starting has a duplicate
    /// of every handle until it becomes another program, and would keep the locks until then.
    pub(crate) fn release(&self, file: &File) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for byte in std::mem::take(&mut *held) {
            // They go with the last duplicate in any case.
            let _released = release(file, *byte);
        }
    }
}

/// The byte that speaks against holding `byte`.
fn opponent(byte: u8) -> u8 {
    if byte >= FORBIDDEN { byte - FORBIDDEN + USED } else { byte - USED + FORBIDDEN }
}

/// Takes `wanted` in place of `held`, or leaves that as it was.
fn change(file: &File, held: &mut &'static [u8], wanted: &'static [u8]) -> Result<(), Refusal> {
    let added = || wanted.iter().filter(|byte| !held.contains(byte));
    let taken = added()
        .try_for_each(|byte| take_shared(file, *byte))
        .and_then(|()| wanted.iter().try_for_each(|byte| look_for(file, opponent(*byte))));
    if let Err(refusal) = taken {
        added().try_for_each(|byte| release(file, *byte))?;
        return Err(refusal);
    }
    held.iter().filter(|byte| !wanted.contains(byte)).try_for_each(|byte| release(file, *byte))?;
    *held = wanted;
    Ok(())
}

/// Why a lock was not taken.
enum Refusal {
    /// Another handle holds this byte.
    Held(u8),
    Failed(Errno),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

fn take_shared(file: &File, byte: u8) -> Result<(), Refusal> {
    let request = request(libc::F_RDLCK, byte);
    match fcntl(file, FcntlArg::F_OFD_SETLK(&request)) {
        Ok(_) => Ok(()),
        Err(Errno::EAGAIN | Errno::EACCES) => Err(Refusal::Held(byte)),
        Err(errno) => Err(Refusal::Failed(errno)),
    }
}

/// Refuses if another handle holds `byte`.
fn look_for(file: &File, byte: u8) -> Result<(), Refusal> {
    let mut answer = request(libc::F_WRLCK, byte);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut answer)).map_err(Refusal::Failed)?;
    if libc::c_int::from(answer.l_type) == libc::F_UNLCK {
        Ok(())
    } else {
        Err(Refusal::Held(byte))
    }
}

fn release(file: &File, byte: u8) -> Result<(), Errno> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&request(libc::F_UNLCK, byte)))?;
    Ok(())
}

fn request(kind: libc::c_int, byte: u8) -> libc::flock {
    libc::flock {
        l_type: kind.try_into().expect("the kinds of locks are 0, 1 and 2"),
        l_whence: 0, // SEEK_SET
        l_start: byte.into(),
        l_len: 1,
        l_pid: 0, // as OFD locks want it
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::*;

    /// A lock of an open file that no process has, because it lies in the queue of a socket.
    fn locked_by_nobody(path: &tempfile::NamedTempFile) -> (UnixStream, UnixStream) {
        let file = path.reopen().unwrap();
        take_shared(&file, FORBIDDEN + 1).ok().unwrap();
        let (sender, receiver) = UnixStream::pair().unwrap();
        let files = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&files)));
        sendmsg(&sender, &[IoSlice::new(b"x")], &mut ancillary, SendFlags::empty()).unwrap();
        (sender, receiver)
    }

    #[test]
    fn what_a_dead_process_left_is_waited_for_and_not_for_ever() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let queue = locked_by_nobody(&path);
        let (file, locks) = (path.reopen().unwrap(), Locks::default());
        let begun = Instant::now();
        let refused = locks.take(&file, Lock::Write).unwrap_err();
        assert_eq!(refused.to_string(), "in use by another process");
        assert!(begun.elapsed() >= PATIENCE);
        thread::scope(|scope| {
            let waits = scope.spawn(|| locks.take(&file, Lock::Write));
            drop(queue);
            waits.join().unwrap().unwrap();
        });
    }
}
