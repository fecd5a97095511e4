//! The place of an operation in a ring, from its beginning until somebody takes it out.
//!
//! # Invariant
//!
//! While an operation is under way in the kernel, it stays in its slot, and its buffer untouched: the
//! ring's unsafe code relies on it.

use std::mem;

use crate::file::Files;
use crate::operation::Operation;

#[derive(Default)]
pub(crate) enum Slot {
    #[default]
    Free,
    /// The kernel has not been told.
    Begun(Operation),
    UnderWay(Operation),
    /// With what the kernel has said: bytes, or an error's negated number.
    Done(Operation, i32),
}

impl Slot {
    pub(crate) fn is_free(&self) -> bool {
        matches!(self, Self::Free)
    }

    pub(crate) fn is_under_way(&self) -> bool {
        matches!(self, Self::UnderWay(_))
    }

    /// Whether it has an operation that is not done.
    pub(crate) fn is_open(&self) -> bool {
        self.open().is_some()
    }

    /// Whether it has an operation of `file` that is not done.
    pub(crate) fn is_open_for(&self, file: &Files) -> bool {
        self.open().is_some_and(|own| std::ptr::eq(&raw const *own.file, file))
    }

    fn open(&self) -> Option<&Operation> {
        match self {
            Self::Begun(operation) | Self::UnderWay(operation) => Some(operation),
            Self::Free | Self::Done(..) => None,
        }
    }

    /// If its operation has only begun: it is under way from now on.
    pub(crate) fn tell(&mut self) -> Option<&mut Operation> {
        if !matches!(self, Self::Begun(_)) {
            return None;
        }
        if let Self::Begun(operation) = mem::take(self) {
            *self = Self::UnderWay(operation);
        }
        match self {
            Self::UnderWay(operation) => Some(operation),
            _ => None,
        }
    }

    /// Does its operation by a plain call, if it has only begun; whether it had.
    pub(crate) fn perform(&mut self) -> bool {
        let Self::Begun(operation) = self else { return false };
        let result = operation.perform();
        self.end(result);
        true
    }

    /// Its operation is done.
    pub(crate) fn end(&mut self, result: i32) {
        *self = match mem::take(self) {
            Self::Begun(operation) | Self::UnderWay(operation) => {
                operation.file.end(operation.call, result);
                Self::Done(operation, result)
            }
            other => other,
        };
    }

    /// Takes the operation out, if it is done.
    pub(crate) fn take(&mut self) -> Option<(Operation, i32)> {
        if !matches!(self, Self::Done(..)) {
            return None;
        }
        match mem::take(self) {
            Self::Done(operation, result) => Some((operation, result)),
            _ => None,
        }
    }
}
