//! Receiving a request with its payload, and deciding whether it can be at all.

use std::io;

use qbm_core::{Access, Buffer, ByteRange, Persist};

use super::Connection;
use super::memory::Desk;
use crate::disk::Fault;
use crate::export::Export;
use crate::limits::{LEAST_PIECE, MAX_REQUEST, MAX_SKIPPED_PAYLOAD};
use crate::protocol::{Command, ErrorCode, Request, Style, command_flag as flag};
use crate::receiver::Receiver;

/// The longest header of a request.
const MOST_HEADER: usize = 32;

/// Bytes of a request that take long to copy.
const LARGE: u64 = 128 << 10;

/// A request, wholly received.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) request: Request,
    pub(crate) payload: Payload,
}

/// What came after the header.
#[derive(Debug)]
pub(crate) enum Payload {
    None,
    Bytes(Buffer),
    /// It was written as it came, since there is no memory for all of it.
    Written(Result<(), Fault>),
    /// It was skipped: it is more than is taken, or the request cannot be.
    Skipped,
}

impl Connection<'_> {
    /// Receives the next request; `None` if the client disconnects or the server stops.
    pub(super) fn receive(
        &self,
        receiver: &mut Receiver,
        desk: &mut Desk<'_>,
    ) -> io::Result<Option<Incoming>> {
        if self.peer.is_stopping() {
            return Ok(None);
        }
        let style = self.style;
        let mut header = [0; MOST_HEADER];
        let header = &mut header[..Request::header_length(style)];
        receiver.fill(self, header)?;
        let request = Request::parse(header, style).map_err(|_| io::ErrorKind::InvalidData)?;
        if request.command == Command::Disconnect {
            return Ok(None);
        }
        let length = request.payload_length(style);
        let payload = match usize::try_from(length) {
            Ok(0) => Payload::None,
            Ok(length) if length <= self.most_payload(&request) => {
                let mut buffer = desk.piece(length);
                if buffer.len() == length {
                    receiver.fill(self, &mut buffer)?;
                    Payload::Bytes(buffer)
                } else {
                    desk.give_back(buffer);
                    Payload::Written(self.write_as_it_comes(&request, receiver, desk)?)
                }
            }
            _ if length <= MAX_SKIPPED_PAYLOAD => {
                receiver.skip(self, length)?;
                Payload::Skipped
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        Ok(Some(Incoming { request, payload }))
    }

    /// Bytes of a payload of `request` that are looked at.
    fn most_payload(&self, request: &Request) -> usize {
        match request.command {
            Command::Write if check(request, request.length, &self.export, self.style).is_ok() => {
                MAX_REQUEST
            }
            Command::Write => 0,
            _ => LEAST_PIECE,
        }
    }

    /// Writes the payload of `request`, which can be, piece by piece.
    fn write_as_it_comes(
        &self,
        request: &Request,
        receiver: &mut Receiver,
        desk: &mut Desk<'_>,
    ) -> io::Result<Result<(), Fault>> {
        let persist = if request.has(flag::FUA) { Persist::Now } else { Persist::Later };
        let mut range = ByteRange::new(request.offset, request.length);
        while !range.is_empty() {
            let mut piece = desk.piece(usize::try_from(range.length()).unwrap_or(usize::MAX));
            receiver.fill(self, &mut piece)?;
            let (offset, length) = (range.start(), piece.len() as u64);
            range = ByteRange::new(offset + length, range.length() - length);
            match self.timed(|disk| disk.write(offset, piece, persist)) {
                Ok(piece) => desk.give_back(piece),
                Err(fault) => {
                    receiver.skip(self, range.length())?;
                    return Ok(Err(fault));
                }
            }
        }
        Ok(Ok(()))
    }
}

impl Incoming {
    /// Whether to copy its bytes may be worth a thread.
    pub(crate) fn is_large(&self) -> bool {
        self.request.length >= LARGE
    }

    /// Whether answering it is likely to wait for a medium, whatever others did.
    pub(crate) fn may_wait(&self, export: &Export) -> bool {
        let Request { flags, command, offset, length, .. } = self.request;
        match command {
            Command::Read => false,
            Command::Write if flags & flag::FUA == 0 => {
                let range = ByteRange::checked_new(offset, length);
                range.is_some_and(|range| export.disk.may_wait(range))
            }
            _ => true,
        }
    }
}

/// Checks all of a request but its payload; returns the bytes of the disk that it is about, none for
/// a flush. `length` is the request's, unless a payload says another.
///
/// # Errors
///
/// The error that the protocol document wants.
pub(super) fn check(
    request: &Request,
    length: u64,
    export: &Export,
    style: Style,
) -> Result<ByteRange, Fault> {
    let refuse = |code, what| Err(Fault::of_client(code, what));
    if request.command == Command::Unknown {
        return refuse(ErrorCode::Invalid, "the command is not known");
    }
    if request.flags & !allowed_flags(request.command, style) != 0 {
        return refuse(ErrorCode::Invalid, "a flag does not go with the command");
    }
    use Command::{Flush, Read, Trim, Write, WriteZeroes};
    let writes = matches!(request.command, Write | Trim | WriteZeroes);
    if writes && export.access == Access::Read {
        return refuse(ErrorCode::NotPermitted, "the export is read-only");
    }
    if request.command == Flush {
        return Ok(ByteRange::new(0, 0));
    }
    if request.command == Read && length > MAX_REQUEST as u64 {
        return refuse(ErrorCode::Invalid, "the request is longer than the largest block size");
    }
    match ByteRange::checked_new(request.offset, length) {
        Some(range) if range.end() <= export.disk.size() => Ok(range),
        _ if matches!(request.command, Write | WriteZeroes) => {
            refuse(ErrorCode::NoSpace, "the request is outside the disk")
        }
        _ => refuse(ErrorCode::Invalid, "the request is outside the disk"),
    }
}

/// "Command flags": FUA goes with every command.
fn allowed_flags(command: Command, style: Style) -> u16 {
    let structured = style != Style::Simple;
    let extended = style == Style::Extended;
    let if_so = |so, flag| if so { flag } else { 0 };
    flag::FUA
        | match command {
            Command::Read => if_so(structured, flag::DF),
            Command::Write => if_so(extended, flag::PAYLOAD_LEN),
            Command::WriteZeroes => flag::NO_HOLE | flag::FAST_ZERO,
            Command::BlockStatus => flag::REQ_ONE | if_so(extended, flag::PAYLOAD_LEN),
            _ => 0,
        }
}
