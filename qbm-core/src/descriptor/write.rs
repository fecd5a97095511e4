//! From a [`Descriptor`] to text.

use super::member::*;
use super::output::Json;
use super::{
    Bitmap, BitmapKind, Descriptor, DescriptorError, Durability, Format, ImageRef, InUse, Point,
    SealRef, SegmentRef,
};
use crate::storage::Identity;

impl Descriptor {
    /// The text of this descriptor.
    ///
    /// Members that [`parse`](Self::parse) did not know and the order of all are kept; members
    /// that are new follow at the end of their object, and what is at its default is left out.
    ///
    /// # Errors
    ///
    /// The first rule of docs/format.md that this would break, with its place in the text: too
    /// many bitmaps or segments, a name that cannot be, a text that is too long. So nothing is
    /// ever written that the next open would refuse.
    pub fn to_text(&self) -> Result<Vec<u8>, DescriptorError> {
        let text = self.text().into_bytes();
        Self::parse(&text)?;
        Ok(text)
    }

    /// Bytes of the text, also if that would be too long.
    pub(crate) fn text_len(&self) -> usize {
        self.text().len()
    }

    /// This descriptor as it is now, without the members that [`parse`](Self::parse) did not know
    /// in what is no longer part of it.
    pub(crate) fn forget_removed(mut self) -> Self {
        let root = Json::Object(vec![(ROOT.to_owned(), self.to_json())]);
        self.original.retain(&root);
        self
    }

    /// Takes away the bitmap `name`, with the members that [`parse`](Self::parse) did not know in it.
    pub(crate) fn forget_bitmap(&mut self, name: &str) {
        self.bitmaps.retain(|bitmap| bitmap.name != name);
        self.original.forget(&[ROOT, BITMAPS, name]);
    }

    fn text(&self) -> String {
        let root = Json::Object(vec![(ROOT.to_owned(), self.to_json())]);
        self.original.arrange(root).to_text()
    }

    fn to_json(&self) -> Json {
        let bitmaps = self.bitmaps.iter().map(|bitmap| (bitmap.name.clone(), bitmap.to_json()));
        let mut members = Members::default();
        members.put(VERSION, Json::literal(1));
        members.put(IMAGE, self.image.to_json());
        members.put(BITMAPS, Json::Object(bitmaps.collect()));
        members.put_some(ID, self.id.map(|id| Json::string(id.to_string())));
        members.put_if(self.generation != 0, GENERATION, Json::literal(self.generation));
        members.put_some(SIZE, self.size.map(Json::literal));
        let durability = Json::string(self.durability.word());
        members.put_if(self.durability != Durability::default(), DURABILITY, durability);
        members.put_some(STAMP, self.stamp.as_ref().map(stamp));
        members.put_some(POINT, self.point.as_ref().map(Point::to_json));
        members.put_some(IN_USE, self.in_use.as_ref().map(InUse::to_json));
        members.into()
    }
}

impl Durability {
    /// The word of the descriptor.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Close => "close",
        }
    }
}

impl Format {
    /// The word of the descriptor.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qbm => "qbm",
        }
    }
}

impl ImageRef {
    fn to_json(&self) -> Json {
        let mut members = Members::default();
        members.put(FILE, Json::string(&self.file));
        members.put(FORMAT, Json::string(self.format.word()));
        members.into()
    }
}

impl Bitmap {
    fn to_json(&self) -> Json {
        let mut members = Members::default();
        let first = self.segments.first();
        members.put_some(FILE, first.map(|segment| Json::string(&segment.file)));
        members.put(GRANULARITY, Json::literal(self.granularity.bytes()));
        match &self.kind {
            BitmapKind::Dirty => members.put(TYPE, Json::string("dirty")),
            BitmapKind::Allocation { backing } => {
                members.put(TYPE, Json::string("allocation"));
                members.put_some(BACKING, backing.as_ref().map(ImageRef::to_json));
            }
        }
        let point = first.and_then(|segment| segment.point);
        members.put_some(POINT, point.map(|point| Json::string(point.to_string())));
        members.put_some(DOUBT, self.doubt.map(|doubt| Json::string(doubt.code())));
        let later: Vec<Json> = self.segments.iter().skip(1).map(SegmentRef::to_json).collect();
        members.put_if(!later.is_empty(), SEGMENTS, Json::Array(later));
        members.put_if(self.disabled, DISABLED, Json::literal(true));
        members.put_some(SEAL, self.seal.as_ref().map(SealRef::to_json));
        members.into()
    }
}

impl SegmentRef {
    fn to_json(&self) -> Json {
        let mut members = Members::default();
        members.put(FILE, Json::string(&self.file));
        members.put_some(SEGMENT_POINT, self.point.map(|point| Json::string(point.to_string())));
        members.into()
    }
}

impl SealRef {
    fn to_json(&self) -> Json {
        let mut members = Members::default();
        members.put(FILE, Json::string(&self.file));
        members.put(SEAL_GENERATION, Json::literal(self.generation));
        members.into()
    }
}

fn stamp(stamp: &Identity) -> Json {
    let modified = stamp.modified_ns.map_or_else(|| Json::literal("null"), Json::literal);
    let mut members = Members::default();
    members.put(STAMP_DEVICE, Json::literal(stamp.device));
    members.put(STAMP_INODE, Json::literal(stamp.inode));
    members.put(STAMP_SIZE, Json::literal(stamp.size));
    members.put(STAMP_MODIFIED, modified);
    members.into()
}

impl Point {
    fn to_json(&self) -> Json {
        let mut members = Members::default();
        members.put(POINT_ID, Json::string(self.id.to_string()));
        members.put(POINT_PARENT, Json::string_or_null(self.parent));
        members.put(POINT_CREATED, Json::literal(self.created.0));
        members.put(POINT_IMAGE, Json::string(self.image.to_string()));
        members.put(POINT_BITMAP, Json::string(&self.bitmap));
        members.put(POINT_STORED, Json::literal(self.stored));
        members.put(POINT_DIGEST, Json::string(&self.digest));
        members.put(POINT_DIGESTS, Json::string(&self.digests));
        members.put(POINT_BLOCK, Json::literal(self.block.bytes()));
        members.into()
    }
}

impl InUse {
    fn to_json(&self) -> Json {
        let mut members = Members::default();
        members.put(OPENER, Json::string(self.opener.to_string()));
        members.put(PID, Json::literal(self.pid));
        members.put(PROGRAM, Json::string(&self.program));
        members.put(BOOT, Json::string(&self.boot));
        members.put(SINCE, Json::literal(self.since.0));
        members.put_if(self.data_sync_failed, DATA_SYNC_FAILED, Json::literal(true));
        members.into()
    }
}

/// The members of an object, in the order in which they are put.
#[derive(Default)]
struct Members(Vec<(String, Json)>);

impl Members {
    fn put(&mut self, name: &str, value: Json) {
        self.0.push((name.to_owned(), value));
    }

    fn put_if(&mut self, wanted: bool, name: &str, value: Json) {
        if wanted {
            self.put(name, value);
        }
    }

    fn put_some(&mut self, name: &str, value: Option<Json>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }
}

impl From<Members> for Json {
    fn from(members: Members) -> Self {
        Self::Object(members.0)
    }
}
