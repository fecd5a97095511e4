//! One connection to a server, and one request at a time on it.
//!
//! Nothing of what a server sends is taken on trust: each byte of a read comes once, each answer is for the
//! request, and what can grow has a limit. A server that is caught is *out of step*, and its connection
//! is given up.

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;

use super::line::Line;
use super::missing::Missing;
use super::trouble::{Trouble, in_words, out_of_step, whole};
use crate::protocol::{ErrorCode, Part, ReplyHeader, Request, Style};
use crate::receiver::Receiver;
use crate::tls::TlsWire;
use crate::wire::{Peeked, Wire, send_all};

/// Bytes of a message, or of the extents of a context, that are taken from a server.
const MAX_TAKEN: u64 = 1 << 20;

/// Errors that a server may tell of one request.
const MAX_ERRORS: usize = 64;

/// What a request is sent for, beside being done.
#[derive(Debug)]
pub(super) enum Want<'a> {
    Nothing,
    /// As many bytes as the request has.
    Data(&'a mut [u8]),
    /// The first extent.
    Extent(&'a mut Option<FirstExtent>),
}

/// An extent of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FirstExtent {
    pub(super) length: u64,
    pub(super) flags: u64,
}

/// What is said over a line, in the open or not.
pub(super) struct Speech {
    pub(super) line: Arc<Line>,
    pub(super) tls: Option<TlsWire>,
    pub(super) receiver: Receiver,
}

impl Speech {
    pub(super) fn fill(&mut self, into: &mut [u8]) -> io::Result<()> {
        let Self { line, tls, receiver } = self;
        receiver.fill(wire(line, tls.as_ref()), into)
    }

    pub(super) fn send(&self, parts: &[&[u8]]) -> io::Result<()> {
        let mut parts: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        send_all(wire(&self.line, self.tls.as_ref()), &mut parts)
    }
}

fn wire<'w>(line: &'w Line, tls: Option<&'w TlsWire>) -> &'w dyn Wire {
    match tls {
        Some(tls) => tls,
        None => line,
    }
}

/// A connection, its handshake done.
pub(super) struct Link {
    pub(super) speech: Speech,
    pub(super) style: Style,
    /// The id of the context that tells what is zero, if there is one.
    pub(super) context: Option<u32>,
    /// The cookie of the last request.
    pub(super) cookie: u64,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("style", &self.style).finish_non_exhaustive()
    }
}

/// What has come of the answer to a request.
struct Answer<'w> {
    request: Request,
    want: Want<'w>,
    missing: Missing,
    refused: Option<io::Error>,
    errors: usize,
}

impl Link {
    /// Whether the server is there, as far as is known, and has said nothing that nobody asked for.
    pub(super) fn is_idle(&self) -> bool {
        if self.speech.receiver.has_more() {
            return false;
        }
        match &self.speech.tls {
            Some(tls) => tls.is_idle(&|| self.speech.line.peek()),
            None => self.speech.line.peek() == Peeked::Nothing,
        }
    }

    /// Sends `request` with its `payload`, and waits until it is done.
    pub(super) fn ask(
        &mut self,
        request: Request,
        payload: &[u8],
        want: Want<'_>,
    ) -> Result<(), Trouble> {
        self.cookie += 1;
        let request = Request { cookie: self.cookie, ..request };
        self.speech.send(&[&request.encode(self.style), payload])?;
        let missing = match &want {
            Want::Data(bytes) => Missing::all(bytes.len()),
            _ => Missing::all(0),
        };
        let mut answer = Answer { request, want, missing, refused: None, errors: 0 };
        while !self.take_part(&mut answer)? {}
        let Answer { want, missing, refused, .. } = answer;
        match (refused, want) {
            (Some(error), _) => Err(Trouble::Refused(error)),
            (None, Want::Extent(None)) => Err(out_of_step("no extents").into()),
            (None, _) if !missing.is_empty() => Err(out_of_step("a read in part").into()),
            (None, _) => Ok(()),
        }
    }

    /// Takes a reply, or a chunk of one; whether it was the last.
    fn take_part(&mut self, answer: &mut Answer<'_>) -> io::Result<bool> {
        let header = self.header()?;
        if header.cookie != answer.request.cookie {
            return Err(out_of_step("a reply to another request"));
        }
        if header.offset.is_some_and(|offset| offset != answer.request.offset) {
            return Err(out_of_step("a reply of another offset"));
        }
        match (header.part, &mut answer.want) {
            (Part::Simple(0), Want::Data(bytes)) if self.style == Style::Simple => {
                self.speech.fill(bytes)?;
                answer.missing = Missing::all(0);
            }
            (Part::Simple(0), Want::Nothing) => {}
            // Answers to these are in chunks, once chunks have been agreed upon.
            (Part::Simple(_), Want::Data(_) | Want::Extent(_)) if self.style != Style::Simple => {
                return Err(out_of_step("a simple reply where chunks are due"));
            }
            (Part::Simple(code), _) => answer.refused = Some(told(code, &[])?),
            (Part::Nothing, _) if header.length == 0 && header.last => {}
            (Part::Nothing, _) => return Err(out_of_step("an empty chunk that is none")),
            (Part::Data | Part::Hole, Want::Data(bytes)) => {
                self.take_run(&header, answer.request.offset, bytes, &mut answer.missing)?;
            }
            (Part::Extents, Want::Extent(extent)) => {
                if extent.replace(self.take_extent(&header)?).is_some() {
                    return Err(out_of_step("extents again"));
                }
            }
            (Part::Error, _) => {
                answer.errors += 1;
                if answer.errors > MAX_ERRORS {
                    return Err(out_of_step("errors without end"));
                }
                answer.refused = Some(self.take_error(&header)?);
            }
            _ => return Err(out_of_step("a chunk that was not asked for")),
        }
        Ok(header.last)
    }

