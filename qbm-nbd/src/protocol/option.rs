//! "Option types" and "Option reply types": what is haggled about before the transmission.

use super::{Data, Malformed, OPTION_MAGIC, OPTION_REPLY_MAGIC};

/// The options that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Opt {
    /// `NBD_OPT_EXPORT_NAME`
    ExportName = 1,
    /// `NBD_OPT_ABORT`
    Abort = 2,
    /// `NBD_OPT_LIST`
    List = 3,
    /// `NBD_OPT_STARTTLS`
    StartTls = 5,
    /// `NBD_OPT_INFO`
    Info = 6,
    /// `NBD_OPT_GO`
    Go = 7,
    /// `NBD_OPT_STRUCTURED_REPLY`
    StructuredReply = 8,
    /// `NBD_OPT_LIST_META_CONTEXT`
    ListMetaContext = 9,
    /// `NBD_OPT_SET_META_CONTEXT`
    SetMetaContext = 10,
    /// `NBD_OPT_EXTENDED_HEADERS`
    ExtendedHeaders = 11,
}

impl Opt {
    /// The option of this number, if it is known.
    pub fn from_number(number: u32) -> Option<Self> {
        const ALL: [Opt; 10] = [
            Opt::ExportName,
            Opt::Abort,
            Opt::List,
            Opt::StartTls,
            Opt::Info,
            Opt::Go,
            Opt::StructuredReply,
            Opt::ListMetaContext,
            Opt::SetMetaContext,
            Opt::ExtendedHeaders,
        ];
        ALL.into_iter().find(|option| *option as u32 == number)
    }
}

/// What goes before the data of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionHeader {
    /// Its number.
    pub number: u32,
    /// Bytes of its data.
    pub length: u32,
}

impl OptionHeader {
    /// Bytes of a header.
    pub const LENGTH: usize = 16;

    /// Its bytes.
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = OPTION_MAGIC.to_be_bytes().to_vec();
        bytes.extend(self.number.to_be_bytes());
        bytes.extend(self.length.to_be_bytes());
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// If the magic is wrong, or there are too few bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut data = Data(bytes);
        if data.u64()? != OPTION_MAGIC {
            return Err(Malformed);
        }
        Ok(Self { number: data.u32()?, length: data.u32()? })
    }
}

/// The types of replies to an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Rep {
    /// `NBD_REP_ACK`: done.
    Ack = 1,
    /// `NBD_REP_SERVER`: an export.
    Server = 2,
    /// `NBD_REP_INFO`: something about an export.
    Info = 3,
    /// `NBD_REP_META_CONTEXT`: a metadata context.
    MetaContext = 4,
    /// `NBD_REP_ERR_UNSUP`: no such option here.
    ErrUnsupported = 1 << 31 | 1,
    /// `NBD_REP_ERR_POLICY`: not allowed here.
    ErrPolicy = 1 << 31 | 2,
    /// `NBD_REP_ERR_INVALID`: malformed, or not now.
    ErrInvalid = 1 << 31 | 3,
    /// `NBD_REP_ERR_TLS_REQD`: not before TLS.
    ErrTlsRequired = 1 << 31 | 5,
    /// `NBD_REP_ERR_UNKNOWN`: no such export.
    ErrUnknown = 1 << 31 | 6,
    /// `NBD_REP_ERR_SHUTDOWN`: the server is about to end.
    ErrShutdown = 1 << 31 | 7,
    /// `NBD_REP_ERR_TOO_BIG`: more data than the server takes.
    ErrTooBig = 1 << 31 | 9,
    /// `NBD_REP_ERR_EXT_HEADER_REQD`: extended headers are negotiated, which is more.
    ErrExtendedHeaders = 1 << 31 | 10,
}

impl Rep {
    /// The reply to the option of this number, with its data.
    pub fn encode(self, option: u32, data: &[u8]) -> Vec<u8> {
        let length = u32::try_from(data.len()).expect("replies to options are short");
        let mut reply = Vec::with_capacity(20 + data.len());
        reply.extend(OPTION_REPLY_MAGIC.to_be_bytes());
        reply.extend(option.to_be_bytes());
        reply.extend((self as u32).to_be_bytes());
        reply.extend(length.to_be_bytes());
        reply.extend(data);
        reply
    }
}

