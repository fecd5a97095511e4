//! The handshake from the client's end: from the greeting to the transmission.

use std::io;
use std::sync::Arc;

use qbm_core::Access;

use super::link::{Link, Speech};
use super::offer::{Offer, offer};
use super::origin::Origin;
use super::trouble::{in_words, out_of_step, strange, whole};
use crate::limits::MAX_OPTION;
use crate::protocol::{
    MAGIC, OPTION_MAGIC, Opt, OptionHeader, OptionReply, Rep, Style, handshake_flag, info,
};
use crate::receiver::Receiver;

/// Replies that a server may send to one option, before it is taken for one that never ends.
const MAX_REPLIES: usize = 64;

/// The context that tells what is zero.
const ALLOCATION: &str = "base:allocation";

/// Connects to `origin`, for `access`.
pub(super) fn shake(origin: &Origin, access: Access) -> io::Result<(Link, Offer)> {
    let line = Arc::new(origin.dial()?);
    let mut shaking =
        Shaking(Speech { line: Arc::clone(&line), tls: None, receiver: Receiver::new() });
    shaking.greet()?;
    if origin.is_secret() {
        shaking.begin_tls(origin)?;
    }
    let style = shaking.choose_style()?;
    let context =
        if style == Style::Simple { None } else { shaking.choose_context(&origin.export)? };
    let mut offer = shaking.go(&origin.export)?;
    offer.can_tell_zeroes = context.is_some();
    offer.check(access)?;
    line.begin_transmission()?;
    Ok((Link { speech: shaking.0, style, context, cookie: 0 }, offer))
}

struct Shaking(Speech);

/// A reply to an option: its type and data, or in words why it is refused.
type Reply = Result<(Rep, Vec<u8>), String>;

impl Shaking {
    fn greet(&mut self) -> io::Result<()> {
        let mut greeting = [0; 18];
        self.0.fill(&mut greeting)?;
        let (magics, flags) =
            whole(&greeting, "a greeting", |data| Ok(((data.u64()?, data.u64()?), data.u16()?)))?;
        if magics != (MAGIC, OPTION_MAGIC) {
            return Err(strange("it is not an NBD server of the new style"));
        }
        if flags & handshake_flag::FIXED_NEWSTYLE == 0 {
            let what = "the server is too old: it does not haggle in the fixed new style";
            return Err(strange(what));
        }
        let ours = flags & (handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES);
        self.0.send(&[&u32::from(ours).to_be_bytes()])
    }

    /// Speaks TLS from here on. Without it nothing is said that a stranger should not hear.
    fn begin_tls(&mut self, origin: &Origin) -> io::Result<()> {
        self.option(Opt::StartTls, &[])?;
        match self.reply(Opt::StartTls)? {
            Ok((Rep::Ack, _)) if self.0.receiver.has_more() => {
                // A stranger may have put it there.
                Err(out_of_step("something in the open after the switch to TLS"))
            }
            Ok((Rep::Ack, _)) => {
                self.0.tls = origin.secure(&self.0.line)?;
                Ok(())
            }
            Ok(_) => Err(not_due()),
            Err(why) => Err(strange(format!("there is no TLS: {why}"))),
        }
    }

    /// The best style that the server knows.
    fn choose_style(&mut self) -> io::Result<Style> {
        for (option, style) in
            [(Opt::ExtendedHeaders, Style::Extended), (Opt::StructuredReply, Style::Structured)]
        {
            self.option(option, &[])?;
            match self.reply(option)? {
                Ok((Rep::Ack, _)) => return Ok(style),
                Ok(_) => return Err(not_due()),
                // Without it, then.
                Err(_) => {}
            }
        }
        Ok(Style::Simple)
    }

    /// The id of the context that tells what is zero, if the server has it.
    fn choose_context(&mut self, export: &str) -> io::Result<Option<u32>> {
        let mut data = string(export);
        data.extend(1_u32.to_be_bytes());
        data.extend(string(ALLOCATION));
        self.option(Opt::SetMetaContext, &data)?;
        let mut chosen = None;
        for _ in 0..MAX_REPLIES {
            match self.reply(Opt::SetMetaContext)? {
                Ok((Rep::MetaContext, data)) => {
                    let (id, name) = whole(&data, "a context", |data| {
                        Ok((data.u32()?, std::mem::take(&mut data.0)))
                    })?;
                    // What another one says would be taken for zeroes.
                    if name != ALLOCATION.as_bytes() || chosen.replace(id).is_some() {
                        return Err(out_of_step("a context that was not asked for"));
                    }
                }
                Ok((Rep::Ack, _)) => return Ok(chosen),
                Ok(_) => return Err(not_due()),
                Err(_) => return Ok(None),
            }
        }
        Err(endless())
    }

    fn go(&mut self, export: &str) -> io::Result<Offer> {
        let mut data = string(export);
        data.extend(1_u16.to_be_bytes());
        data.extend(info::BLOCK_SIZE.to_be_bytes());
        self.option(Opt::Go, &data)?;
        let (mut told, mut blocks) = (None, None);
        for _ in 0..MAX_REPLIES {
            match self.reply(Opt::Go)? {
                Ok((Rep::Info, data)) => {
                    whole(&data, "information", |data| {
                        match data.u16()? {
                            info::EXPORT => told = Some((data.u64()?, data.u16()?)),
                            info::BLOCK_SIZE => {
                                blocks = Some([data.u32()?, data.u32()?, data.u32()?]);
                            }
                            _ => data.0 = &[],
                        }
                        Ok(())
                    })?;
                }
                Ok((Rep::Ack, _)) => {
                    let told = told.ok_or_else(|| out_of_step("no size before the transmission"));
                    let (size, flags) = told?;
                    return offer(size, flags, blocks);
                }
                Ok(_) => return Err(not_due()),
                Err(why) => return Err(strange(why)),
            }
        }
        Err(endless())
    }

    fn option(&mut self, option: Opt, data: &[u8]) -> io::Result<()> {
        let length = u32::try_from(data.len()).expect("options are short");
        let header = OptionHeader { number: option as u32, length }.encode();
        self.0.send(&[&header, data]).map_err(|error| {
            // A server that hangs up on us in TLS says why, if anybody reads it.
            match self.0.fill(&mut [0]) {
                Err(why) if why.kind() == io::ErrorKind::Other => why,
                _ => error,
            }
        })
    }

    fn reply(&mut self, option: Opt) -> io::Result<Reply> {
        let mut header = [0; OptionReply::LENGTH];
        self.0.fill(&mut header)?;
        let header = OptionReply::parse(&header);
        let header = header.map_err(|_| out_of_step("no reply to an option"))?;
        if header.option != option as u32 {
            return Err(out_of_step("a reply to another option"));
        }
        let length = usize::try_from(header.length).ok().filter(|length| *length <= MAX_OPTION);
        let length = length.ok_or_else(|| out_of_step("a reply that is too long"))?;
        let mut data = vec![0; length];
        self.0.fill(&mut data)?;
        if header.is_error() {
            let refusal = header.reply.map_or("refused", Rep::in_words);
            return Ok(Err(format!("the server says: {refusal}{}", in_words(&data)?)));
        }
        match header.reply {
            Some(Rep::Ack) if !data.is_empty() => Err(out_of_step("an assent with data")),
            Some(reply) => Ok(Ok((reply, data))),
            None => Err(not_due()),
        }
    }
}

/// A string after its length.
fn string(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("names are short");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

fn not_due() -> io::Error {
    out_of_step("a reply of a kind that is not due")
}

fn endless() -> io::Error {
    out_of_step("replies without end")
}
