//! A file of a model: bytes in memory, on loom's own lock, with what a power cut would leave.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::sync::{Mutex, MutexGuard};
use crate::track::wait::WaitList;
use crate::{BlockStatus, Buffer, ByteRange, Identity, Limits, Lock, Persist, Storage, Unmap};

/// What is asserted when bytes may have reached the medium.
pub(super) type Watch = Arc<dyn Fn(ByteRange) + Send + Sync>;

/// A file. Clones are handles to the same one.
#[derive(Clone)]
pub(super) struct File {
    medium: Arc<Medium>,
    watch: Option<Watch>,
}

struct Medium {
    state: Mutex<State>,
    /// Woken when a write has been submitted or has ended.
    changed: WaitList,
    /// Whether writes end when a [device](File::serve) sees to them, not in their caller.
    by_device: bool,
}

/// Before a write is complete any part of it may be on the medium; what is asserted of durable
/// bytes is what surely is.
#[derive(Default)]
struct State {
    /// What reads see.
    now: Vec<u8>,
    /// What a power cut would leave: each byte, and the number of the write that it is from.
    durable: Vec<(usize, u8)>,
    /// Complete writes, in order.
    complete: Vec<(usize, Vec<u8>)>,
    /// Complete writes before this one are durable, or have been lost by a failed sync.
    settled: usize,
    /// Writes by their number, with their results once they have ended.
    submitted: Vec<Write>,
    /// Syncs that will fail.
    failing: usize,
    /// Whether the device is to end.
    retired: bool,
}

struct Write {
    offset: usize,
    bytes: Vec<u8>,
    persist: Persist,
    result: Option<Result<(), ()>>,
}

impl File {
    /// A file of these bytes, all of them durable.
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self::of(bytes, false)
    }

    /// The same, but its writes end when a device sees to them.
    pub(super) fn by_device(bytes: &[u8]) -> Self {
        Self::of(bytes, true)
    }

    fn of(bytes: &[u8], by_device: bool) -> Self {
        let durable = bytes.iter().map(|byte| (0, *byte)).collect();
        let state = State { now: bytes.to_vec(), durable, ..State::default() };
        let medium = Medium { state: Mutex::new(state), changed: WaitList::default(), by_device };
        Self { medium: Arc::new(medium), watch: None }
    }

    /// A handle whose writes call `watch` once they are submitted.
    pub(super) fn watched(self, watch: Watch) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// Lets the next sync fail.
    pub(super) fn fail_a_sync(&self) {
        self.state().failing += 1;
    }

    /// What reads see.
    pub(super) fn now(&self) -> Vec<u8> {
        self.state().now.clone()
    }

    /// What a power cut would surely leave.
    pub(super) fn durable(&self) -> Vec<u8> {
        self.state().durable.iter().map(|(_, byte)| *byte).collect()
    }

    /// The bytes of the writes that have been submitted and have not ended.
    pub(super) fn under_way(&self) -> Vec<Vec<u8>> {
        let state = self.state();
        let under_way = state.submitted.iter().filter(|write| write.result.is_none());
        under_way.map(|write| write.bytes.clone()).collect()
    }

    /// Ends writes as soon as they are submitted, the latest first, until the device is
    /// [retired](Self::retire).
    pub(super) async fn serve(&self) {
        while let Some(number) = self.medium.changed.until(|| self.state().next_to_end()).await {
            self.end(number).ok();
        }
    }

    /// Lets the device end once nothing is under way.
    pub(super) fn retire(&self) {
        self.state().retired = true;
        self.medium.changed.wake_all();
    }

    fn submit(&self, offset: u64, bytes: &[u8], persist: Persist) -> usize {
        let offset = usize::try_from(offset).expect("a small file");
        let number = {
            let mut state = self.state();
            state.submitted.push(Write { offset, bytes: bytes.to_vec(), persist, result: None });
            state.submitted.len() - 1
        };
        if let Some(watch) = &self.watch {
            watch(ByteRange::new(offset as u64, bytes.len() as u64));
        }
        if self.medium.by_device {
            self.medium.changed.wake_all();
        }
        number
    }

    fn end(&self, number: usize) -> Result<(), ()> {
        let result = self.state().end(number);
        self.medium.changed.wake_all();
        result
    }

    async fn write(&self, offset: u64, bytes: &[u8], persist: Persist) -> io::Result<()> {
        let number = self.submit(offset, bytes, persist);
        let result = if self.medium.by_device {
            self.medium.changed.until(|| self.state().submitted[number].result).await
        } else {
            self.end(number)
        };
        result.map_err(|()| io::Error::other("the medium failed"))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.medium.state.lock().expect("a thread that fails ends the model")
    }
}

