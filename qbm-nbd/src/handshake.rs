//! "Fixed newstyle negotiation": from the greeting to a session, or to the end.
//!
//! The client is a stranger. It can make the server read [`MAX_SKIPPED_OPTION`] bytes for each of
//! [`MAX_OPTIONS`] options, and hold [`MAX_OPTION`] of them; how long it may take is the business of
//! whoever accepted it.

mod contexts;

use std::io::{self, IoSlice};
use std::sync::{Arc, Weak};

use crate::disk::Context;
use crate::export::Export;
use crate::limits::{MAX_NAME, MAX_OPTION, MAX_OPTIONS, MAX_REQUEST, MAX_SKIPPED_OPTION};
use crate::protocol::{
    ExportRequest, MAGIC, Malformed, OPTION_MAGIC, Opt, OptionHeader, Rep, Style, handshake_flag,
    info,
};
use crate::receiver::Receiver;
use crate::tls::{Tls, TlsWire};
use crate::wire::{Wire, send_all};

/// The refusal of an option that comes before TLS, and of one with too much data.
const TLS_FIRST: (Rep, &[u8]) = (Rep::ErrTlsRequired, b"TLS comes first");
const TOO_LONG: (Rep, &[u8]) = (Rep::ErrTooBig, b"the option is too long");

/// What was agreed upon.
pub(crate) struct Session {
    pub(crate) export: Arc<Export>,
    pub(crate) style: Style,
    /// The contexts chosen, with their ids.
    pub(crate) contexts: Vec<(u32, Context)>,
    /// What is said from here on.
    pub(crate) wire: Arc<dyn Wire>,
    /// With what the client has sent already.
    pub(crate) receiver: Receiver,
}

/// The peers of a handshake.
pub(crate) struct Handshake<'s> {
    /// What there was at its beginning; held by no more than this, so that a client who is slow keeps no
    /// disk from being closed.
    exports: Vec<Weak<Export>>,
    wire: Arc<dyn Wire>,
    security: Security<'s>,
    receiver: Receiver,
    /// Whether one more client may be served; if so, it is counted.
    admit: &'s dyn Fn() -> bool,
    agreed: Agreed,
}

/// Whether strangers on the way can listen.
#[derive(Clone, Copy)]
enum Security<'s> {
    /// They can, and that is fine.
    None,
    /// They can, and nothing is said before that is over.
    Wanted(&'s Tls),
    /// They cannot.
    On,
}

/// What has been agreed so far.
#[derive(Default)]
struct Agreed {
    greeting: Greeting,
    style: Style,
    contexts: Option<ContextsOf>,
}

/// The contexts chosen for an export, with their ids.
struct ContextsOf {
    export: Weak<Export>,
    contexts: Vec<(u32, Context)>,
}

/// What the client's flags say.
#[derive(Clone, Copy, Default)]
struct Greeting {
    fixed: bool,
    no_zeroes: bool,
}

/// What follows an option.
enum Next {
    /// Another one.
    Option,
    /// The transmission.
    Serve(Arc<Export>),
    /// Nothing.
    End,
}

impl<'s> Handshake<'s> {
    pub(crate) fn new(
        exports: Vec<Weak<Export>>,
        wire: Arc<dyn Wire>,
        tls: Option<&'s Tls>,
        admit: &'s dyn Fn() -> bool,
    ) -> Self {
        let security = tls.map_or(Security::None, Security::Wanted);
        let (receiver, agreed) = (Receiver::new(), Agreed::default());
        Self { exports, wire, security, receiver, admit, agreed }
    }

    /// Haggles to the end; `None` if the client has gone in peace.
    ///
    /// # Errors
    ///
    /// If the wire is broken, or nothing but breaking it is left: after bytes that are not NBD's.
    pub(crate) fn run(mut self) -> io::Result<Option<Session>> {
        self.greet()?;
        let mut data = Vec::new();
        for _ in 0..MAX_OPTIONS {
            let mut header = [0; OptionHeader::LENGTH];
            self.receiver.fill(&*self.wire, &mut header)?;
            let header = OptionHeader::parse(&header).map_err(broken)?;
            match self.option(header, &mut data)? {
                Next::Option => {}
                Next::End => {
                    self.wire.stop_sending();
                    return Ok(None);
                }
                Next::Serve(export) => return Ok(Some(self.into_session(export))),
            }
        }
        Err(out_of_step())
    }

