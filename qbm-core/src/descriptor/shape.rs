//! Which object has which members, and what a rewrite keeps of them.
//!
//! The table below is the grammar of docs/format.md as far as names go. A text is sifted by it: a
//! member that is not known is refused, unless it is a soft extension, which is kept.

use std::collections::BTreeMap;

use super::error::Fault;
use super::json::{Member, Node, Value};
use super::member::*;
use super::name::{HARD, SOFT};
use super::output::Json;

/// The members that a value may have.
pub(super) enum Shape {
    /// It has none, or they are none of the format's business.
    Plain,
    /// These, each with the shape of its value.
    Members(&'static [(&'static str, Shape)]),
    /// Any that are not named like extensions, all of one shape.
    AnyName(&'static Shape),
    /// It is an array of objects of one shape, which are told apart by their member `file`.
    Array(&'static Shape),
}

use Shape::{AnyName, Array, Members, Plain};

/// The whole text.
pub(super) const DOCUMENT: Shape = Members(&[(ROOT, DESCRIPTOR)]);

const DESCRIPTOR: Shape = Members(&[
    (VERSION, Plain),
    (IMAGE, IMAGE_REF),
    (BITMAPS, AnyName(&BITMAP)),
    (ID, Plain),
    (GENERATION, Plain),
    (SIZE, Plain),
    (DURABILITY, Plain),
    (STAMP, STAMP_SHAPE),
    (POINT, POINT_SHAPE),
    (IN_USE, IN_USE_SHAPE),
]);

const IMAGE_REF: Shape = Members(&[(FILE, Plain), (FORMAT, Plain)]);

const BITMAP: Shape = Members(&[
    (FILE, Plain),
    (GRANULARITY, Plain),
    (TYPE, Plain),
    (BACKING, IMAGE_REF),
    (POINT, Plain),
    (DOUBT, Plain),
    (SEGMENTS, Array(&Members(&[(FILE, Plain), (SEGMENT_POINT, Plain)]))),
    (DISABLED, Plain),
    (SEAL, Members(&[(FILE, Plain), (SEAL_GENERATION, Plain)])),
]);

const STAMP_SHAPE: Shape = Members(&[
    (STAMP_DEVICE, Plain),
    (STAMP_INODE, Plain),
    (STAMP_SIZE, Plain),
    (STAMP_MODIFIED, Plain),
]);

const POINT_SHAPE: Shape = Members(&[
    (POINT_ID, Plain),
    (POINT_PARENT, Plain),
    (POINT_CREATED, Plain),
    (POINT_IMAGE, Plain),
    (POINT_BITMAP, Plain),
    (POINT_STORED, Plain),
    (POINT_DIGEST, Plain),
    (POINT_DIGESTS, Plain),
    (POINT_BLOCK, Plain),
]);

const IN_USE_SHAPE: Shape = Members(&[
    (OPENER, Plain),
    (PID, Plain),
    (PROGRAM, Plain),
    (BOOT, Plain),
    (SINCE, Plain),
    (DATA_SYNC_FAILED, Plain),
]);

/// What a rewrite keeps of a value: the order of its members, and those that are not known.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept(Vec<(String, KeptMember)>);

#[derive(Clone, Debug)]
enum KeptMember {
    /// A member of the format. Its value comes from what the descriptor says by then.
    Known(Kept),
    /// A soft extension that is not known: its text.
    Unknown(Box<str>),
}

impl Shape {
    /// Checks the names of all members of `node`.
    ///
    /// # Errors
    ///
    /// The first name that is not known and is no soft extension. Values of the wrong type pass:
    /// to find those is left to whoever reads them.
    pub(super) fn sift(&self, node: &Node<'_>) -> Result<Kept, Fault> {
        match (self, &node.value) {
            (Members(_) | AnyName(_), Value::Object(members)) => {
                let kept = members.iter().map(|member| {
                    let kept = self.sift_member(member).map_err(|f| f.within(&member.name))?;
                    Ok((member.name.clone().into_owned(), kept))
                });
                kept.collect::<Result<_, _>>().map(Kept)
            }
            (Array(shape), Value::Array(nodes)) => {
                let kept = nodes.iter().enumerate().map(|(index, node)| {
                    let kept = shape.sift(node).map_err(|f| f.within_element(index))?;
                    Ok((file_of(node).to_owned(), KeptMember::Known(kept)))
                });
                kept.collect::<Result<_, _>>().map(Kept)
            }
            _ => Ok(Kept::default()),
        }
    }

    fn sift_member(&self, member: &Member<'_>) -> Result<KeptMember, Fault> {
        if let Some(shape) = self.of_member(&member.name) {
            return shape.sift(&member.node).map(KeptMember::Known);
        }
        if member.name.starts_with(SOFT) {
            return Ok(KeptMember::Unknown(member.node.text.into()));
        }
        let what = if member.name.starts_with(HARD) {
            "is not known to this program, and without it the image cannot be used: \
             a newer program is needed"
        } else {
            "is not a member that the format has here"
        };
        Err(Fault::new(member.at, what))
    }

    /// The shape of the member `name`, if there is one by this name.
    fn of_member(&self, name: &str) -> Option<&Self> {
        match self {
            Members(members) => {
                members.iter().find(|(own, _)| *own == name).map(|(_, shape)| shape)
            }
            AnyName(shape) if !name.starts_with(SOFT) && !name.starts_with(HARD) => Some(shape),
            _ => None,
        }
    }
}

/// The member `file` of `node`; empty if it has none, which is an error later on.
fn file_of<'n>(node: &'n Node<'_>) -> &'n str {
    let Value::Object(members) = &node.value else { return "" };
    let file = members.iter().find(|member| member.name == FILE);
    match file.map(|member| &member.node.value) {
        Some(Value::String(file)) => file,
        _ => "",
    }
}

impl Kept {
    /// Forgets the known members and elements that `written` does not have, with all in them.
    pub(super) fn retain(&mut self, written: &Json) {
        self.0.retain_mut(|(name, member)| match member {
            KeptMember::Unknown(_) => true,
            KeptMember::Known(kept) => match written.part(name) {
                Some(part) => {
                    kept.retain(part);
                    true
                }
                None => false,
            },
        });
    }

    /// Forgets the known member at `path`, a name for each object on the way, with all in it.
    pub(super) fn forget(&mut self, path: &[&str]) {
        let [first, rest @ ..] = path else { return };
        if rest.is_empty() {
            self.0
                .retain(|(name, member)| name != first || matches!(member, KeptMember::Unknown(_)));
            return;
        }
        for (name, member) in &mut self.0 {
            if let (true, KeptMember::Known(kept)) = (name == first, member) {
                kept.forget(rest);
            }
        }
    }

    /// `fresh` with the order that its members had, and with those that are not known. Members
    /// that are new follow at the end.
    pub(super) fn arrange(&self, fresh: Json) -> Json {
        match fresh {
            Json::Object(members) => Json::Object(self.arrange_members(members)),
            Json::Array(elements) => {
                let arranged = elements.into_iter().map(|element| {
                    match element.file().and_then(|file| self.0.iter().find(|(own, _)| own == file))
                    {
                        Some((_, KeptMember::Known(kept))) => kept.arrange(element),
                        _ => element,
                    }
                });
                Json::Array(arranged.collect())
            }
            Json::String(_) | Json::Literal(_) => fresh,
        }
    }

    fn arrange_members(&self, fresh: Vec<(String, Json)>) -> Vec<(String, Json)> {
        let mut ranked: Vec<(usize, (String, Json))> = Vec::new();
        let mut known = BTreeMap::new();
        for (rank, (name, member)) in self.0.iter().enumerate() {
            match member {
                KeptMember::Known(kept) => {
                    known.insert(name.as_str(), (rank, kept));
                }
                KeptMember::Unknown(text) => {
                    ranked.push((rank, (name.clone(), Json::Literal(text.to_string()))));
                }
            }
        }
        for (name, value) in fresh {
            ranked.push(match known.get(name.as_str()) {
                Some((rank, kept)) => (*rank, (name, kept.arrange(value))),
                None => (usize::MAX, (name, value)),
            });
        }
        // Stable: what is new stays in the order of the writer.
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, member)| member).collect()
    }
}