impl State {
    /// The write that the device sees to next; `None` within if there will be none.
    fn next_to_end(&self) -> Option<Option<usize>> {
        let waiting = self.submitted.iter().rposition(|write| write.result.is_none());
        if self.retired { Some(waiting) } else { waiting.map(Some) }
    }

    fn end(&mut self, number: usize) -> Result<(), ()> {
        let Write { offset, bytes, persist, .. } = &self.submitted[number];
        let (offset, bytes, persist) = (*offset, bytes.clone(), *persist);
        let end = offset + bytes.len();
        if end > self.now.len() {
            self.resize(end);
        }
        self.now[offset..end].copy_from_slice(&bytes);
        self.complete.push((offset, bytes));
        let result = match persist {
            Persist::Later => Ok(()),
            Persist::Now if self.takes_a_failure() => {
                self.settled = self.complete.len();
                Err(())
            }
            Persist::Now => {
                self.make_durable(self.complete.len() - 1);
                Ok(())
            }
        };
        self.submitted[number].result = Some(result);
        result
    }

    fn resize(&mut self, length: usize) {
        self.now.resize(length, 0);
        self.durable.resize(length, (0, 0));
    }

    fn takes_a_failure(&mut self) -> bool {
        let fails = self.failing > 0;
        self.failing = self.failing.saturating_sub(1);
        fails
    }

    /// Ends a sync of the first `complete` writes. A failed one is told once, and its writes
    /// count as clean from then on.
    fn end_sync(&mut self, complete: usize) -> Result<(), ()> {
        if self.takes_a_failure() {
            self.settled = self.settled.max(complete);
            return Err(());
        }
        (self.settled..complete).for_each(|number| self.make_durable(number));
        self.settled = self.settled.max(complete);
        Ok(())
    }

    fn make_durable(&mut self, number: usize) {
        let (offset, bytes) = &self.complete[number];
        for (durable, byte) in self.durable.iter_mut().skip(*offset).zip(bytes) {
            if durable.0 <= number {
                *durable = (number, *byte);
            }
        }
    }
}

impl Storage for File {
    async fn read_at(&self, offset: u64, mut buffer: Buffer) -> io::Result<Buffer> {
        let offset = usize::try_from(offset).expect("a small file");
        let state = self.state();
        for (index, byte) in buffer.iter_mut().enumerate() {
            *byte = state.now.get(offset + index).copied().unwrap_or(0);
        }
        Ok(buffer)
    }

    async fn write_at(&self, offset: u64, buffer: Buffer, persist: Persist) -> io::Result<Buffer> {
        self.write(offset, &buffer, persist).await.map(|()| buffer)
    }

    async fn write_zeroes(&self, range: ByteRange, _unmap: Unmap) -> io::Result<()> {
        let length = usize::try_from(range.length()).expect("a small file");
        self.write(range.start(), &vec![0; length], Persist::Later).await
    }

    async fn discard(&self, range: ByteRange) -> io::Result<()> {
        self.write_zeroes(range, Unmap::Allowed).await
    }

    async fn sync(&self) -> io::Result<()> {
        let complete = self.state().complete.len();
        let ended = self.state().end_sync(complete);
        ended.map_err(|()| io::Error::other("the medium failed"))
    }

    async fn invalidate_cache(&self) -> io::Result<()> {
        Ok(())
    }

    async fn settle(&self) {
        self.medium.changed.until(|| self.under_way().is_empty().then_some(())).await;
    }

    async fn len(&self) -> io::Result<u64> {
        Ok(self.state().now.len() as u64)
    }

    async fn set_len(&self, length: u64) -> io::Result<()> {
        self.state().resize(usize::try_from(length).expect("a small file"));
        Ok(())
    }

    async fn block_status(&self, range: ByteRange) -> io::Result<BlockStatus> {
        Ok(BlockStatus { length: range.length(), data: true })
    }

    async fn identity(&self) -> io::Result<Option<Identity>> {
        Ok(None)
    }

    async fn lock(&self, _lock: Lock) -> io::Result<()> {
        Ok(())
    }

    fn limits(&self) -> Limits {
        Limits { alignment: 1, max_transfer: 1 << 20 }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("File of a model")
    }
}
