//! Answering a request: what is done to the disk, and what the client is told.

use std::io;

use qbm_core::zeroes::runs;
use qbm_core::{Buffer, ByteRange, Persist, Unmap};

use super::Connection;
use super::memory::Desk;
use super::outbox::When;
use super::request::{Incoming, Payload, check};
use crate::disk::{Context, Fault, Pace};
use crate::limits::{MAX_CACHED, MAX_EXTENTS, MAX_REQUEST};
use crate::protocol::{
    Command, Data, ErrorCode, Malformed, Replies, Request, Style, command_flag as flag,
};

/// The least run of zeroes that is told apart within a read, in bytes. A shorter one costs more to
/// tell than to send.
const GRAIN: usize = 64 << 10;

/// Why a request was not answered with success.
enum Failure {
    /// The client is told, and the connection goes on.
    Fault(Fault),
    /// The client cannot be told anything any more.
    Wire(io::Error),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Wire(error)
    }
}

/// How the client is told.
#[derive(Clone, Copy)]
struct Answer<'c> {
    connection: &'c Connection<'c>,
    replies: Replies,
    when: When,
}

impl Answer<'_> {
    /// Sends a reply, `data` after its `head`.
    fn send(&self, head: &[u8], data: &[u8]) -> io::Result<()> {
        self.connection.send(head, data, self.when)
    }
}

