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

use crate::file::Files;
use crate::operation::{Call, Operation, flags_of};
use crate::slot::Slot;

/// Operations that are in a ring at a time.
pub(crate) const SLOTS: u32 = 64;

/// A ring of the kernel. Any thread may start operations in it and wait for them.
pub(crate) struct Ring {
    /// Has as many entries as there are slots, and room for twice as many completions.
    ring: IoUring,
    slots: Vec<Slot>,
}

/// The place of an operation, until it is taken out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token(usize);

impl Ring {
    /// An empty ring, unless the kernel has none for us.
    pub(crate) fn new() -> io::Result<Self> {
        let ring = IoUring::new(SLOTS)?;
        // Where making one is allowed, using it may still not be.
        ring.submit()?;
        Ok(Self { ring, slots: (0..SLOTS).map(|_| Slot::default()).collect() })
    }

    /// Takes `operation`, or gives it back if there is no free slot.
    pub(crate) fn start(&mut self, operation: Operation) -> Result<Token, Operation> {
        let Some(index) = self.slots.iter().position(Slot::is_free) else { return Err(operation) };
        operation.file.begin(operation.call);
        self.slots[index] = Slot::Begun(operation);
        Ok(Token(index))
    }

    /// The operation of `token` and what became of it, if it is done. It leaves the ring.
    pub(crate) fn take(&mut self, token: Token) -> Option<(Operation, i32)> {
        self.reap();
        self.slots[token.0].take()
    }

    /// Lets the kernel do all that was started, and waits until any of it is done, or a moment.
    /// Panics if the ring cannot be used, which would be a mistake of ours; it keeps its operations.
    pub(crate) fn wait(&mut self) {
        if self.perform_alone() {
            return;
        }
        for (index, slot) in (0..).zip(&mut self.slots) {
            let Some(operation) = slot.tell() else { continue };
            let entry = entry(operation).user_data(index);
            // SAFETY: the entry's address and length are those of `operation.buffer`, on the heap, and
            // its descriptor is one of `operation.file`'s. The slot has both, and keeps them untouched
            // until it is told of the completion, which is in `reap`; it is itself kept until then, or
            // leaked, by `drop`.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            pushed.expect("there are as many entries as slots");
        }
        match self.ring.submit_and_wait(1).map_err(|error| error.kind()) {
            Ok(_) | Err(Interrupted) => {}
            // The kernel is short of memory.
            Err(WouldBlock | ResourceBusy | OutOfMemory) => std::thread::yield_now(),
            Err(kind) => panic!("a ring that was made can be used: {kind}"),
        }
        self.reap();
    }

    /// Does the only operation that there is by a plain call, which is sooner done; whether it was so.
    fn perform_alone(&mut self) -> bool {
        let mut open = self.slots.iter_mut().filter(|slot| slot.is_open());
        match (open.next(), open.next()) {
            (Some(only), None) => only.perform(),
            _ => false,
        }
    }

    /// Waits until none of the operations of `file` in it is under way.
    pub(crate) fn finish(&mut self, file: &Files) {
        self.reap();
        while self.slots.iter().any(|slot| slot.is_open_for(file)) {
            self.wait();
        }
    }

    fn reap(&mut self) {
        for completion in self.ring.completion() {
            let index = usize::try_from(completion.user_data()).expect("the index of a slot");
            self.slots[index].end(completion.result());
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
    // What is more is a short transfer.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let address = bytes.as_mut_ptr();
    let file = types::Fd(file.descriptor().as_raw_fd());
    match *call {
        Call::Read => opcode::Read::new(file, address, length).offset(*offset).build(),
        Call::Write(persist) => {
            let write = opcode::Write::new(file, address, length).offset(*offset);
            write.rw_flags(flags_of(persist).bits().cast_signed()).build()
        }
        Call::Sync => opcode::Fsync::new(file).flags(types::FsyncFlags::DATASYNC).build(),
    }
}
