//! A disk in memory, of which some places misbehave.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use qbm_core::{Access, Buffer, ByteRange, Persist, Unmap};
use qbm_nbd::protocol::ErrorCode;
use qbm_nbd::{Context, Disk, Export, Extent, Fault, Limits, Pace, Server, Tls};

pub(crate) const SIZE: u64 = 64 << 20;

/// Writes that touch this byte wait until [`MemoryDisk::open`].
pub(crate) const SLOW: u64 = SIZE - 1;
/// Reads and writes that begin at this byte fail.
pub(crate) const BROKEN: u64 = SIZE - 8;
/// Reads that begin at this byte panic.
pub(crate) const PANICS: u64 = SIZE - 16;

#[derive(Default)]
pub(crate) struct MemoryDisk {
    bytes: Mutex<Vec<u8>>,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) durable_writes: AtomicU64,
    pub(crate) kept_zeroes: AtomicU64,
    /// What the operator was told.
    pub(crate) reports: Arc<Mutex<Vec<String>>>,
    gate: Mutex<bool>,
    opened: Condvar,
}

impl MemoryDisk {
    pub(crate) fn new() -> Arc<Self> {
        let bytes = Mutex::new(vec![0; usize::try_from(SIZE).unwrap()]);
        Arc::new(Self { bytes, ..Self::default() })
    }

    /// Lets the writes go on that wait.
    pub(crate) fn open(&self) {
        *self.gate.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn wait(&self) {
        let gate = self.gate.lock().unwrap();
        let closed = |open: &mut bool| !*open;
        let limit = Duration::from_secs(20);
        let (_gate, waited) = self.opened.wait_timeout_while(gate, limit, closed).unwrap();
        assert!(!waited.timed_out(), "nobody opened the gate");
    }

    pub(crate) fn fill(&self, offset: u64, bytes: &[u8]) {
        let offset = usize::try_from(offset).unwrap();
        self.bytes.lock().unwrap()[offset..][..bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn contents(&self, offset: u64, length: usize) -> Vec<u8> {
        self.bytes.lock().unwrap()[usize::try_from(offset).unwrap()..][..length].to_vec()
    }

    /// A server of this disk, to which only those come who speak TLS.
    pub(crate) fn server_with(self: &Arc<Self>, tls: Tls, limits: Limits) -> Arc<Server> {
        let server = Arc::into_inner(self.server(limits)).unwrap();
        Arc::new(server.with_tls(tls))
    }

    /// A server of this disk as `disk` for writing and `mirror` for reading.
    pub(crate) fn server(self: &Arc<Self>, limits: Limits) -> Arc<Server> {
        let export = |name: &str, access| Export {
            name: name.to_owned(),
            description: format!("the {name}"),
            disk: Arc::clone(self) as Arc<dyn Disk>,
            access,
            bitmaps: vec!["b0".to_owned(), "b1".to_owned()],
        };
        let exports = vec![export("disk", Access::Write), export("mirror", Access::Read)];
        let reports = Arc::clone(&self.reports);
        let report = move |line: &str| reports.lock().unwrap().push(line.to_owned());
        Arc::new(Server::new(exports, limits, report))
    }
}

/// A disk and its server.
pub(crate) fn served() -> (Arc<MemoryDisk>, Arc<Server>) {
    let disk = MemoryDisk::new();
    let server = disk.server(Limits::default());
    (disk, server)
}

fn broken() -> Fault {
    let detail = Some("/secret/path: Input/output error".to_owned());
    Fault { code: ErrorCode::Io, what: "the storage failed", detail }
}

impl Disk for MemoryDisk {
    fn size(&self) -> u64 {
        SIZE
    }

    fn read(&self, offset: u64, mut buffer: Buffer) -> Result<Buffer, Fault> {
        assert_ne!(offset, PANICS, "a bug of the disk, planted by this test");
        if offset == BROKEN {
            return Err(broken());
        }
        let contents = self.contents(offset, buffer.len());
        self.bytes_read.fetch_add(contents.len() as u64, Ordering::SeqCst);
        buffer.copy_from_slice(&contents);
        Ok(buffer)
    }

    fn write(&self, offset: u64, buffer: Buffer, persist: Persist) -> Result<Buffer, Fault> {
        if offset == BROKEN {
            return Err(broken());
        }
        if offset + buffer.len() as u64 > SLOW {
            self.wait();
        }
        self.fill(offset, &buffer);
        if persist == Persist::Now {
            self.durable_writes.fetch_add(1, Ordering::SeqCst);
        }
        Ok(buffer)
    }

    fn may_wait(&self, _: ByteRange) -> bool {
        // Wrong for SLOW, as it may be: it is a hint.
        false
    }

    fn write_zeroes(&self, range: ByteRange, unmap: Unmap, pace: Pace) -> Result<(), Fault> {
        if pace == Pace::Fast {
            return Err(Fault::of_client(ErrorCode::NotSupported, "it is slow"));
        }
        if unmap == Unmap::Forbidden {
            self.kept_zeroes.fetch_add(1, Ordering::SeqCst);
        }
        self.fill(range.start(), &vec![0; usize::try_from(range.length()).unwrap()]);
        Ok(())
    }

    fn discard(&self, range: ByteRange) -> Result<(), Fault> {
        self.fill(range.start(), &vec![0; usize::try_from(range.length()).unwrap()]);
        Ok(())
    }

    fn flush(&self) -> Result<(), Fault> {
        self.flushes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// By MiB: `b0` has every other one, `b1` the first. The depth changes every 512 bytes.
    fn extents(
        &self,
        context: &Context,
        range: ByteRange,
        most: usize,
    ) -> Result<Vec<Extent>, Fault> {
        let shift = if *context == Context::AllocationDepth { 9 } else { 20 };
        let flags = |piece: u64| match context {
            Context::Allocation => 3,
            Context::DirtyBitmap(name) if name == "b1" => u32::from(piece == 0),
            _ => u32::from(piece.is_multiple_of(2)),
        };
        let mut extents = Vec::new();
        let mut offset = range.start();
        while offset < range.end() && extents.len() < most {
            let end = (((offset >> shift) + 1) << shift).min(range.end());
            extents.push(Extent { length: end - offset, flags: flags(offset >> shift) });
            offset = end;
        }
        Ok(extents)
    }
}