impl Rep {
    fn from_number(number: u32) -> Option<Self> {
        const ALL: [Rep; 12] = [
            Rep::Ack,
            Rep::Server,
            Rep::Info,
            Rep::MetaContext,
            Rep::ErrUnsupported,
            Rep::ErrPolicy,
            Rep::ErrInvalid,
            Rep::ErrTlsRequired,
            Rep::ErrUnknown,
            Rep::ErrShutdown,
            Rep::ErrTooBig,
            Rep::ErrExtendedHeaders,
        ];
        ALL.into_iter().find(|reply| *reply as u32 == number)
    }

    /// What it means, for people.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Ack | Self::Server | Self::Info | Self::MetaContext => "done",
            Self::ErrUnsupported => "no such option",
            Self::ErrPolicy => "not allowed",
            Self::ErrInvalid => "not now",
            Self::ErrTlsRequired => "TLS is required",
            Self::ErrUnknown => "no such export",
            Self::ErrShutdown => "it is about to end",
            Self::ErrTooBig => "too much",
            Self::ErrExtendedHeaders => "extended headers are required",
        }
    }
}

/// What goes before the data of a reply to an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionReply {
    /// The number of the option.
    pub option: u32,
    /// Its type as it was sent.
    number: u32,
    /// Its type, if it is known.
    pub reply: Option<Rep>,
    /// Bytes of its data.
    pub length: u32,
}

impl OptionReply {
    /// Bytes of it.
    pub const LENGTH: usize = 20;

    /// Reads it.
    ///
    /// # Errors
    ///
    /// If the magic is wrong, or there are too few bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut data = Data(bytes);
        if data.u64()? != OPTION_REPLY_MAGIC {
            return Err(Malformed);
        }
        let (option, number) = (data.u32()?, data.u32()?);
        Ok(Self { option, number, reply: Rep::from_number(number), length: data.u32()? })
    }

    /// Whether the option is refused, whatever the reason.
    pub fn is_error(&self) -> bool {
        self.number >> 31 == 1
    }
}

/// "Information types" of `NBD_REP_INFO`.
pub mod info {
    /// `NBD_INFO_EXPORT`: size and transmission flags.
    pub const EXPORT: u16 = 0;
    /// `NBD_INFO_NAME`: the name that the server goes by.
    pub const NAME: u16 = 1;
    /// `NBD_INFO_DESCRIPTION`: text for people.
    pub const DESCRIPTION: u16 = 2;
    /// `NBD_INFO_BLOCK_SIZE`: the least, preferred and largest length of a request.
    pub const BLOCK_SIZE: u16 = 3;
}

/// The data of `NBD_OPT_INFO` and `NBD_OPT_GO`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportRequest<'b> {
    /// The export's name.
    pub name: &'b str,
    /// What the client wants to know.
    pub wanted: Vec<u16>,
}

impl<'b> ExportRequest<'b> {
    /// Reads the data of the option.
    ///
    /// # Errors
    ///
    /// If it is too short or too long, or the name is not UTF-8.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, Malformed> {
        let mut data = Data(bytes);
        let name = data.string()?;
        let count = data.u16()?;
        let wanted = (0..count).map(|_| data.u16()).collect::<Result<_, _>>()?;
        data.end()?;
        Ok(Self { name, wanted })
    }
}

/// The data of `NBD_OPT_LIST_META_CONTEXT` and `NBD_OPT_SET_META_CONTEXT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaRequest<'b> {
    /// The export's name.
    pub name: &'b str,
    /// The contexts asked for, in the client's order.
    pub queries: Vec<&'b str>,
}

impl<'b> MetaRequest<'b> {
    /// Reads the data of the option.
    ///
    /// # Errors
    ///
    /// If it is too short or too long, or a string is not UTF-8.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, Malformed> {
        let mut data = Data(bytes);
        let name = data.string()?;
        let count = data.u32()?;
        // Each takes four bytes at least, so that no count makes more than there are bytes.
        let queries = (0..count).map(|_| data.string()).collect::<Result<_, _>>()?;
        data.end()?;
        Ok(Self { name, queries })
    }
}
