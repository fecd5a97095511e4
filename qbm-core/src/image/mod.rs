//! An open image: what a guest reads and writes, and the bitmaps that follow it.
//!
//! Guest requests run concurrently, through `&self`. Operations on the bitmaps take turns, hold
//! `control` throughout, and change the state on the medium by one replace of the descriptor.
//!
//! # Locks, in the order in which they are taken
//!
//! * `control`: one operation on the bitmaps at a time. Held while writes are drained, so no
//!   guest request may ever wait for it.
//! * `book`: the descriptor as it stands on the medium. Held for one replace, and waits for
//!   nobody; a guest request takes it when it has to put a new file in place of a failed one.

mod bitmaps;
mod book;
mod carry;
mod check;
mod close;
mod create;
mod first_write;
mod flush;
mod io;
mod layer_locks;
mod layers;
mod load;
mod map;
mod open;
mod point;
mod pull;
mod rebase;
mod rebuild;
mod recover;
mod resize;
mod rotate;
pub(crate) mod seal;
mod segment_file;
mod switch;
mod transaction;
mod uses;
mod watching;

use std::sync::Arc;

pub use crate::chain::MAX_LAYERS;
pub use bitmaps::{BitmapInfo, Marks, Persistence};
pub use check::{CheckReport, check, repair};
pub(crate) use create::ALLOCATION;
pub use create::{
    Contents, CreateOptions, NewBitmap, Over, OverlayOptions, create, create_around, create_overlay,
};
pub use map::{Extent, MarkedExtent};
pub use open::OpenOptions;
pub use point::{FrozenPoint, NewPoint, Outcome, PointView};
pub(crate) use rebase::{no_overlay, put_over};
pub use segment_file::{MAX_GRANULES, MAX_GRANULES_TOGETHER};
pub use transaction::{BitmapAction, NotTogether, PreparedTransaction, commit_together};

pub use crate::track::shield::Fleece;
pub(crate) use watching::{Round, Watching};

use self::bitmaps::Control;
use self::book::Book;
use self::flush::Syncs;
use crate::bits::Bits;
use crate::chain::Chain;
use crate::descriptor::{Descriptor, Durability};
use crate::sync::{AsyncMutex, AtomicU64, CountedArc, Ordering};
use crate::track::clusters::Clusters;
use crate::track::gate::Gate;
use crate::{Access, Directory, Host};

/// An open image.
///
/// Dropping it without [`close`](Self::close) is a crash like any other: no mark is lost, and the
/// next open recovers.
#[derive(Debug)]
pub struct Image<D: Directory> {
    directory: D,
    /// The descriptor's name in `directory`.
    name: String,
    host: Arc<dyn Host>,
    access: Access,
    /// The data image first, then what is behind it.
    chain: Chain<D::File>,
    /// Size of the disk in bytes. Changed only while no write is under way.
    size: AtomicU64,
    syncs: Syncs,
    /// What of an overlay is in its data image; `None` where all is, or it is open for reading.
    clusters: Option<Clusters<D::File>>,
    durability: Durability,
    gate: Gate<D::File>,
    control: AsyncMutex<Control<D::File>>,
    book: AsyncMutex<Book>,
}

impl<D: Directory> Image<D> {
    /// The size of the disk in bytes.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// The descriptor's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it was opened for.
    pub fn access(&self) -> Access {
        self.access
    }

    /// The directory of its descriptor.
    pub fn directory(&self) -> &D {
        &self.directory
    }

    /// The descriptor as it stands on the medium.
    pub async fn descriptor(&self) -> Descriptor {
        self.book.lock().await.descriptor().clone()
    }

    /// What it is made of.
    pub(crate) fn chain(&self) -> &Chain<D::File> {
        &self.chain
    }

    /// The data image of the top layer, with its name, and its allocation bitmap.
    pub(crate) fn top_layer(&self) -> (&str, &D::File, Option<CountedArc<Bits>>) {
        let layer = self.chain.layer(0);
        let bits =
            layer.allocation.as_ref().map(|allocation| CountedArc::clone(&allocation.bits()));
        (&layer.name, &layer.data, bits)
    }

    fn data(&self) -> &D::File {
        self.chain.data()
    }
}
