//! What a client can choose: a disk under a name, and the contexts it is seen in.

use std::sync::Arc;

use qbm_core::Access;

use crate::disk::{Context, Disk};
use crate::protocol::{Style, transmission_flag};

/// A disk under a name.
#[derive(Clone)]
pub struct Export {
    /// Its name; at most [`MAX_NAME`](crate::limits::MAX_NAME) bytes.
    pub name: String,
    /// Text for people; at most [`MAX_NAME`](crate::limits::MAX_NAME) bytes.
    pub description: String,
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// Whether clients may write.
    pub access: Access,
    /// The dirty bitmaps that clients may see, each as the context `qemu:dirty-bitmap:NAME`.
    pub bitmaps: Vec<String>,
}

impl Export {
    /// All contexts that it can be seen in.
    pub(crate) fn contexts(&self) -> impl Iterator<Item = Context> + '_ {
        let bitmaps = self.bitmaps.iter().cloned().map(Context::DirtyBitmap);
        [Context::Allocation, Context::AllocationDepth].into_iter().chain(bitmaps)
    }

    /// "Transmission flags".
    pub(crate) fn flags(&self, style: Style) -> u16 {
        use transmission_flag as flag;
        // A flush covers the writes of all connections: see `Disk`.
        let mut flags = flag::HAS_FLAGS
            | flag::SEND_FLUSH
            | flag::SEND_FUA
            | flag::CAN_MULTI_CONN
            | flag::SEND_CACHE;
        flags |= match self.access {
            Access::Read => flag::READ_ONLY,
            Access::Write => flag::SEND_TRIM | flag::SEND_WRITE_ZEROES | flag::SEND_FAST_ZERO,
        };
        flags |= match style {
            Style::Simple => 0,
            Style::Structured => flag::SEND_DF,
            Style::Extended => flag::SEND_DF | flag::BLOCK_STATUS_PAYLOAD,
        };
        flags
    }
}
