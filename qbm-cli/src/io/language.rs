//! The command language of qemu-io: from a line to a [`Command`]. Any text is fine as a line.

use crate::size::{self, SizeError};

/// The most bytes of one transfer, in bytes: what QEMU allows too.
pub const MAX_TRANSFER: u64 = 2_147_483_136;

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Read, and maybe verify or show.
    Read(Transfer),
    /// Write a pattern, a file or zeroes.
    Write(Transfer),
    /// Discard a range.
    Discard(Transfer),
    /// Make durable what was written.
    Flush,
    /// Wait for asynchronous transfers.
    AioFlush,
    /// Change the size.
    Truncate(u64),
    /// Tell the size.
    Length,
    /// Tell which ranges are allocated.
    Map,
    /// Tell how much of a range is allocated: its offset and length.
    Alloc(u64, u64),
    /// Wait so many milliseconds.
    Sleep(u64),
    /// Tell what the image is.
    Info,
    /// Explain all commands, or one.
    Help(Option<String>),
    /// End.
    Quit,
}

/// A transfer, and its options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// The first byte.
    pub offset: u64,
    /// Bytes; at most [`MAX_TRANSFER`].
    pub length: u64,
    /// `-P`: the byte to write, or to verify.
    pub pattern: Option<u8>,
    /// `-s` of a write: the file whose bytes are written, again and again.
    pub source: Option<String>,
    /// `-s` of a read: where the pattern begins, counted from the offset.
    pub pattern_start: u64,
    /// `-l`: bytes of the pattern.
    pub pattern_length: Option<u64>,
    /// `-z`: zeroes.
    pub zeroes: bool,
    /// `-u`: with `-z`, space may be given back.
    pub unmap: bool,
    /// `-f`: durable at its return.
    pub durable: bool,
    /// `-v`: shows the bytes.
    pub show: bool,
    /// `-q`: no statistics.
    pub quiet: bool,
    /// `-C`: statistics for programs.
    pub machine: bool,
    /// Whether the command returns before it is done.
    pub asynchronous: bool,
}

/// Why a line is no command. Like qemu-io, some of it goes to standard output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For standard error.
    pub error: Option<String>,
    /// For standard output.
    pub output: Option<String>,
}

impl Refusal {
    fn error(text: String) -> Self {
        Self { error: Some(text), output: None }
    }

    fn output(text: String) -> Self {
        Self { error: None, output: Some(text) }
    }
}

/// A command as it is called: its names, option letters, arguments and purpose.
#[derive(Debug)]
pub struct Verb {
    /// Its name.
    pub name: &'static str,
    /// A short form, or nothing.
    short: &'static str,
    /// Its option letters; one with a `:` behind it takes a value.
    options: &'static str,
    /// Its arguments.
    arguments: &'static str,
    /// The fewest and the most arguments.
    count: (usize, usize),
    /// What it does.
    purpose: &'static str,
}

const MANY: usize = usize::MAX;

/// All commands.
pub const VERBS: &[Verb] = &[
    verb("aio_flush", "", "", ("", 0, 0), "wait until all asynchronous transfers are done"),
    verb("aio_read", "", "CP:qrv", ("off len [len..]", 2, MANY), "read without waiting for it"),
    verb("aio_write", "", "CfP:qruz", ("off len [len..]", 2, MANY), "write without waiting for it"),
    verb("alloc", "", "", ("off [len]", 1, 2), "tell how much of a range is allocated"),
    verb("discard", "d", "Cq", ("off len", 2, 2), "give up the contents of a range"),
    verb("flush", "f", "", ("", 0, 0), "make durable what was written"),
    verb("help", "?", "", ("[command]", 0, 1), "explain all commands, or one"),
    verb("info", "i", "", ("", 0, 0), "tell what the image is"),
    verb("length", "l", "", ("", 0, 0), "tell the size of the disk"),
    verb("map", "", "", ("", 0, 0), "tell which ranges are allocated"),
    verb("quit", "q", "", ("", 0, 0), "end"),
    verb("read", "r", "Cl:pP:qrs:v", ("off len", 2, 2), "read, and with -P verify a pattern"),
    verb("readv", "rv", "CP:qrv", ("off len [len..]", 2, MANY), "read into several buffers"),
    verb("sleep", "", "", ("milliseconds", 1, 1), "wait"),
    verb("truncate", "t", "", ("size", 1, 1), "change the size of the disk"),
    verb("write", "w", "CfnpP:qrs:uz", ("off len", 2, 2), "write a pattern, a file or zeroes"),
    verb("writev", "wv", "CfP:qr", ("off len [len..]", 2, MANY), "write from several buffers"),
];

