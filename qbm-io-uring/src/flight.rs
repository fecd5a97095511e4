//! An operation under way, as a future.

use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::operation::Operation;
use crate::pool::{self, SharedRing, lock};
use crate::ring::Token;

/// An operation in a ring. Dropped before its end it waits for it, so that none goes on unseen.
pub(crate) struct Flight {
    ring: SharedRing,
    token: Token,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The kernel need not know yet: whoever polls it may have more to start.
    Begun,
    Polled,
    Landed,
}

impl Flight {
    /// Starts `operation` in the ring of this thread, or gives it back if that has no room.
    pub(crate) fn begin(operation: Operation) -> Result<Self, Operation> {
        let Ok(ring) = pool::own() else { return Err(operation) };
        let token = lock(&ring).start(operation)?;
        Ok(Self { ring, token, stage: Stage::Begun })
    }
}

impl Future for Flight {
    /// What became of it: bytes, or the error.
    type Output = (Operation, io::Result<usize>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = mem::replace(&mut self.stage, Stage::Polled) == Stage::Polled;
        let token = self.token;
        let landed = {
            let mut ring = lock(&self.ring);
            match ring.take(token) {
                None if polled => {
                    ring.wait();
                    ring.take(token)
                }
                landed => landed,
            }
        };
        let Some((operation, result)) = landed else {
            // Not this one, or not yet: whoever polls others has them polled first.
            context.waker().wake_by_ref();
            return Poll::Pending;
        };
        self.stage = Stage::Landed;
        let count = usize::try_from(result);
        Poll::Ready((operation, count.map_err(|_| io::Error::from_raw_os_error(-result))))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.stage == Stage::Landed {
            return;
        }
        let mut ring = lock(&self.ring);
        while ring.take(self.token).is_none() {
            ring.wait();
        }
    }
}