    fn greet(&mut self) -> io::Result<()> {
        let ours = handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES;
        let mut greeting = MAGIC.to_be_bytes().to_vec();
        greeting.extend(OPTION_MAGIC.to_be_bytes());
        greeting.extend(ours.to_be_bytes());
        self.send(&greeting)?;
        let mut theirs = [0; 4];
        self.receiver.fill(&*self.wire, &mut theirs)?;
        let theirs = u32::from_be_bytes(theirs);
        if theirs & !u32::from(ours) != 0 {
            // "Client flags": the server must drop a client with flags that it does not know.
            return Err(out_of_step());
        }
        self.agreed.greeting.fixed = theirs & u32::from(handshake_flag::FIXED_NEWSTYLE) != 0;
        self.agreed.greeting.no_zeroes = theirs & u32::from(handshake_flag::NO_ZEROES) != 0;
        Ok(())
    }

    /// Answers an option; `data` is room for what comes with it.
    fn option(&mut self, header: OptionHeader, data: &mut Vec<u8>) -> io::Result<Next> {
        let number = header.number;
        let known = Opt::from_number(number);
        if !self.agreed.greeting.fixed && known != Some(Opt::ExportName) {
            return Err(out_of_step());
        }
        let barred = matches!(self.security, Security::Wanted(_))
            && !matches!(known, Some(Opt::StartTls | Opt::Abort));
        let length = usize::try_from(header.length).map_err(|_| out_of_step())?;
        if length > MAX_OPTION {
            if header.length > MAX_SKIPPED_OPTION || known == Some(Opt::ExportName) {
                return Err(out_of_step());
            }
            self.receiver.skip(&*self.wire, u64::from(header.length))?;
            let (reply, why) = if barred { TLS_FIRST } else { TOO_LONG };
            return self.reply(number, reply, why);
        }
        data.resize(length, 0);
        self.receiver.fill(&*self.wire, data)?;
        if barred {
            return match known {
                Some(Opt::ExportName) => Err(out_of_step()),
                _ => self.reply(number, TLS_FIRST.0, TLS_FIRST.1),
            };
        }
        let Some(option) = known else {
            return self.reply(number, Rep::ErrUnsupported, b"the option is not known");
        };
        match option {
            Opt::ExportName => self.export_name(data),
            Opt::Info => self.info(number, data, false),
            Opt::Go => self.info(number, data, true),
            Opt::ListMetaContext => self.list_contexts(number, data),
            Opt::SetMetaContext => self.set_contexts(number, data),
            _ if !data.is_empty() => {
                self.reply(number, Rep::ErrInvalid, b"the option takes no data")
            }
            Opt::Abort => {
                // A client may go without waiting for this.
                let _sent = self.reply(number, Rep::Ack, b"");
                Ok(Next::End)
            }
            Opt::List => self.list(number),
            Opt::StartTls => self.start_tls(number),
            Opt::StructuredReply => self.structured_reply(number),
            Opt::ExtendedHeaders => self.extended_headers(number),
        }
    }

    /// `NBD_OPT_STARTTLS`. Nothing that was said before counts after it, since anybody may have said
    /// it.
    fn start_tls(&mut self, option: u32) -> io::Result<Next> {
        let tls = match self.security {
            Security::None => {
                return self.reply(option, Rep::ErrUnsupported, b"there is no TLS here");
            }
            Security::On => return self.reply(option, Rep::ErrInvalid, b"TLS is on"),
            Security::Wanted(tls) => tls,
        };
        if self.receiver.has_more() {
            // An honest client waits for the reply. These bytes would be taken for encrypted ones.
            return Err(out_of_step());
        }
        self.reply(option, Rep::Ack, b"")?;
        self.wire = Arc::new(TlsWire::accept(Arc::clone(&self.wire), tls)?);
        self.security = Security::On;
        self.agreed = Agreed { greeting: self.agreed.greeting, ..Agreed::default() };
        Ok(Next::Option)
    }

    /// `NBD_OPT_EXPORT_NAME`, which cannot be refused but by hanging up.
    fn export_name(&mut self, name: &[u8]) -> io::Result<Next> {
        let name = std::str::from_utf8(name).map_err(|_| out_of_step())?;
        let export = self.find(name).ok_or_else(out_of_step)?;
        if !(self.admit)() {
            return Err(out_of_step());
        }
        let mut reply = export.disk.size().to_be_bytes().to_vec();
        reply.extend(export.flags(self.agreed.style).to_be_bytes());
        if !self.agreed.greeting.no_zeroes {
            reply.extend([0; 124]);
        }
        self.send(&reply)?;
        Ok(Next::Serve(export))
    }