    fn header(&mut self) -> io::Result<ReplyHeader> {
        let mut magic = [0; 4];
        self.speech.fill(&mut magic)?;
        let magic = u32::from_be_bytes(magic);
        let mut rest = [0; ReplyHeader::MOST];
        let length = ReplyHeader::length_after(magic, self.style);
        let rest = &mut rest[..length.map_err(|_| out_of_step("no reply"))?];
        self.speech.fill(rest)?;
        ReplyHeader::parse(magic, rest).map_err(|_| out_of_step("no reply"))
    }

    /// Takes a run of a read that begins at `start`.
    fn take_run(
        &mut self,
        header: &ReplyHeader,
        start: u64,
        bytes: &mut [u8],
        missing: &mut Missing,
    ) -> io::Result<()> {
        let wrong = || out_of_step("data of another length or place");
        let mut offset = [0; 8];
        let length = match (header.part, header.length) {
            (Part::Hole, 12) => {
                self.speech.fill(&mut offset)?;
                let mut length = [0; 4];
                self.speech.fill(&mut length)?;
                u64::from(u32::from_be_bytes(length))
            }
            (Part::Data, 8..) => {
                self.speech.fill(&mut offset)?;
                header.length - 8
            }
            _ => return Err(wrong()),
        };
        let place = u64::from_be_bytes(offset).checked_sub(start).ok_or_else(wrong)?;
        let (Ok(place), Ok(length)) = (usize::try_from(place), usize::try_from(length)) else {
            return Err(wrong());
        };
        let run = place..place.checked_add(length).ok_or_else(wrong)?;
        if !missing.take(run.clone()) {
            return Err(wrong());
        }
        let run = &mut bytes[run];
        if header.part == Part::Hole {
            run.fill(0);
            return Ok(());
        }
        self.speech.fill(run)
    }

    /// Takes the first extent of a chunk about block status.
    fn take_extent(&mut self, header: &ReplyHeader) -> io::Result<FirstExtent> {
        let extended = self.style == Style::Extended;
        let each = if extended { 16 } else { 8 };
        let bytes = self.take(header.length)?;
        whole(&bytes, "extents", |data| {
            let id = data.u32()?;
            let count = if extended { data.u32()?.into() } else { (data.0.len() / each) as u64 };
            let extent = if extended {
                FirstExtent { length: data.u64()?, flags: data.u64()? }
            } else {
                FirstExtent { length: data.u32()?.into(), flags: data.u32()?.into() }
            };
            let others = count.checked_sub(1).and_then(|others| usize::try_from(others).ok());
            let others = others.and_then(|others| others.checked_mul(each));
            data.take(others.unwrap_or(usize::MAX))?;
            Ok((id, extent))
        })
        .and_then(|(id, extent)| match extent.length {
            _ if Some(id) != self.context => Err(out_of_step("extents of another context")),
            0 => Err(out_of_step("an extent of nothing")),
            _ => Ok(extent),
        })
    }

    fn take_error(&mut self, header: &ReplyHeader) -> io::Result<io::Error> {
        let bytes = self.take(header.length)?;
        // An offset may follow, or what later kinds of errors have.
        let (code, words) = whole(&bytes, "an error", |data| {
            let code = data.u32()?;
            let length = data.u16()?;
            let words = data.take(length.into())?;
            data.0 = &[];
            Ok((code, words))
        })?;
        told(code, words)
    }

    fn take(&mut self, length: u64) -> io::Result<Vec<u8>> {
        if length > MAX_TAKEN {
            return Err(out_of_step("a chunk that is too long"));
        }
        let mut bytes = vec![0; usize::try_from(length).expect("at most MAX_TAKEN")];
        self.speech.fill(&mut bytes)?;
        Ok(bytes)
    }
}

/// What the server says of a request, in words of its own if it has any.
fn told(code: u32, words: &[u8]) -> io::Result<io::Error> {
    let kind = match ErrorCode::from_number(code) {
        Some(ErrorCode::NotPermitted) => io::ErrorKind::PermissionDenied,
        Some(ErrorCode::Invalid | ErrorCode::Overflow) => io::ErrorKind::InvalidInput,
        Some(ErrorCode::NoSpace) => io::ErrorKind::StorageFull,
        Some(ErrorCode::NotSupported) => io::ErrorKind::Unsupported,
        None if code == 0 => return Err(out_of_step("an error that is none")),
        Some(ErrorCode::Io) | None => io::ErrorKind::Other,
    };
    let what = format!("the server failed it with error {code}{}", in_words(words)?);
    Ok(io::Error::new(kind, what))
}
