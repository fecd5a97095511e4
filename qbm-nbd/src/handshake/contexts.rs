//! The options about metadata contexts.

use std::io;
use std::sync::Arc;

use super::{ContextsOf, Handshake, Next};
use crate::disk::Context;
use crate::export::Export;
use crate::limits::{MAX_CONTEXTS, MAX_NAME};
use crate::protocol::{MetaRequest, Rep, Style};

/// Why no contexts can be given.
type Refusal = (Rep, &'static str);

impl Handshake<'_> {
    /// `NBD_OPT_LIST_META_CONTEXT`
    pub(super) fn list_contexts(&mut self, option: u32, data: &[u8]) -> io::Result<Next> {
        let found = self.request(data).map(|(export, queries)| {
            let listed = |name: &str| queries.is_empty() || queries.iter().any(|q| lists(q, name));
            let contexts = numbered(&export).filter(|(_, it)| listed(&it.name()));
            contexts.collect::<Vec<_>>()
        });
        match found {
            Err((reply, why)) => self.reply(option, reply, why.as_bytes()),
            // "The metadata context ID in these replies is reserved and SHOULD be set to zero."
            Ok(found) => self.tell(option, found.iter().map(|(_, context)| (0, context))),
        }
    }

    /// `NBD_OPT_SET_META_CONTEXT`
    pub(super) fn set_contexts(&mut self, option: u32, data: &[u8]) -> io::Result<Next> {
        self.agreed.contexts = None;
        let chosen = self.request(data).and_then(|(export, queries)| {
            let contexts =
                numbered(&export).filter(|(_, context)| queries.contains(&context.name().as_str()));
            let contexts: Vec<_> = contexts.collect();
            if contexts.len() > MAX_CONTEXTS {
                return Err((Rep::ErrTooBig, "too many contexts"));
            }
            Ok(ContextsOf { export: Arc::downgrade(&export), contexts })
        });
        match chosen {
            Err((reply, why)) => self.reply(option, reply, why.as_bytes()),
            Ok(chosen) => {
                self.tell(option, chosen.contexts.iter().map(|(id, context)| (*id, context)))?;
                self.agreed.contexts = Some(chosen);
                Ok(Next::Option)
            }
        }
    }

    /// The export that the option is about, and its queries.
    fn request<'d>(&self, data: &'d [u8]) -> Result<(Arc<Export>, Vec<&'d str>), Refusal> {
        if self.agreed.style == Style::Simple {
            return Err((Rep::ErrInvalid, "structured replies come first"));
        }
        let request = MetaRequest::parse(data);
        let MetaRequest { name, queries } =
            request.map_err(|_| (Rep::ErrInvalid, "the option is malformed"))?;
        if name.len() > MAX_NAME || queries.iter().any(|query| query.len() > MAX_NAME) {
            return Err((Rep::ErrTooBig, "a name is too long"));
        }
        let export = self.find(name).ok_or((Rep::ErrUnknown, "there is no such export"))?;
        Ok((export, queries))
    }

    fn tell<'c>(
        &mut self,
        option: u32,
        contexts: impl Iterator<Item = (u32, &'c Context)>,
    ) -> io::Result<Next> {
        for (id, context) in contexts {
            let data = [&id.to_be_bytes(), context.name().as_bytes()].concat();
            self.send(&Rep::MetaContext.encode(option, &data))?;
        }
        self.reply(option, Rep::Ack, b"")
    }
}

/// The contexts of `export`, each with the id that it has on every connection.
fn numbered(export: &Export) -> impl Iterator<Item = (u32, Context)> + '_ {
    (0..).zip(export.contexts())
}

/// Whether the query asks for the context in a list: by its name, or by a part of it up to a colon,
/// as `base:` and `qemu:dirty-bitmap:` do.
fn lists(query: &str, name: &str) -> bool {
    query == name || query.ends_with(':') && name.starts_with(query)
}
