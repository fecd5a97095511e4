//! Seals: checksums of the pages of a bitmap file, beside it, so that a bit that rotted is found.
//!
//! A seal is made at a clean close, and tells nothing any more from the next open for writing on: it
//! costs nothing while marks are made. The bitmap file is whole without it. docs/format.md, "Seals",
//! has its bytes.

use std::sync::Arc;

use super::Image;
use super::book::check_room;
use super::segment_file;
use super::uses::Uses;
use crate::bits::{Bits, PAGE_BITS, PAGE_BYTES};
use crate::descriptor::{Doubt, SealRef};
use crate::track::segment::Segment;
use crate::{Access, Buffer, Directory, Error, Persist, Result, Storage, directory as names};

const MAGIC: &[u8; 8] = b"QBM seal";
/// Bytes before the checksums.
const HEADER: usize = 44;
/// Bytes of a checksum.
const SUM: usize = 4;
/// The longest seal: that of the longest bitmap file.
const MAX_SEAL: usize = HEADER + SUM * (segment_file::MAX_GRANULES / PAGE_BITS) as usize + SUM;

/// The seal of the bitmap file `name`, which holds `bits`, in the generation `generation`.
pub(crate) fn contents(name: &str, generation: u64, bits: &Bits) -> Vec<u8> {
    let mut seal = MAGIC.to_vec();
    seal.extend(&blake3::hash(name.as_bytes()).as_bytes()[..16]);
    seal.extend(generation.to_le_bytes());
    seal.extend(bits.file_len().to_le_bytes());
    seal.extend(4096_u32.to_le_bytes());
    let mut bytes = [0; PAGE_BYTES];
    for page in 0..bits.page_count() {
        bits.page_bytes(page, &mut bytes);
        seal.extend(crc32c::crc32c(&bytes[..bits.page_len(page)]).to_le_bytes());
    }
    seal.extend(crc32c::crc32c(&seal).to_le_bytes());
    seal
}

/// Writes a seal to the new file `name`, durably; its name is when the directory is.
pub(crate) async fn write<D: Directory>(directory: &D, name: &str, seal: &[u8]) -> Result<()> {
    let io = |action| Error::io(name, action);
    let file = directory.create(name).await.map_err(io("create"))?;
    let written = file.write_at(0, Buffer::from_slice(seal), Persist::Later).await;
    written.map_err(io("write"))?;
    // Before a descriptor names it: half a seal would be taken for damage.
    file.sync().await.map_err(io("sync"))
}

/// Holds `bits`, which were read from the bitmap file `name` in the generation `generation`, against
/// the seal in the file `seal`. Marks what is not known to be as it was, and returns why.
///
/// A seal that is gone is no seal.
///
/// # Errors
///
/// If it cannot be read, which does not tell whether it is damaged.
pub(super) async fn check<D: Directory>(
    directory: &D,
    seal: &str,
    (name, generation): (&str, u64),
    bits: &Bits,
    uses: &mut Uses,
) -> Result<Option<Doubt>> {
    let found = names::open_if_there(directory, seal, Access::Read).await;
    let Some(file) = found.map_err(Error::io(seal, "open"))? else { return Ok(None) };
    uses.note(seal, &file).await?;
    let found = match names::read_whole(&file, MAX_SEAL).await {
        // Once more, as a page of a bitmap is read: an error of the moment is no damage.
        Err(_) => names::read_whole(&file, MAX_SEAL).await.map_err(Error::io(seal, "read"))?,
        Ok(found) => found,
    };
    let expected = contents(name, generation, bits);
    if !is_whole(&found) || found.len() != expected.len() || found[..HEADER] != expected[..HEADER] {
        bits.set_all();
        return Ok(Some(Doubt::SealDamaged));
    }
    let [found, expected] = [&found, &expected].map(|seal| seal[HEADER..].as_chunks::<SUM>().0);
    let mut doubt = None;
    for (page, (found, expected)) in found.iter().zip(expected).take(bits.page_count()).enumerate()
    {
        if found != expected {
            let first = page as u64 * PAGE_BITS;
            bits.set(first..(first + PAGE_BITS).min(bits.len()));
            doubt = Some(Doubt::SegmentDamaged);
        }
    }
    Ok(doubt)
}

/// Whether a seal is as it was written, by the checksum at its end.
fn is_whole(seal: &[u8]) -> bool {
    let parts = seal.split_last_chunk::<SUM>();
    parts.is_some_and(|(rest, sum)| crc32c::crc32c(rest).to_le_bytes() == *sum)
}

impl<D: Directory> Image<D> {
    /// Seals `segments`, whose marks are durable; returns for each bitmap its seal.
    ///
    /// All of them, or none where the descriptor or the medium has no room: nothing depends on it.
    pub(super) async fn seal(&self, segments: &[Arc<Segment<D::File>>]) -> Vec<(String, SealRef)> {
        let mut next = self.descriptor().await;
        let generation = next.generation;
        let mut seals = Vec::new();
        for segment in segments {
            let file = segment_file::fresh_name(&self.name, &segment.bitmap, "seal", &*self.host);
            let seal = SealRef { file, generation };
            if let Some(bitmap) = next.bitmap_mut(&segment.bitmap) {
                bitmap.seal = Some(seal.clone());
            }
            seals.push((segment.bitmap.clone(), seal));
        }
        let written = async {
            check_room(&self.name, &next)?;
            for (segment, (_, seal)) in segments.iter().zip(&seals) {
                let contents = contents(&segment.file().name, generation, &segment.wanted);
                write(&self.directory, &seal.file, &contents).await?;
            }
            self.directory.sync().await.map_err(Error::io(&self.name, "sync the directory of"))
        };
        if written.await.is_err() {
            let files: Vec<String> = seals.into_iter().map(|(_, seal)| seal.file).collect();
            self.remove_files(&files).await;
            return Vec::new();
        }
        seals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::Descriptor;

    const SPECIFICATION: &str = include_str!("../../../docs/format.md");

    #[test]
    fn the_seal_of_the_example_is_as_it_stands() {
        let example = SPECIFICATION.split("```json\n").nth(1).expect("the first example");
        let example = example.split("```").next().expect("it ends");
        let descriptor = Descriptor::parse(example.as_bytes()).expect("it is one");
        let bitmap = descriptor.bitmap("nightly").expect("it is there");
        assert!(descriptor.seal_of(bitmap).is_some(), "it is sealed");
        let bits = Bits::new(16);
        for granule in [0, 3, 15] {
            bits.set(granule..granule + 1);
        }
        let seal = contents(&bitmap.segments[0].file, descriptor.generation, &bits);
        let lines: Vec<String> = (0..)
            .step_by(16)
            .zip(seal.chunks(16))
            .map(|(offset, bytes): (usize, _)| {
                let pairs = bytes
                    .chunks(2)
                    .map(|pair| pair.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
                format!("{offset:08x}: {}", pairs.collect::<Vec<_>>().join(" "))
            })
            .collect();
        for line in &lines {
            assert!(SPECIFICATION.contains(line), "not in docs/format.md: {lines:#?}");
        }
    }
}
