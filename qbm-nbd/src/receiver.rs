//! The receiving side of a connection, with the bytes that came and were not asked for yet.

use std::io;

/// Where the bytes come from.
pub(crate) trait Source {
    /// Receives some bytes, as soon as there are any; 0 means that no more will come.
    ///
    /// # Errors
    ///
    /// If the connection is broken.
    fn receive_some(&self, into: &mut [u8]) -> io::Result<usize>;
}

/// Bytes that one call may bring beyond those asked for: some dozens of requests, or a few with
/// short payloads.
const AHEAD: usize = 32 << 10;

/// The same after a long payload: what follows is likely the header of another, whose bytes had
/// better go straight to where they belong.
const NOT_FAR_AHEAD: usize = 512;

/// What has been received and not been taken.
#[derive(Debug)]
pub(crate) struct Receiver {
    bytes: Box<[u8]>,
    /// How many of them the next call may bring.
    ahead: usize,
    /// The bytes `start..end` wait to be taken.
    start: usize,
    end: usize,
}

impl Receiver {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; AHEAD].into(), ahead: AHEAD, start: 0, end: 0 }
    }

    /// Whether bytes have come that nobody has taken.
    pub(crate) fn has_more(&self) -> bool {
        self.start < self.end
    }

    /// Fills `into`.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] if the peer sends no more, and those of the source.
    pub(crate) fn fill(
        &mut self,
        source: &(impl Source + ?Sized),
        into: &mut [u8],
    ) -> io::Result<()> {
        let mut filled = 0;
        while filled < into.len() {
            if self.has_more() {
                filled += self.take(&mut into[filled..]);
            } else if into.len() - filled >= AHEAD {
                // Straight to where it belongs.
                filled += some(source, &mut into[filled..])?;
                self.ahead = NOT_FAR_AHEAD;
            } else {
                self.receive(source)?;
            }
        }
        Ok(())
    }

    /// Drops the next `count` bytes.
    ///
    /// # Errors
    ///
    /// As for [`fill`](Self::fill).
    pub(crate) fn skip(
        &mut self,
        source: &(impl Source + ?Sized),
        mut count: u64,
    ) -> io::Result<()> {
        while count > 0 {
            if !self.has_more() {
                self.receive(source)?;
            }
            let here = self.end - self.start;
            let skipped = usize::try_from(count).map_or(here, |count| count.min(here));
            self.start += skipped;
            count -= skipped as u64;
        }
        Ok(())
    }

    fn take(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.end - self.start);
        into[..count].copy_from_slice(&self.bytes[self.start..][..count]);
        self.start += count;
        count
    }

    /// Receives, once all has been taken.
    fn receive(&mut self, source: &(impl Source + ?Sized)) -> io::Result<()> {
        self.end = some(source, &mut self.bytes[..self.ahead])?;
        self.start = 0;
        if self.end == self.ahead {
            // There is more.
            self.ahead = AHEAD;
        }
        Ok(())
    }
}

/// Receives at least one byte.
fn some(source: &(impl Source + ?Sized), into: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.receive_some(into) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