impl Connection<'_> {
    /// Does what is asked for and replies.
    ///
    /// # Errors
    ///
    /// If the reply cannot be sent.
    pub(super) fn answer(
        &self,
        incoming: Incoming,
        desk: &mut Desk<'_>,
        when: When,
    ) -> io::Result<()> {
        let Request { cookie, offset, .. } = incoming.request;
        let replies = Replies { style: self.style, cookie, offset };
        let answer = Answer { connection: self, replies, when };
        match self.perform(&incoming.request, incoming.payload, answer, desk) {
            Ok(()) => Ok(()),
            Err(Failure::Wire(error)) => Err(error),
            Err(Failure::Fault(fault)) => {
                self.reports.note(self.statistics, &self.export.name, &fault);
                answer.send(&answer.replies.error(fault.code, fault.what), &[])
            }
        }
    }

    fn perform(
        &self,
        request: &Request,
        payload: Payload,
        answer: Answer<'_>,
        desk: &mut Desk<'_>,
    ) -> Result<(), Failure> {
        let (length, ids, payload) = match payload {
            Payload::Skipped => {
                if request.length <= MAX_REQUEST as u64 {
                    check(request, request.length, &self.export, self.style)?;
                }
                let what = "the payload is longer than it may be";
                return Err(Fault::of_client(ErrorCode::Invalid, what).into());
            }
            Payload::Written(done) => {
                done?;
                self.count_write(request.length);
                answer.send(&answer.replies.done(), &[])?;
                return Ok(());
            }
            Payload::Bytes(bytes) if request.command == Command::BlockStatus => {
                let (length, ids) = status_payload(&bytes).map_err(|_| bad_payload())?;
                desk.give_back(bytes);
                (length, Some(ids), None)
            }
            Payload::Bytes(bytes) => (request.length, None, Some(bytes)),
            Payload::None => (request.length, None, None),
        };
        let range = check(request, length, &self.export, self.style)?;
        match request.command {
            Command::Read => return self.read(request, range, answer, desk),
            Command::BlockStatus => return self.block_status(request, range, ids, answer),
            Command::Cache => self.cache(range, desk)?,
            Command::Flush => {
                self.statistics.flushes.add(1);
                self.export.disk.flush()?;
            }
            _ => {
                self.change(request, range, payload, desk)?;
                self.count_write(range.length());
            }
        }
        answer.send(&answer.replies.done(), &[])?;
        Ok(())
    }

    fn count_write(&self, length: u64) {
        self.statistics.writes.add(1);
        self.statistics.bytes_written.add(length);
    }

    /// Writes, zeroes or trims.
    fn change(
        &self,
        request: &Request,
        range: ByteRange,
        payload: Option<Buffer>,
        desk: &mut Desk<'_>,
    ) -> Result<(), Fault> {
        let disk = &self.export.disk;
        if range.is_empty() {
            return Ok(());
        }
        let fua = request.has(flag::FUA);
        if let Some(bytes) = payload {
            let persist = if fua { Persist::Now } else { Persist::Later };
            desk.give_back(self.timed(|disk| disk.write(range.start(), bytes, persist))?);
            return Ok(());
        }
        if request.command == Command::Trim {
            disk.discard(range)?;
        } else {
            let keep = request.has(flag::NO_HOLE);
            let unmap = if keep { Unmap::Forbidden } else { Unmap::Allowed };
            let pace = if request.has(flag::FAST_ZERO) { Pace::Fast } else { Pace::Any };
            disk.write_zeroes(range, unmap, pace)?;
        }
        if fua { disk.flush() } else { Ok(()) }
    }

    fn read(
        &self,
        request: &Request,
        range: ByteRange,
        answer: Answer<'_>,
        desk: &mut Desk<'_>,
    ) -> Result<(), Failure> {
        if range.is_empty() {
            answer.send(&answer.replies.done(), &[])?;
            return Ok(());
        }
        self.statistics.reads.add(1);
        self.statistics.bytes_read.add(range.length());
        if answer.replies.style == Style::Simple || request.has(flag::DF) {
            return self.read_in_one(range, answer, desk);
        }
        for_pieces(range, desk, |offset, piece| {
            let piece = self.timed(|disk| disk.read(offset, piece))?;
            let last = offset + piece.len() as u64 == range.end();
            self.send_runs(offset, &piece, last, answer)?;
            Ok(piece)
        })
    }

    /// Reads, and sends all of it in one chunk or simple reply, whose head comes before all of it is read.
    fn read_in_one(
        &self,
        range: ByteRange,
        answer: Answer<'_>,
        desk: &mut Desk<'_>,
    ) -> Result<(), Failure> {
        let length = usize::try_from(range.length()).expect("at most MAX_REQUEST");
        let head = answer.replies.data(range.start(), length, true);
        let mut sending = None;
        for_pieces(range, desk, |offset, piece| {
            let read = self.timed(|disk| disk.read(offset, piece));
            match &mut sending {
                None => {
                    let piece = read?;
                    if piece.len() == length {
                        answer.send(&head, &piece)?;
                    } else {
                        sending = Some(self.outbox.begin(&*self.wire, (&head, &piece))?);
                    }
                    Ok(piece)
                }
                Some(sending) => {
                    let piece = read.map_err(|fault| {
                        // The client waits for data, and cannot be told of anything else.
                        self.reports.note(self.statistics, &self.export.name, &fault);
                        io::Error::other(fault)
                    })?;
                    sending.go_on(&*self.wire, &piece)?;
                    Ok(piece)
                }
            }
        })
    }

    /// Sends what was read at `offset` as chunks; where it is zero, only that it is. `end` if that ends
    /// the reply.
    fn send_runs(
        &self,
        offset: u64,
        bytes: &[u8],
        end: bool,
        answer: Answer<'_>,
    ) -> io::Result<()> {
        for run in runs(bytes, GRAIN) {
            let start = offset + run.bytes.start as u64;
            let last = end && run.bytes.end == bytes.len();
            if run.zero {
                let length = u32::try_from(run.bytes.len()).expect("at most MAX_REQUEST");
                answer.send(&answer.replies.hole(start, length, last), &[])?;
            } else {
                let head = answer.replies.data(start, run.bytes.len(), last);
                answer.send(&head, &bytes[run.bytes])?;
            }
        }
        Ok(())
    }

    /// Reads ahead, for the page cache of the storage.
    fn cache(&self, range: ByteRange, desk: &mut Desk<'_>) -> Result<(), Failure> {
        let range = range.clip(range.start().saturating_add(MAX_CACHED));
        for_pieces(range, desk, |offset, piece| Ok(self.export.disk.read(offset, piece)?))
    }

    /// Tells the extents in each context, or in those of `ids` only.
    fn block_status(
        &self,
        request: &Request,
        range: ByteRange,
        ids: Option<Vec<u32>>,
        answer: Answer<'_>,
    ) -> Result<(), Failure> {
        let contexts = self.contexts(ids)?;
        if range.is_empty() {
            return Err(Fault::of_client(ErrorCode::Invalid, "the range is empty").into());
        }
        self.statistics.block_status.add(1);
        let most = if request.has(flag::REQ_ONE) { 1 } else { MAX_EXTENTS };
        // All of them before the first is told, so that an error is told instead.
        let mut answers = Vec::with_capacity(contexts.len());
        for (id, context) in contexts {
            let extents = self.export.disk.extents(context, range, most)?;
            let extents = extents.iter().map(|extent| (extent.length, extent.flags));
            answers.push((*id, extents.collect::<Vec<_>>()));
        }
        let count = answers.len();
        for (index, (id, extents)) in answers.iter().enumerate() {
            let reply = answer.replies.extents(*id, extents, index + 1 == count);
            answer.send(&reply, &[])?;
        }
        Ok(())
    }

    /// The contexts chosen in the handshake, or those of them that `ids` names.
    fn contexts(&self, ids: Option<Vec<u32>>) -> Result<Vec<&(u32, Context)>, Fault> {
        let chosen = &self.contexts;
        if chosen.is_empty() {
            return Err(Fault::of_client(ErrorCode::Invalid, "no context was chosen"));
        }
        let Some(mut ids) = ids else { return Ok(chosen.iter().collect()) };
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        let named: Vec<_> = chosen.iter().filter(|(id, _)| ids.contains(id)).collect();
        // Each is to be there once, and to be known.
        if named.is_empty() || named.len() != count {
            return Err(Fault::of_client(ErrorCode::Invalid, "these contexts were not chosen"));
        }
        Ok(named)
    }
}

/// Does `work` for `range` piece by piece, each as long as there is memory for: it is given an offset and
/// a buffer, which it gives back.
fn for_pieces(
    range: ByteRange,
    desk: &mut Desk<'_>,
    mut work: impl FnMut(u64, Buffer) -> Result<Buffer, Failure>,
) -> Result<(), Failure> {
    let mut offset = range.start();
    while offset < range.end() {
        let left = usize::try_from(range.end() - offset).unwrap_or(usize::MAX);
        let piece = work(offset, desk.piece(left))?;
        offset += piece.len() as u64;
        desk.give_back(piece);
    }
    Ok(())
}

/// The payload of `NBD_CMD_BLOCK_STATUS`: the length that it is about, and ids of contexts.
fn status_payload(bytes: &[u8]) -> Result<(u64, Vec<u32>), Malformed> {
    let mut data = Data(bytes);
    let length = data.u64()?;
    let mut ids = Vec::new();
    while !data.0.is_empty() {
        ids.push(data.u32()?);
        if ids.len() > crate::limits::MAX_CONTEXTS {
            return Err(Malformed);
        }
    }
    Ok((length, ids))
}

fn bad_payload() -> Fault {
    Fault::of_client(ErrorCode::Invalid, "the payload is malformed")
}