const fn verb(
    name: &'static str,
    short: &'static str,
    options: &'static str,
    (arguments, fewest, most): (&'static str, usize, usize),
    purpose: &'static str,
) -> Verb {
    Verb { name, short, options, arguments, count: (fewest, most), purpose }
}

impl Verb {
    /// How it is called, and what it does, in one line.
    pub fn usage(&self) -> String {
        let mut flags = String::new();
        let mut values = String::new();
        let mut letters = self.options.chars().peekable();
        while let Some(letter) = letters.next() {
            if letters.next_if_eq(&':').is_some() {
                values += &format!("[-{letter} {}] ", value_name(letter, self.name));
            } else {
                flags.push(letter);
            }
        }
        let flags = if flags.is_empty() { flags } else { format!("[-{flags}] ") };
        format!("{} {flags}{values}{} -- {}", self.name, self.arguments, self.purpose)
    }

    fn count_error(&self, found: usize) -> String {
        let expected = match self.count {
            (fewest, MANY) => format!("at least {fewest}"),
            (fewest, most) if fewest == most => fewest.to_string(),
            (fewest, most) => format!("between {fewest} and {most}"),
        };
        let name = self.name;
        format!("bad argument count {found} to {name}, expected {expected} arguments")
    }
}

fn value_name(letter: char, verb: &str) -> &'static str {
    match (letter, verb) {
        ('P', _) => "pattern",
        ('s', "write") => "file",
        ('s', _) => "off",
        _ => "len",
    }
}

/// The verb `name`, by its name or short form.
pub fn find(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name || (!verb.short.is_empty() && verb.short == name))
}

/// Reads a line; `None` if it asks for nothing.
///
/// # Errors
///
/// What is wrong with it.
pub fn parse(line: &str) -> Result<Option<Command>, Refusal> {
    let mut words = line.split_whitespace();
    let Some(name) = words.next() else { return Ok(None) };
    let verb = find(name).ok_or_else(|| Refusal::error(format!("command \"{name}\" not found")))?;
    let words: Vec<&str> = words.collect();
    let (fewest, most) = verb.count;
    // Counted with the options, as qemu-io counts.
    if words.len() < fewest || (verb.options.is_empty() && words.len() > most) {
        return Err(Refusal::error(verb.count_error(words.len())));
    }
    let Parsed { transfer, arguments } = Parsed::of(verb, &words)?;
    let number = |index: usize| arguments.get(index).map_or(Ok(0), |text| number(text));
    Ok(Some(match verb.name {
        "aio_flush" => Command::AioFlush,
        "alloc" => Command::Alloc(number(0)?, number(1)?.max(512)),
        "flush" => Command::Flush,
        "help" => Command::Help(arguments.first().map(|name| (*name).to_owned())),
        "info" => Command::Info,
        "length" => Command::Length,
        "map" => Command::Map,
        "quit" => Command::Quit,
        "sleep" => Command::Sleep(milliseconds(arguments[0])?),
        "truncate" => Command::Truncate(number(0)?),
        _ => transfer_command(verb, transfer, &arguments)?,
    }))
}

fn transfer_command(
    verb: &Verb,
    mut transfer: Transfer,
    arguments: &[&str],
) -> Result<Command, Refusal> {
    let (fewest, most) = verb.count;
    let nonsense = (transfer.pattern_length.is_some() || transfer.pattern_start > 0)
        && transfer.pattern.is_none();
    if arguments.len() < fewest || arguments.len() > most || nonsense {
        return Err(Refusal::output(verb.usage()));
    }
    let sources = [transfer.zeroes, transfer.pattern.is_some(), transfer.source.is_some()];
    if sources.into_iter().filter(|given| *given).count() > 1 {
        let text = "Only one of -z, -P, and -s can be specified at the same time";
        return Err(Refusal::output(text.to_owned()));
    }
    if transfer.unmap && !transfer.zeroes {
        return Err(Refusal::output("-u requires -z to be specified".to_owned()));
    }
    transfer.offset = number(arguments[0])?;
    for text in &arguments[1..] {
        let length = number(text)?;
        transfer.length = transfer.length.saturating_add(length);
        if transfer.length > MAX_TRANSFER {
            let without = if verb.name == "write" { " without -n" } else { "" };
            let text = format!("length cannot exceed {MAX_TRANSFER}{without}, given {text}");
            return Err(Refusal::output(text));
        }
    }
    transfer.asynchronous = verb.name.starts_with("aio_");
    Ok(match verb.name {
        "discard" => Command::Discard(transfer),
        "read" | "readv" | "aio_read" => check_pattern(transfer).map(Command::Read)?,
        _ => Command::Write(transfer),
    })
}

