//! What a server says of its disk, and whether that can be.

use std::io;

use qbm_core::{Access, Limits};

use super::trouble::{out_of_step, strange};
use crate::limits::MAX_REQUEST;
use crate::protocol::transmission_flag as can;

/// The largest block that a server may insist on, or see its wish for granted.
const MAX_BLOCK: u32 = 64 << 10;

/// Bytes of the largest disk: what offsets of files can tell.
const MAX_SIZE: u64 = i64::MAX as u64;

/// What a server says of its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) size: u64,
    /// Bytes of a block: requests are of whole ones. A power of two.
    pub(super) least: u32,
    /// Bytes that requests had better be multiples of. A power of two.
    preferred: u32,
    /// Bytes of the longest read or write, of whole blocks.
    pub(super) most: usize,
    read_only: bool,
    pub(super) can_flush: bool,
    pub(super) can_fua: bool,
    pub(super) can_trim: bool,
    pub(super) can_zero: bool,
    /// A flush on one connection covers all.
    pub(super) can_multi: bool,
    /// Whether block status is there.
    pub(super) can_tell_zeroes: bool,
}

impl Offer {
    pub(super) fn limits(&self) -> Limits {
        let alignment = self.preferred.min(MAX_BLOCK).max(self.least);
        let most = u32::try_from(self.most).unwrap_or(u32::MAX).min(2 << 20);
        Limits { alignment, max_transfer: (most - most % alignment).max(alignment) }
    }

    pub(super) fn check(&self, access: Access) -> io::Result<()> {
        let refuse = |what| Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        match access {
            Access::Write if self.read_only => refuse("the server exports it read-only"),
            Access::Write if !self.can_flush => {
                refuse("the server cannot flush, so that nothing would be known to be durable")
            }
            _ => Ok(()),
        }
    }
}

/// What a server offers that says this of an export.
pub(super) fn offer(size: u64, flags: u16, blocks: Option<[u32; 3]>) -> io::Result<Offer> {
    // Without a word about blocks, the document wants requests of any length up to 32 MiB served.
    let [least, preferred, most] = blocks.unwrap_or([1, 4096, 32 << 20]);
    let sane = least.is_power_of_two() && preferred.is_power_of_two() && most >= least;
    if !sane || least > MAX_BLOCK || !size.is_multiple_of(u64::from(least)) || size > MAX_SIZE {
        let [size, blocks] =
            [format!("a disk of {size} bytes"), format!("{least}, {preferred}, {most}")];
        return Err(strange(format!(
            "the server has {size} in blocks ({blocks}), which cannot be"
        )));
    }
    if flags & can::HAS_FLAGS == 0 {
        return Err(out_of_step("flags that say that there are none"));
    }
    let most = usize::try_from(most).map_or(MAX_REQUEST, |most| most.min(MAX_REQUEST));
    let has = |flag| flags & flag != 0;
    Ok(Offer {
        size,
        least,
        preferred,
        most: most - most % usize::try_from(least).expect("at most 64 KiB"),
        read_only: has(can::READ_ONLY),
        can_flush: has(can::SEND_FLUSH),
        can_fua: has(can::SEND_FUA),
        can_trim: has(can::SEND_TRIM),
        can_zero: has(can::SEND_WRITE_ZEROES),
        can_multi: has(can::CAN_MULTI_CONN),
        can_tell_zeroes: false,
    })
}
