//! Transfers of any size, in pieces, so that memory does not follow the size.

use std::io::{self, Read as _};

use futures_executor::block_on;
use qbm_core::{Buffer, ByteRange, Error, Persist, Unmap};

use super::language::{Read, Report, Request, Source, Verify, Write};
use super::text;
use crate::open::FileImage;

/// Bytes of a piece.
const PIECE: u64 = 1 << 20;
/// The most bytes of a file that a write sends, again and again if they are fewer than it wants.
const MOST_OF_A_FILE: u64 = 32 << 20;

/// The bytes that a write sends.
#[derive(Debug)]
pub(super) enum Bytes {
    /// These, again and again; never none.
    Repeated(Vec<u8>),
    /// Zeroes that need not be sent.
    Zeroes(Unmap),
}

/// Reads, and prints what the bytes are or that they are wrong; whether they were right.
pub(super) fn read(image: &FileImage, read: &Read) -> Result<bool, Error> {
    let request = &read.request;
    let dump = read.dump && request.report != Report::Quiet;
    let right = match read.verify {
        Some(verify) => matches(image, request, verify)?,
        None => true,
    };
    if let (false, Some(Verify { start, length, .. })) = (right, read.verify) {
        let offset = request.offset + start;
        println!("Pattern verification failed at offset {offset}, {length} bytes");
    }
    if dump || read.verify.is_none() {
        for_each_piece(request, |piece| {
            let buffer =
                block_on(image.read(piece.start(), Buffer::zeroed(index(piece.length()))))?;
            if dump {
                print!("{}", text::dump(piece.start(), &buffer));
            }
            Ok(())
        })?;
    }
    Ok(right)
}

/// Whether the bytes are what they ought to be. All of the request is read.
fn matches(image: &FileImage, request: &Request, verify: Verify) -> Result<bool, Error> {
    let start = request.offset.saturating_add(verify.start);
    let end = start.saturating_add(verify.length);
    let mut right = true;
    for_each_piece(request, |piece| {
        let buffer = block_on(image.read(piece.start(), Buffer::zeroed(index(piece.length()))))?;
        let within = |at: u64| index(at.clamp(piece.start(), piece.end()) - piece.start());
        let (from, to) = (within(start), within(end));
        right &= buffer[from..to].iter().all(|byte| *byte == verify.pattern);
        Ok(())
    })?;
    Ok(right)
}

impl Bytes {
    /// What `write` sends, read from its file if it names one.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, its name first.
    pub(super) fn of(write: &Write) -> Result<Self, String> {
        Ok(match &write.source {
            Source::Pattern(byte) => Self::Repeated(vec![*byte]),
            Source::Zeroes { unmap: true } => Self::Zeroes(Unmap::Allowed),
            Source::Zeroes { unmap: false } => Self::Zeroes(Unmap::Forbidden),
            Source::File(name) => {
                let bytes = repeated(name, write.request.length);
                Self::Repeated(bytes.map_err(|why| format!("{name}: {}", text::reason(&why)))?)
            }
        })
    }
}

/// The first `length` bytes of the file `name`, or all it has.
fn repeated(name: &str, length: u64) -> io::Result<Vec<u8>> {
    let most = length.min(MOST_OF_A_FILE + 1);
    let mut file = std::fs::File::open(name)?.take(most);
    // At once, since a vector that grows may take twice what it holds.
    let mut bytes = Vec::with_capacity(index(most));
    file.read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        0 => Err(io::Error::other("file is empty")),
        1..=MOST_OF_A_FILE => Ok(bytes),
        _ => Err(io::Error::other(format!("only {MOST_OF_A_FILE} bytes of a file can be sent"))),
    }
}

/// Writes `bytes`. What lies past the end of the disk is refused before a part is written.
pub(super) fn write(image: &FileImage, write: &Write, bytes: &Bytes) -> Result<(), Error> {
    let range = whole(image, &write.request)?;
    let bytes = match bytes {
        Bytes::Repeated(bytes) => bytes,
        Bytes::Zeroes(unmap) => {
            block_on(image.write_zeroes(range, *unmap))?;
            return if write.durable { block_on(image.flush()) } else { Ok(()) };
        }
    };
    let persist = if write.durable { Persist::Now } else { Persist::Later };
    let mut endless = bytes.iter().copied().cycle();
    for_each_piece(&write.request, |piece| {
        let mut buffer = Buffer::zeroed(index(piece.length()));
        match bytes[..] {
            [byte] => buffer.fill(byte),
            _ => buffer.iter_mut().zip(&mut endless).for_each(|(to, from)| *to = from),
        }
        block_on(image.write(piece.start(), buffer, persist)).map(drop)
    })
}

/// Discards.
pub(super) fn discard(image: &FileImage, request: &Request) -> Result<(), Error> {
    let range = whole(image, request)?;
    block_on(image.discard(range))
}

/// The range of a request, if the disk has it.
fn whole(image: &FileImage, request: &Request) -> Result<ByteRange, Error> {
    let size = image.size();
    let range = ByteRange::checked_new(request.offset, request.length);
    let range = range.unwrap_or(ByteRange::new(size, 1));
    if range.end() > size { Err(Error::OutOfRange { range, size }) } else { Ok(range) }
}

/// Cuts a request into pieces; one without bytes is one piece, so that its place is checked.
fn for_each_piece(
    request: &Request,
    mut each: impl FnMut(ByteRange) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut done = 0;
    loop {
        let length = (request.length - done).min(PIECE);
        let offset = request.offset.saturating_add(done);
        let range = ByteRange::checked_new(offset, length);
        let (outside, size) = (ByteRange::new(0, 0), 0);
        each(range.ok_or(Error::OutOfRange { range: outside, size })?)?;
        done += length;
        if done == request.length {
            return Ok(());
        }
    }
}

/// A place in a piece, or its length.
fn index(bytes: u64) -> usize {
    usize::try_from(bytes).expect("at most a piece")
}
