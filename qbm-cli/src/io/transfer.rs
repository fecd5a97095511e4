//! Transfers of any size, in pieces, so that memory does not follow the size.

use std::io;

use futures_executor::block_on;
use qbm_core::{Buffer, ByteRange, Error, Persist, Unmap};

use super::language::Transfer;
use super::text;
use crate::open::FileImage;

/// Bytes of a piece.
const PIECE: u64 = 4 << 20;

/// The byte that is written where none is given.
const FILL: u8 = 0xcd;

/// Reads; returns what is to be said before the statistics, and whether the pattern was there.
pub(super) fn read(image: &FileImage, transfer: &Transfer) -> Result<(String, bool), Error> {
    let start = transfer.offset.saturating_add(transfer.pattern_start);
    let length = transfer.pattern_length.unwrap_or(transfer.length - transfer.pattern_start);
    let pattern = ByteRange::checked_new(start, length);
    let mut said = String::new();
    let mut verified = true;
    for_each_piece(transfer, |piece| {
        let buffer = Buffer::zeroed(bytes_of(piece.length()));
        let buffer = block_on(image.read(piece.start(), buffer))?;
        if let (Some(byte), Some(pattern)) = (transfer.pattern, pattern) {
            let from = pattern.start().clamp(piece.start(), piece.end()) - piece.start();
            let to = pattern.end().clamp(piece.start(), piece.end()) - piece.start();
            let part = &buffer[bytes_of(from)..bytes_of(to).max(bytes_of(from))];
            verified &= part.iter().all(|found| *found == byte);
        }
        if transfer.show {
            said += &text::dump(piece.start(), &buffer);
        }
        Ok(())
    })?;
    if !verified {
        let place = format!("{}, {length} bytes", transfer.offset + transfer.pattern_start);
        said = format!("Pattern verification failed at offset {place}\n{said}");
    }
    Ok((said, verified))
}

/// Writes a pattern, a file or zeroes.
pub(super) fn write(image: &FileImage, transfer: &Transfer) -> Result<(), Error> {
    if transfer.zeroes {
        let unmap = if transfer.unmap { Unmap::Allowed } else { Unmap::Forbidden };
        let range = whole(image, transfer)?;
        block_on(image.write_zeroes(range, unmap))?;
        return if transfer.durable { block_on(image.flush()) } else { Ok(()) };
    }
    let source = transfer.source.as_ref().map(source).transpose()?;
    let persist = if transfer.durable { Persist::Now } else { Persist::Later };
    // Refused as a whole, before a part is written.
    whole(image, transfer)?;
    for_each_piece(transfer, |piece| {
        let mut buffer = Buffer::zeroed(bytes_of(piece.length()));
        match &source {
            None => buffer.fill(transfer.pattern.unwrap_or(FILL)),
            Some(bytes) => {
                let skip = bytes_of((piece.start() - transfer.offset) % bytes.len() as u64);
                let endless = bytes.iter().cycle().skip(skip);
                buffer.iter_mut().zip(endless).for_each(|(to, from)| *to = *from);
            }
        }
        block_on(image.write(piece.start(), buffer, persist)).map(drop)
    })
}

/// Discards.
pub(super) fn discard(image: &FileImage, transfer: &Transfer) -> Result<(), Error> {
    let range = whole(image, transfer)?;
    block_on(image.discard(range))
}

/// The range of a transfer, if the disk has it.
fn whole(image: &FileImage, transfer: &Transfer) -> Result<ByteRange, Error> {
    let size = image.size();
    let range = ByteRange::checked_new(transfer.offset, transfer.length);
    let range = range.unwrap_or(ByteRange::new(size, 1));
    if range.end() > size { Err(Error::OutOfRange { range, size }) } else { Ok(range) }
}

fn for_each_piece(
    transfer: &Transfer,
    mut each: impl FnMut(ByteRange) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut done = 0;
    loop {
        let length = (transfer.length - done).min(PIECE);
        let offset = transfer.offset.saturating_add(done);
        let range = ByteRange::checked_new(offset, length);
        let (outside, size) = (ByteRange::new(0, 0), 0);
        each(range.ok_or(Error::OutOfRange { range: outside, size })?)?;
        done += length;
        if done == transfer.length {
            return Ok(());
        }
    }
}

/// The bytes of the file that a write repeats.
fn source(name: &String) -> Result<Vec<u8>, Error> {
    const MOST: u64 = 64 << 20;
    let failed = |error: io::Error| Error::Io { file: name.clone(), action: "read", error };
    let length = std::fs::metadata(name).map_err(failed)?.len();
    if length == 0 || length > MOST {
        let text = format!("it has {length} bytes, and 1 to {MOST} can be repeated");
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, text)));
    }
    std::fs::read(name).map_err(failed)
}

fn bytes_of(length: u64) -> usize {
    usize::try_from(length).expect("at most a piece")
}
