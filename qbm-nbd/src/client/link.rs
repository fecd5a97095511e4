//! One connection to a server, and one request at a time on it.

use std::io::{self, IoSlice};

use crate::protocol::{Data, ErrorCode, Malformed, Part, ReplyHeader, Request, Style};
use crate::receiver::Receiver;
use crate::wire::{Socket, Wire, send_all};

/// Bytes of a message, or of a chunk that nobody wants, that are taken from a server.
const MAX_TAKEN: u64 = 1 << 20;

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server has said so, and the connection goes on.
    Refused(io::Error),
    /// The connection is broken, or the server is out of step.
    Broken(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl From<Malformed> for Trouble {
    fn from(_: Malformed) -> Self {
        out_of_step()
    }
}

/// The server says what cannot be.
pub(super) fn out_of_step() -> Trouble {
    let what = "the server does not follow the protocol";
    Trouble::Broken(io::Error::new(io::ErrorKind::InvalidData, what))
}

/// What a request is sent for, beside being done.
#[derive(Debug)]
pub(super) enum Want<'a> {
    Nothing,
    /// As many bytes as the request has.
    Data(&'a mut [u8]),
    /// The first extent: its length and flags.
    Extent(&'a mut Option<(u64, u64)>),
}

/// A connection, its handshake done.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) socket: Socket,
    pub(super) receiver: Receiver,
    pub(super) style: Style,
    /// The cookie of the last request.
    pub(super) cookie: u64,
}

impl Link {
    /// Sends `request` with its `payload`, and waits until it is done.
    pub(super) fn ask(
        &mut self,
        request: Request,
        payload: &[u8],
        mut want: Want<'_>,
    ) -> Result<(), Trouble> {
        self.cookie += 1;
        let request = Request { cookie: self.cookie, ..request };
        let header = request.encode(self.style);
        send_all(&self.socket, &mut [IoSlice::new(&header), IoSlice::new(payload)])?;
        let mut missing = match &want {
            Want::Data(bytes) => bytes.len(),
            _ => 0,
        };
        let mut refused = None;
        loop {
            let header = self.header()?;
            if header.cookie != request.cookie {
                return Err(out_of_step());
            }
            match (header.part, &mut want) {
                (Part::Simple(0), Want::Data(bytes)) if self.style == Style::Simple => {
                    self.fill(bytes)?;
                    missing = 0;
                }
                (Part::Simple(0), Want::Nothing) | (Part::Nothing, _) => {}
                (Part::Simple(code), _) if code != 0 => refused = Some(told(code, "")),
                (Part::Data | Part::Hole, Want::Data(bytes)) => {
                    let filled = self.take_run(&header, request.offset, bytes)?;
                    missing = missing.checked_sub(filled).ok_or_else(out_of_step)?;
                }
                (Part::Extents, Want::Extent(extent)) => {
                    **extent = Some(self.take_extent(&header)?);
                }
                (Part::Error, _) => refused = Some(self.take_error(&header)?),
                _ => return Err(out_of_step()),
            }
            if header.last {
                break;
            }
        }
        match refused {
            Some(error) => Err(Trouble::Refused(error)),
            None if missing > 0 => Err(out_of_step()),
            None => Ok(()),
        }
    }

    fn header(&mut self) -> Result<ReplyHeader, Trouble> {
        let mut magic = [0; 4];
        self.fill(&mut magic)?;
        let magic = u32::from_be_bytes(magic);
        let mut rest = [0; ReplyHeader::MOST];
        let rest = &mut rest[..ReplyHeader::length_after(magic, self.style)?];
        self.fill(rest)?;
        Ok(ReplyHeader::parse(magic, rest)?)
    }

    /// Takes a run of a read that begins at `start`; how many bytes it has.
    fn take_run(
        &mut self,
        header: &ReplyHeader,
        start: u64,
        bytes: &mut [u8],
    ) -> Result<usize, Trouble> {
        let mut offset = [0; 8];
        self.fill(&mut offset)?;
        let length = match (header.part, header.length) {
            (Part::Hole, 12) => {
                let mut length = [0; 4];
                self.fill(&mut length)?;
                u64::from(u32::from_be_bytes(length))
            }
            (Part::Data, length) => length.checked_sub(8).ok_or_else(out_of_step)?,
            _ => return Err(out_of_step()),
        };
        let place = u64::from_be_bytes(offset).checked_sub(start).ok_or_else(out_of_step)?;
        let run = usize::try_from(place).ok().zip(usize::try_from(length).ok());
        let run = run.and_then(|(place, length)| bytes.get_mut(place..)?.get_mut(..length));
        let run = run.ok_or_else(out_of_step)?;
        if header.part == Part::Hole {
            run.fill(0);
        } else {
            self.receiver.fill(&self.socket as &dyn Wire, run)?;
        }
        Ok(run.len())
    }

    /// Takes the first extent of a chunk about block status.
    fn take_extent(&mut self, header: &ReplyHeader) -> Result<(u64, u64), Trouble> {
        let bytes = self.take(header.length)?;
        let mut data = Data(&bytes);
        // There is one context only, whose id does not matter.
        data.u32()?;
        if self.style == Style::Extended {
            data.u32()?;
            return Ok((data.u64()?, data.u64()?));
        }
        Ok((data.u32()?.into(), data.u32()?.into()))
    }

    fn take_error(&mut self, header: &ReplyHeader) -> Result<io::Error, Trouble> {
        let bytes = self.take(header.length)?;
        let mut data = Data(&bytes);
        let code = data.u32()?;
        let length = data.u16()?;
        Ok(told(code, &String::from_utf8_lossy(data.take(length.into())?)))
    }

    fn take(&mut self, length: u64) -> Result<Vec<u8>, Trouble> {
        if length > MAX_TAKEN {
            return Err(out_of_step());
        }
        let mut bytes = vec![0; usize::try_from(length).expect("at most MAX_TAKEN")];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<(), Trouble> {
        Ok(self.receiver.fill(&self.socket as &dyn Wire, into)?)
    }
}

/// What the server says of a request, in words of its own if it has any.
fn told(code: u32, words: &str) -> io::Error {
    let kind = match ErrorCode::from_number(code) {
        Some(ErrorCode::NotPermitted) => io::ErrorKind::PermissionDenied,
        Some(ErrorCode::Invalid | ErrorCode::Overflow) => io::ErrorKind::InvalidInput,
        Some(ErrorCode::NoSpace) => io::ErrorKind::StorageFull,
        Some(ErrorCode::NotSupported) => io::ErrorKind::Unsupported,
        Some(ErrorCode::Io) | None => io::ErrorKind::Other,
    };
    let what = match words {
        "" => format!("the server failed it with error {code}"),
        words => format!("the server failed it with error {code}: {}", words.escape_debug()),
    };
    io::Error::new(kind, what)
}