/// A pattern must lie within what is read.
fn check_pattern(transfer: Transfer) -> Result<Transfer, Refusal> {
    let length = transfer.pattern_length.unwrap_or(0);
    let end = transfer.pattern_start.checked_add(length);
    if end.is_none_or(|end| end > transfer.length) {
        return Err(Refusal::output("pattern verification range exceeds end of read data".into()));
    }
    Ok(transfer)
}

/// Options taken apart from arguments.
struct Parsed<'a> {
    transfer: Transfer,
    arguments: Vec<&'a str>,
}

impl<'a> Parsed<'a> {
    fn of(verb: &Verb, words: &[&'a str]) -> Result<Self, Refusal> {
        let mut parsed = Self { transfer: Transfer::default(), arguments: Vec::new() };
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
                parsed.arguments.push(word);
                continue;
            };
            for (index, letter) in letters.char_indices() {
                let takes_value = format!("{letter}:");
                if letter != ':' && verb.options.contains(&takes_value) {
                    let rest = &letters[index + letter.len_utf8()..];
                    let value = if rest.is_empty() { words.next() } else { Some(rest) };
                    let missing =
                        || invalid(verb, &format!("option requires an argument -- '{letter}'"));
                    parsed.value(verb, letter, value.ok_or_else(missing)?)?;
                    break;
                }
                if letter == ':' || !verb.options.contains(letter) {
                    return Err(invalid(verb, &format!("invalid option -- '{letter}'")));
                }
                parsed.flag(letter);
            }
        }
        Ok(parsed)
    }

    fn flag(&mut self, letter: char) {
        let transfer = &mut self.transfer;
        match letter {
            'C' => transfer.machine = true,
            'f' => transfer.durable = true,
            'q' => transfer.quiet = true,
            'u' => transfer.unmap = true,
            'v' => transfer.show = true,
            'z' => transfer.zeroes = true,
            // Accepted, as they say nothing here: -n no fallback, -p nothing, -r registered buffers.
            _ => {}
        }
    }

    fn value(&mut self, verb: &Verb, letter: char, value: &str) -> Result<(), Refusal> {
        let transfer = &mut self.transfer;
        match (letter, verb.name) {
            ('P', _) => transfer.pattern = Some(pattern(value)?),
            ('s', "write") => transfer.source = Some(value.to_owned()),
            ('s', _) => transfer.pattern_start = number(value)?,
            _ => transfer.pattern_length = Some(number(value)?),
        }
        Ok(())
    }
}

fn invalid(verb: &Verb, what: &str) -> Refusal {
    Refusal { error: Some(format!("{}: {what}", verb.name)), output: Some(verb.usage()) }
}

fn pattern(text: &str) -> Result<u8, Refusal> {
    let digits = text.strip_prefix("0x").map(|digits| u8::from_str_radix(digits, 16));
    digits
        .unwrap_or_else(|| text.parse())
        .map_err(|_| Refusal::output(format!("{text} is not a valid pattern byte")))
}

fn milliseconds(text: &str) -> Result<u64, Refusal> {
    text.parse().map_err(|_| Refusal::output(format!("{text} is not a valid number")))
}

fn number(text: &str) -> Result<u64, Refusal> {
    size::parse(text).map_err(|error| {
        let what = match error {
            SizeError::Nonsense => "non-numeric argument, or extraneous/unrecognized suffix",
            SizeError::TooLarge => "argument too large",
        };
        Refusal::output(format!("Parsing error: {what} -- {text}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_stand_together_apart_or_behind() {
        let expected = Command::Write(Transfer {
            offset: 4096,
            length: 512,
            pattern: Some(7),
            quiet: true,
            durable: true,
            ..Transfer::default()
        });
        for line in ["write -qfP 7 4k 512", "w -q -f -P7 4k 512", "write 4k 512 -qf -P 0x7"] {
            assert_eq!(parse(line), Ok(Some(expected.clone())), "{line}");
        }
    }

    #[test]
    fn an_empty_line_asks_for_nothing() {
        assert_eq!(parse("  "), Ok(None));
    }

    #[test]
    fn no_text_makes_it_panic() {
        let pieces =
            ["write", "read", "-P", "-s", "-", "-:", "-é", "0", "1E", "9999999999999", "é"];
        for a in pieces {
            for b in pieces {
                for c in pieces {
                    let _parsed = parse(&format!("{a} {b} {c}"));
                    let _parsed = parse(&format!("{a} {b} {c} {a} {b}"));
                }
            }
        }
    }
}
