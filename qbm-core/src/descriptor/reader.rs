//! The parts of a descriptor, read from their objects. Names of members have been checked before.

use std::collections::BTreeSet;

use super::error::{Fault, shown};
use super::json::{Member, Node, Value};
use super::member::*;
use super::name::{SOFT, check_bitmap_name, check_file_name};
use super::shape::Kept;
use super::value::{
    Object, at_most, block, boolean, digest, granularity, id, must_be, nanoseconds, nullable,
    process_id, size, string, timestamp, unsigned, word,
};
use super::{
    Bitmap, BitmapKind, Descriptor, Doubt, Durability, Format, ImageRef, InUse, MAX_BITMAPS,
    MAX_GENERATION, MAX_SEGMENTS, Point, SealRef, SegmentRef,
};
use crate::storage::Identity;

/// Reads the parts of one descriptor, and knows what may be there only once.
#[derive(Default)]
pub(super) struct Reader {
    /// The files that have been named so far.
    files: BTreeSet<String>,
    /// Whether there was an allocation bitmap.
    allocation: bool,
}

impl Reader {
    pub(super) fn descriptor(mut self, root: &Object<'_, '_>) -> Result<Descriptor, Fault> {
        let data_formats = [(Format::Raw.word(), Format::Raw)];
        let durabilities = Durability::ALL.map(|durability| (durability.word(), durability));
        Ok(Descriptor {
            image: root.required(IMAGE, |node| self.image(node, &data_formats))?,
            bitmaps: root.required(BITMAPS, |node| self.bitmaps(node))?,
            id: root.optional(ID, id)?,
            generation: root.optional(GENERATION, at_most(MAX_GENERATION))?.unwrap_or(0),
            size: root.optional(SIZE, size)?,
            durability: root
                .optional(DURABILITY, |node| word(node, &durabilities))?
                .unwrap_or_default(),
            stamp: root.optional(STAMP, stamp)?,
            point: root.optional(POINT, |node| self.point(node))?,
            in_use: root.optional(IN_USE, in_use)?,
            original: Kept::default(),
        })
    }

    fn image(&mut self, node: &Node<'_>, formats: &[(&str, Format)]) -> Result<ImageRef, Fault> {
        let image = Object::of(node)?;
        Ok(ImageRef {
            file: image.required(FILE, |node| self.file(node))?,
            format: image.required(FORMAT, |node| word(node, formats))?,
        })
    }

    /// A file name that nothing else has.
    fn file(&mut self, node: &Node<'_>) -> Result<String, Fault> {
        let Value::String(name) = &node.value else { return Err(must_be("a string", node)) };
        check_file_name(name).map_err(|what| Fault::new(node.at, format!("the name {what}")))?;
        if !self.files.insert(name.clone().into_owned()) {
            let what = format!("{} is named before, and a file has one use only", shown(name));
            return Err(Fault::new(node.at, what));
        }
        Ok(name.clone().into_owned())
    }

    fn bitmaps(&mut self, node: &Node<'_>) -> Result<Vec<Bitmap>, Fault> {
        let members = Object::of(node)?.members.iter();
        let mut bitmaps = Vec::new();
        for member in members.filter(|member| !member.name.starts_with(SOFT)) {
            if bitmaps.len() == MAX_BITMAPS {
                return Err(Fault::new(member.at, format!("has more than {MAX_BITMAPS} bitmaps")));
            }
            bitmaps.push(self.bitmap(member).map_err(|fault| fault.within(&member.name))?);
        }
        Ok(bitmaps)
    }

    fn bitmap(&mut self, member: &Member<'_>) -> Result<Bitmap, Fault> {
        check_bitmap_name(&member.name)
            .map_err(|what| Fault::new(member.at, format!("the name {what}")))?;
        let bitmap = Object::of(&member.node)?;
        let file = bitmap.required(FILE, |node| self.file(node))?;
        let mut segments = vec![SegmentRef { file, point: bitmap.optional(POINT, id)? }];
        if let Some(later) = bitmap.optional(SEGMENTS, |node| self.later_segments(node))? {
            segments.extend(later);
        }
        let doubts = Doubt::ALL.map(|doubt| (doubt.code(), doubt));
        Ok(Bitmap {
            name: member.name.clone().into_owned(),
            granularity: bitmap.required(GRANULARITY, granularity)?,
            kind: self.kind(&bitmap)?,
            segments,
            disabled: bitmap.optional(DISABLED, boolean)?.unwrap_or(false),
            doubt: bitmap.optional(DOUBT, |node| word(node, &doubts))?,
            seal: bitmap.optional(SEAL, |node| self.seal(node))?,
        })
    }

