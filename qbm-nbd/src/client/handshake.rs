//! The handshake from the client's end: from the greeting to the transmission.

use std::io::{self, IoSlice};

use qbm_core::{Access, Limits};

use super::link::Link;
use super::uri::NbdUri;
use crate::limits::{MAX_OPTION, MAX_REQUEST};
use crate::protocol::{
    Data, MAGIC, Malformed, OPTION_MAGIC, Opt, OptionHeader, OptionReply, Rep, Style,
    handshake_flag, info, transmission_flag as can,
};
use crate::receiver::Receiver;
use crate::wire::{Socket, Wire, send_all};

/// Replies that a server may send to one option, before it is taken for one that never ends.
const MAX_REPLIES: usize = 64;

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
        let alignment = self.preferred.max(self.least);
        let most = u32::try_from(self.most).unwrap_or(u32::MAX).min(2 << 20);
        Limits { alignment, max_transfer: (most - most % alignment).max(alignment) }
    }

    fn check(&self, access: Access) -> io::Result<()> {
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

/// Connects to `uri`, for `access`.
pub(super) fn shake(socket: Socket, uri: &NbdUri, access: Access) -> io::Result<(Link, Offer)> {
    let mut shaking = Shaking { socket, receiver: Receiver::new() };
    shaking.greet()?;
    let style = shaking.choose_style()?;
    let can_tell_zeroes = style != Style::Simple && shaking.choose_context(&uri.export)?;
    let mut offer = shaking.go(&uri.export)?;
    offer.can_tell_zeroes = can_tell_zeroes;
    offer.check(access)?;
    let Shaking { socket, receiver } = shaking;
    Ok((Link { socket, receiver, style, cookie: 0 }, offer))
}

struct Shaking {
    socket: Socket,
    receiver: Receiver,
}

impl Shaking {
    fn greet(&mut self) -> io::Result<()> {
        let mut greeting = [0; 18];
        self.fill(&mut greeting)?;
        let mut greeting = Data(&greeting);
        let flags = |mut greeting: Data<'_>| -> Result<u16, Malformed> {
            let magics = (greeting.u64()?, greeting.u64()?);
            if magics != (MAGIC, OPTION_MAGIC) {
                return Err(Malformed);
            }
            greeting.u16()
        };
        let flags = flags(std::mem::replace(&mut greeting, Data(&[])));
        let flags = flags.map_err(|_| strange("it is not an NBD server of the new style"))?;
        if flags & handshake_flag::FIXED_NEWSTYLE == 0 {
            return Err(strange(
                "the server is too old: it does not haggle in the fixed new style",
            ));
        }
        let ours = flags & (handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES);
        self.send(&u32::from(ours).to_be_bytes())
    }

    /// The best style that the server knows.
    fn choose_style(&mut self) -> io::Result<Style> {
        for (option, style) in
            [(Opt::ExtendedHeaders, Style::Extended), (Opt::StructuredReply, Style::Structured)]
        {
            self.option(option, &[])?;
            match self.reply(option)? {
                Ok((Rep::Ack, _)) => return Ok(style),
                Ok(_) => return Err(out_of_step()),
                // Without it, then.
                Err(_) => {}
            }
        }
        Ok(Style::Simple)
    }

    /// Whether the server tells what is zero.
    fn choose_context(&mut self, export: &str) -> io::Result<bool> {
        let mut data = string(export);
        data.extend(1_u32.to_be_bytes());
        data.extend(string("base:allocation"));
        self.option(Opt::SetMetaContext, &data)?;
        let mut chosen = false;
        for _ in 0..MAX_REPLIES {
            match self.reply(Opt::SetMetaContext)? {
                Ok((Rep::MetaContext, _)) => chosen = true,
                Ok((Rep::Ack, _)) => return Ok(chosen),
                Ok(_) => return Err(out_of_step()),
                Err(_) => return Ok(false),
            }
        }
        Err(out_of_step())
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
                    let mut data = Data(&data);
                    let mut read = || -> Result<(), Malformed> {
                        match data.u16()? {
                            info::EXPORT => told = Some((data.u64()?, data.u16()?)),
                            info::BLOCK_SIZE => {
                                blocks = Some([data.u32()?, data.u32()?, data.u32()?]);
                            }
                            _ => {}
                        }
                        Ok(())
                    };
                    read().map_err(|_| out_of_step())?;
                }
                Ok((Rep::Ack, _)) => {
                    let (size, flags) = told.ok_or_else(out_of_step)?;
                    return offer(size, flags, blocks);
                }
                Ok(_) => return Err(out_of_step()),
                Err(why) => return Err(strange(&why)),
            }
        }
        Err(out_of_step())
    }

    fn option(&mut self, option: Opt, data: &[u8]) -> io::Result<()> {
        let length = u32::try_from(data.len()).expect("options are short");
        let header = OptionHeader { number: option as u32, length }.encode();
        self.send(&[&header, data].concat())
    }

    /// A reply to `option`: its type and data, or in words why it is refused.
    fn reply(&mut self, option: Opt) -> io::Result<Result<(Rep, Vec<u8>), String>> {
        let mut header = [0; OptionReply::LENGTH];
        self.fill(&mut header)?;
        let header = OptionReply::parse(&header).map_err(|_| out_of_step())?;
        let length = usize::try_from(header.length).map_err(|_| out_of_step())?;
        if header.option != option as u32 || length > MAX_OPTION {
            return Err(out_of_step());
        }
        let mut data = vec![0; length];
        self.fill(&mut data)?;
        if header.is_error() {
            let words = String::from_utf8_lossy(&data);
            let refusal = header.reply.map_or("refused", Rep::in_words);
            return Ok(Err(match &*words {
                "" => format!("the server says: {refusal}"),
                words => format!("the server says: {refusal}: {}", words.escape_debug()),
            }));
        }
        Ok(Ok((header.reply.ok_or_else(out_of_step)?, data)))
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        send_all(&self.socket, &mut [IoSlice::new(bytes)])
    }

    fn fill(&mut self, into: &mut [u8]) -> io::Result<()> {
        self.receiver.fill(&self.socket as &dyn Wire, into)
    }
}

/// What a server offers that says this of an export.
fn offer(size: u64, flags: u16, blocks: Option<[u32; 3]>) -> io::Result<Offer> {
    // Without a word about blocks, the document wants requests of any length up to 32 MiB served.
    let [least, preferred, most] = blocks.unwrap_or([1, 4096, 32 << 20]);
    let sane = least.is_power_of_two() && preferred.is_power_of_two() && most >= least;
    if !sane || least > 64 << 10 || !size.is_multiple_of(u64::from(least)) {
        return Err(strange(
            "the server has blocks that cannot be, or that its disk is no multiple of",
        ));
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

/// A string after its length.
fn string(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("names are short");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

fn strange(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn out_of_step() -> io::Error {
    strange("the server does not follow the protocol")
}
