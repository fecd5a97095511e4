//! Descriptors to test with: two fixed texts, and strategies for any.

use proptest::prelude::*;
use qbm_core::descriptor::{
    Bitmap, BitmapKind, Descriptor, Doubt, Durability, Format, ImageRef, InUse, MAX_GENERATION,
    Point, SealRef, SegmentRef,
};
use qbm_core::units::MAX_SIZE;
use qbm_core::{Granularity, Id, Identity, Timestamp};

/// The least that a descriptor may say.
pub(crate) const MINIMAL: &str = include_str!("../data/minimal.qbm");

/// Every member of the format, and soft extensions that are not known in every kind of object.
pub(crate) const FULL: &str = include_str!("../data/full.qbm");

/// The descriptor that `text` is.
pub(crate) fn parse(text: &str) -> Descriptor {
    Descriptor::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The text of `descriptor`.
pub(crate) fn text(descriptor: &Descriptor) -> String {
    String::from_utf8(descriptor.to_text().expect("a valid descriptor")).expect("JSON is UTF-8")
}

fn id() -> impl Strategy<Value = Id> {
    any::<u128>().prop_map(Id)
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    (0..=253_402_300_799_999_u64).prop_map(Timestamp)
}

/// Text that a name may be, of any script, quotes and backslashes included.
pub(crate) fn name() -> impl Strategy<Value = String> {
    "[^\\pC]{1,20}|[\"\\\\/. ]{1,5}".prop_filter("extensions are no names", |name| {
        !name.starts_with("ext-soft-") && !name.starts_with("ext-hard-")
    })
}

fn granularity() -> impl Strategy<Value = Granularity> {
    (9..=31_u32).prop_map(|shift| Granularity::from_bytes(1 << shift).expect("within the limits"))
}

fn bitmap() -> impl Strategy<Value = Bitmap> {
    let doubt = proptest::option::of(proptest::sample::select(&Doubt::ALL[..]));
    let points = proptest::collection::vec(proptest::option::of(id()), 1..=8);
    let sealed = proptest::option::of(0..=MAX_GENERATION);
    (name(), granularity(), points, any::<bool>(), (doubt, sealed)).prop_map(
        |(name, granularity, points, disabled, (doubt, sealed))| Bitmap {
            name,
            granularity,
            kind: BitmapKind::Dirty,
            // Named by `descriptor`, which knows what is taken.
            segments: points
                .into_iter()
                .map(|point| SegmentRef { file: String::new(), point })
                .collect(),
            disabled,
            doubt,
            // Named by `descriptor` too.
            seal: sealed.map(|generation| SealRef { file: String::new(), generation }),
        },
    )
}

fn stamp() -> impl Strategy<Value = Identity> {
    let modified = proptest::option::of(any::<i64>());
    (any::<u64>(), any::<u64>(), 0..=MAX_SIZE, modified).prop_map(
        |(device, inode, size, modified_ns)| Identity { device, inode, size, modified_ns },
    )
}

fn point() -> impl Strategy<Value = Point> {
    let ids = (id(), proptest::option::of(id()), id());
    let block = (9..=20_u32).prop_map(|shift| Granularity::from_bytes(1 << shift).expect("small"));
    let digests = ("[0-9a-f]{64}", block);
    (ids, timestamp(), name(), 0..=MAX_SIZE, digests).prop_map(
        |((id, parent, image), created, bitmap, stored, (digest, block))| Point {
            id,
            parent,
            created,
            image,
            bitmap,
            stored,
            digest,
            digests: "folder/digests".to_owned(),
            block,
        },
    )
}

fn in_use() -> impl Strategy<Value = InUse> {
    (id(), any::<u32>(), name(), name(), timestamp(), any::<bool>()).prop_map(
        |(opener, pid, program, boot, since, data_sync_failed)| InUse {
            opener,
            pid,
            program,
            boot,
            since,
            data_sync_failed,
        },
    )
}

/// Any descriptor.
pub(crate) fn descriptor() -> impl Strategy<Value = Descriptor> {
    let bitmaps = proptest::collection::vec(bitmap(), 0..5);
    let allocation = proptest::option::of(proptest::option::of(any::<bool>()));
    let header = (
        proptest::option::of(id()),
        0..=MAX_GENERATION,
        proptest::option::of(0..=MAX_SIZE),
        any::<bool>(),
    );
    let state = (
        proptest::option::of(stamp()),
        proptest::option::of(point()),
        proptest::option::of(in_use()),
    );
    (name(), bitmaps, allocation, header, state).prop_map(
        |(file, bitmaps, allocation, header, state)| {
            let mut descriptor = Descriptor::new(ImageRef { file, format: Format::Raw });
            descriptor.bitmaps = bitmaps;
            if let Some(backing) = allocation {
                make_first_allocation(&mut descriptor, backing);
            }
            name_apart(&mut descriptor);
            let relaxed;
            (descriptor.id, descriptor.generation, descriptor.size, relaxed) = header;
            descriptor.durability = if relaxed { Durability::Close } else { Durability::Exact };
            (descriptor.stamp, descriptor.point, descriptor.in_use) = state;
            descriptor
        },
    )
}

/// Turns the first bitmap, if there is one, into the allocation bitmap.
fn make_first_allocation(descriptor: &mut Descriptor, backing: Option<bool>) {
    let backing = backing.map(|qbm| ImageRef {
        file: "behind".to_owned(),
        format: if qbm { Format::Qbm } else { Format::Raw },
    });
    if let Some(bitmap) = descriptor.bitmaps.first_mut() {
        bitmap.kind = BitmapKind::Allocation { backing };
        bitmap.disabled = false;
        bitmap.doubt = None;
    }
}

/// Gives every bitmap and every file a name of its own.
fn name_apart(descriptor: &mut Descriptor) {
    for (index, bitmap) in descriptor.bitmaps.iter_mut().enumerate() {
        bitmap.name = format!("{} {index}", bitmap.name);
        for (part, segment) in bitmap.segments.iter_mut().enumerate() {
            segment.file = format!("folder/{index}.{part} \"\\é.bits");
        }
        if let Some(seal) = &mut bitmap.seal {
            seal.file = format!("folder/{index}.seal");
        }
    }
}