    fn kind(&mut self, bitmap: &Object<'_, '_>) -> Result<BitmapKind, Fault> {
        let words = [("dirty", false), ("allocation", true)];
        let is_allocation = bitmap.required(TYPE, |node| {
            let is_allocation = word(node, &words)?;
            if is_allocation && std::mem::replace(&mut self.allocation, true) {
                return Err(Fault::new(node.at, "is \"allocation\" for a second bitmap"));
            }
            Ok(is_allocation)
        })?;
        if !is_allocation {
            bitmap.refuse(BACKING, "belongs to an allocation bitmap only")?;
            return Ok(BitmapKind::Dirty);
        }
        bitmap.refuse(DISABLED, "belongs to a dirty bitmap only")?;
        bitmap.refuse(DOUBT, "belongs to a dirty bitmap only")?;
        let formats = [Format::Raw, Format::Qbm].map(|format| (format.word(), format));
        let backing = bitmap.optional(BACKING, |node| self.image(node, &formats))?;
        Ok(BitmapKind::Allocation { backing })
    }

    fn seal(&mut self, node: &Node<'_>) -> Result<SealRef, Fault> {
        let seal = Object::of(node)?;
        Ok(SealRef {
            file: seal.required(FILE, |node| self.file(node))?,
            generation: seal.required(SEAL_GENERATION, at_most(MAX_GENERATION))?,
        })
    }

    /// The segments after the first.
    fn later_segments(&mut self, node: &Node<'_>) -> Result<Vec<SegmentRef>, Fault> {
        let most = MAX_SEGMENTS - 1;
        let Value::Array(nodes) = &node.value else { return Err(must_be("an array", node)) };
        if !(1..=most).contains(&nodes.len()) {
            let what = format!("must have 1 to {most} segments, and has {}", nodes.len());
            return Err(Fault::new(node.at, what));
        }
        let segments = nodes.iter().enumerate().map(|(index, node)| {
            self.later_segment(node).map_err(|fault| fault.within_element(index))
        });
        segments.collect()
    }

    fn later_segment(&mut self, node: &Node<'_>) -> Result<SegmentRef, Fault> {
        let segment = Object::of(node)?;
        Ok(SegmentRef {
            file: segment.required(FILE, |node| self.file(node))?,
            point: segment.optional(SEGMENT_POINT, id)?,
        })
    }

    fn point(&mut self, node: &Node<'_>) -> Result<Point, Fault> {
        let point = Object::of(node)?;
        let bitmap_name = |node| -> Result<String, Fault> {
            let name = string(node)?;
            check_bitmap_name(name)
                .map_err(|what| Fault::new(node.at, format!("the name {what}")))?;
            Ok(name.to_owned())
        };
        Ok(Point {
            id: point.required(POINT_ID, id)?,
            parent: point.required(POINT_PARENT, |node| nullable(node, id))?,
            created: point.required(POINT_CREATED, timestamp)?,
            image: point.required(POINT_IMAGE, id)?,
            bitmap: point.required(POINT_BITMAP, bitmap_name)?,
            stored: point.required(POINT_STORED, size)?,
            digest: point.required(POINT_DIGEST, digest)?,
            digests: point.required(POINT_DIGESTS, |node| self.file(node))?,
            block: point.required(POINT_BLOCK, block)?,
        })
    }
}

fn stamp(node: &Node<'_>) -> Result<Identity, Fault> {
    let stamp = Object::of(node)?;
    Ok(Identity {
        device: stamp.required(STAMP_DEVICE, unsigned)?,
        inode: stamp.required(STAMP_INODE, unsigned)?,
        size: stamp.required(STAMP_SIZE, size)?,
        modified_ns: stamp.required(STAMP_MODIFIED, |node| nullable(node, nanoseconds))?,
    })
}

fn in_use(node: &Node<'_>) -> Result<InUse, Fault> {
    let in_use = Object::of(node)?;
    Ok(InUse {
        opener: in_use.required(OPENER, id)?,
        pid: in_use.required(PID, process_id)?,
        program: in_use.required(PROGRAM, string)?.to_owned(),
        boot: in_use.required(BOOT, string)?.to_owned(),
        since: in_use.required(SINCE, timestamp)?,
        data_sync_failed: in_use.optional(DATA_SYNC_FAILED, boolean)?.unwrap_or(false),
    })
}