    /// `NBD_OPT_LIST`
    fn list(&mut self, option: u32) -> io::Result<Next> {
        let listed = |export: Arc<Export>| {
            let length = u32::try_from(export.name.len()).expect("names are short");
            [&length.to_be_bytes(), export.name.as_bytes(), export.description.as_bytes()].concat()
        };
        let listed: Vec<_> = self.exports.iter().filter_map(Weak::upgrade).map(listed).collect();
        for data in listed {
            self.send(&Rep::Server.encode(option, &data))?;
        }
        self.reply(option, Rep::Ack, b"")
    }

    /// `NBD_OPT_INFO`, and with `go` `NBD_OPT_GO`
    fn info(&mut self, option: u32, data: &[u8], go: bool) -> io::Result<Next> {
        let Ok(request) = ExportRequest::parse(data) else {
            return self.reply(option, Rep::ErrInvalid, b"the option is malformed");
        };
        if request.name.len() > MAX_NAME {
            return self.reply(option, Rep::ErrTooBig, b"the name is too long");
        }
        let Some(export) = self.find(request.name) else {
            return self.reply(option, Rep::ErrUnknown, b"there is no such export");
        };
        if go && !(self.admit)() {
            return self.reply(option, Rep::ErrPolicy, b"too many clients are served");
        }
        let told = infos(&export, self.agreed.style, &request.wanted);
        let chosen = go.then_some(export);
        for item in told {
            self.send(&Rep::Info.encode(option, &item))?;
        }
        self.reply(option, Rep::Ack, b"")?;
        Ok(chosen.map_or(Next::Option, Next::Serve))
    }

    /// `NBD_OPT_STRUCTURED_REPLY`
    fn structured_reply(&mut self, option: u32) -> io::Result<Next> {
        match self.agreed.style {
            Style::Simple => {
                self.agreed.style = Style::Structured;
                self.reply(option, Rep::Ack, b"")
            }
            Style::Structured => self.reply(option, Rep::ErrInvalid, b"they are agreed upon"),
            Style::Extended => {
                self.reply(option, Rep::ErrExtendedHeaders, b"extended headers are agreed upon")
            }
        }
    }

    /// `NBD_OPT_EXTENDED_HEADERS`, which structured replies are part of
    fn extended_headers(&mut self, option: u32) -> io::Result<Next> {
        if self.agreed.style == Style::Extended {
            return self.reply(option, Rep::ErrInvalid, b"they are agreed upon");
        }
        self.agreed.style = Style::Extended;
        self.reply(option, Rep::Ack, b"")
    }

    /// The export `name`, if it is still there. The empty name is the first one's too: "the default
    /// export".
    fn find(&self, name: &str) -> Option<Arc<Export>> {
        let mut exports = self.exports.iter().filter_map(Weak::upgrade);
        let named = exports.find(|export| export.name == name);
        named.or_else(|| self.exports.first().filter(|_| name.is_empty())?.upgrade())
    }

    fn reply(&mut self, option: u32, reply: Rep, data: &[u8]) -> io::Result<Next> {
        self.send(&reply.encode(option, data))?;
        Ok(Next::Option)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        send_all(&*self.wire, &mut [IoSlice::new(bytes)])
    }

    fn into_session(self, export: Arc<Export>) -> Session {
        let chosen = self.agreed.contexts;
        let chosen = chosen.filter(|chosen| chosen.export.as_ptr() == Arc::as_ptr(&export));
        let contexts = chosen.map(|chosen| chosen.contexts).unwrap_or_default();
        let style = self.agreed.style;
        Session { export, style, contexts, wire: self.wire, receiver: self.receiver }
    }
}

/// What a client that wants to know `wanted` is told of `export`: the data of each reply.
fn infos(export: &Export, style: Style, wanted: &[u16]) -> Vec<Vec<u8>> {
    let mut told = info::EXPORT.to_be_bytes().to_vec();
    told.extend(export.disk.size().to_be_bytes());
    told.extend(export.flags(style).to_be_bytes());
    let mut sizes = info::BLOCK_SIZE.to_be_bytes().to_vec();
    let largest = u32::try_from(MAX_REQUEST).expect("32 MiB");
    for size in [1, 4096, largest] {
        sizes.extend(u32::to_be_bytes(size));
    }
    let mut infos = vec![told, sizes];
    for (number, text) in [(info::NAME, &export.name), (info::DESCRIPTION, &export.description)] {
        if wanted.contains(&number) && !text.is_empty() {
            infos.push([&number.to_be_bytes(), text.as_bytes()].concat());
        }
    }
    infos
}

/// The client is not, or no longer, in step.
fn out_of_step() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

fn broken(_: Malformed) -> io::Error {
    out_of_step()
}
