//! One `io_uring` and the operations in it: the only module of the project with unsafe code.
//!
//! # Invariants
//!
//! * An operation is in a slot, with its buffer and its file, from before the kernel is told of it
//!   until after its completion has been reaped. Nobody reaches the buffer meanwhile.
//! * A ring does not end before its operations; if it cannot wait for them, it leaks them.

use std::io::{
    self,
    ErrorKind::{Interrupted, OutOfMemory, ResourceBusy, WouldBlock},
};
use std::mem;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use io_uring::{IoUring, opcode, squeue, types};
use qbm_core::Persist;
use rustix::io::ReadWriteFlags;

use crate::file::Files;
use crate::operation::{Call, Operation};

/// Operations that are in a ring at a time.
pub(crate) const SLOTS: u32 = 64;

/// The most bytes of one operation; the rest is a short transfer. The kernel moves at most 2 GiB.
const MOST_BYTES: u32 = 1 << 30;

/// A ring of the kernel. Any thread may start operations in it and wait for them.
pub(crate) struct Ring {
    /// Has as many entries as there are slots, and room for twice as many completions.
    ring: IoUring,
    slots: Vec<Slot>,
}

/// The place of an operation, until it is taken out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token(usize);

#[derive(Default)]
struct Slot {
    operation: Option<Operation>,
    /// What the kernel has said, once it is done: bytes, or an error's negated number.
    result: Option<i32>,
}

impl Slot {
    fn is_under_way(&self) -> bool {
        self.operation.is_some() && self.result.is_none()
    }

    fn is_for(&self, file: &Files) -> bool {
        self.operation.as_ref().is_some_and(|own| std::ptr::eq(&raw const *own.file, file))
    }
}

impl Ring {
    /// An empty ring, unless the kernel has none for us.
    pub(crate) fn new() -> io::Result<Self> {
        let ring = IoUring::new(SLOTS)?;
        // Where making one is allowed, using it may still not be.
        ring.submit()?;
        Ok(Self { ring, slots: (0..SLOTS).map(|_| Slot::default()).collect() })
    }

    /// Starts `operation`, or gives it back if there is no free slot. The kernel is told of it by the
    /// next [`wait`](Self::wait).
    pub(crate) fn start(&mut self, operation: Operation) -> Result<Token, Operation> {
        let Some(index) = self.slots.iter().position(|slot| slot.operation.is_none()) else {
            return Err(operation);
        };
        let operation = self.slots[index].operation.insert(operation);
        operation.file.begin(operation.call);
        let entry = entry(operation).user_data(index as u64);
        // SAFETY: the entry's address and length are those of `operation.buffer`, which is on the heap,
        // and its descriptor is one of `operation.file`'s. The slot has both, and is emptied by `take`
        // and `drop` alone: not before `reap` has seen the completion, and until then nothing reads or
        // writes the buffer. Where `drop` cannot wait for that, it leaks the slots.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.expect("there are as many entries as slots");
        Ok(Token(index))
    }

    /// The operation of `token` and what became of it, if it is done. It leaves the ring.
    pub(crate) fn take(&mut self, token: Token) -> Option<(Operation, i32)> {
        self.reap();
        let slot = &mut self.slots[token.0];
        slot.result.take().and_then(|result| Some((slot.operation.take()?, result)))
    }

    /// Tells the kernel of all that was started, and waits until any of it is done, or a moment.
    /// Panics if the ring cannot be used, which would be a mistake of ours; it keeps its operations.
    pub(crate) fn wait(&mut self) {
        match self.ring.submit_and_wait(1).map_err(|error| error.kind()) {
            Ok(_) | Err(Interrupted) => {}
            // The kernel is short of memory.
            Err(WouldBlock | ResourceBusy | OutOfMemory) => std::thread::yield_now(),
            Err(kind) => panic!("a ring that was made can be used: {kind}"),
        }
        self.reap();
    }

    /// Waits until none of the operations of `file` in it is under way.
    pub(crate) fn finish(&mut self, file: &Files) {
        self.reap();
        while self.slots.iter().any(|slot| slot.is_under_way() && slot.is_for(file)) {
            self.wait();
        }
    }

    fn reap(&mut self) {
        for completion in self.ring.completion() {
            let index = usize::try_from(completion.user_data()).expect("the index of a slot");
            let slot = &mut self.slots[index];
            let operation = slot.operation.as_ref().expect("what is done was under way");
            operation.file.end(operation.call, completion.result());
            slot.result = Some(completion.result());
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        while self.slots.iter().any(Slot::is_under_way) {
            if catch_unwind(AssertUnwindSafe(|| self.wait())).is_err() {
                mem::forget(mem::take(&mut self.slots));
            }
        }
    }
}

/// What the kernel is told of `operation`.
fn entry(operation: &mut Operation) -> squeue::Entry {
    let Operation { file, call, offset, buffer } = operation;
    let bytes = buffer.as_deref_mut().unwrap_or_default();
    let length = u32::try_from(bytes.len()).map_or(MOST_BYTES, |length| length.min(MOST_BYTES));
    let address = bytes.as_mut_ptr();
    let file = types::Fd(file.descriptor().as_raw_fd());
    match *call {
        Call::Read => opcode::Read::new(file, address, length).offset(*offset).build(),
        Call::Write(persist) => {
            let flags = if persist == Persist::Now { ReadWriteFlags::DSYNC.bits() } else { 0 };
            let write = opcode::Write::new(file, address, length).offset(*offset);
            write.rw_flags(flags.cast_signed()).build()
        }
        Call::Sync => opcode::Fsync::new(file).flags(types::FsyncFlags::DATASYNC).build(),
    }
}
