//! From a line to a command.

use super::options::split;
use super::values::{argument, bytes, limit, milliseconds, pattern, signal, sum};
use super::{Command, Read, Refusal, Report, Request, Source, Verb, Verify, Write};

/// What a written byte is unless the command says otherwise.
const DEFAULT_PATTERN: u8 = 0xcd;
/// What `alloc` looks at unless the command says otherwise, in bytes.
const DEFAULT_ALLOC: u64 = 512;

type Parsed<T = Command> = Result<T, Refusal>;

/// Parses one line; `None` if it says nothing.
///
/// Words are separated by spaces; there is no quoting.
///
/// # Errors
///
/// Why it is no command.
///
/// ```
/// use qbm_cli::io::language::{Command, parse};
///
/// assert_eq!(parse("sleep 5"), Ok(Some(Command::Sleep(5))));
/// assert!(parse("read 0 4x").is_err());
/// ```
pub fn parse(line: &str) -> Parsed<Option<Command>> {
    let mut words = line.split(' ').filter(|word| !word.is_empty());
    let Some(name) = words.next() else { return Ok(None) };
    let arguments: Vec<&str> = words.collect();
    let verb = Verb::find(name)
        .ok_or_else(|| Refusal::Command(format!("command \"{name}\" not found")))?;
    if let Some(wrong) = verb.wrong_count(name, arguments.len()) {
        return Err(Refusal::Command(wrong));
    }
    let call = Call { verb, name, arguments: &arguments };
    let first = || arguments.first().copied().unwrap_or_default();
    let command = match verb.name {
        "abort" => Command::Abort,
        "aio_flush" => Command::AioFlush,
        "aio_read" => call.read_parts("readv", true)?,
        "aio_write" => call.write_parts("aio_write", true)?,
        "alloc" => Command::Alloc {
            offset: bytes(first())?,
            length: arguments.get(1).map_or(Ok(DEFAULT_ALLOC), |count| bytes(count))?,
        },
        "discard" => call.discard()?,
        "flush" => Command::Flush,
        "help" => Command::Help(arguments.first().map(|verb| (*verb).to_owned())),
        "info" => Command::Info,
        "length" => Command::Length,
        "map" => Command::Map,
        "read" => call.read()?,
        "readv" => call.read_parts("readv", false)?,
        "sigraise" => Command::Raise(signal(first())?),
        "sleep" => Command::Sleep(milliseconds(first())?),
        "truncate" => call.truncate()?,
        "write" => call.write()?,
        "writev" => call.write_parts("writev", false)?,
        _ => Command::Quit,
    };
    Ok(Some(command))
}

/// A verb and what was given to it.
struct Call<'a> {
    verb: &'static Verb,
    /// The name it was called by.
    name: &'a str,
    arguments: &'a [&'a str],
}

/// What the options of a read or write say.
#[derive(Default)]
struct Flags {
    terse: bool,
    quiet: bool,
    dump: bool,
    durable: bool,
    compressed: bool,
    machine_state: bool,
    fast_only: bool,
    unmap: bool,
    zeroes: bool,
    invalid: bool,
    pattern: Option<u8>,
    start: Option<u64>,
    length: Option<u64>,
    file: Option<String>,
}

impl<'a> Call<'a> {
    fn usage(&self, complaint: Option<String>) -> Refusal {
        let complaint = complaint.map(|complaint| format!("{}: {complaint}", self.name));
        Refusal::Usage { verb: self.verb, complaint }
    }

    /// The options, looked at in order so that the first that is wrong is told, and the operands.
    fn flags(&self) -> Parsed<(Flags, Vec<&'a str>)> {
        let options = split(self.verb.letters, self.arguments);
        let mut flags = Flags::default();
        for (letter, value) in options.given {
            match letter {
                'b' => flags.machine_state = true,
                'c' => flags.compressed = true,
                'C' => flags.terse = true,
                'f' => flags.durable = true,
                'l' => flags.length = Some(bytes(value)?),
                'n' => flags.fast_only = true,
                'P' => flags.pattern = Some(pattern(value)?),
                'q' => flags.quiet = true,
                's' if self.verb.name == "read" => flags.start = Some(bytes(value)?),
                's' => flags.file = Some(value.to_owned()),
                'u' => flags.unmap = true,
                'v' => flags.dump = true,
                'z' => flags.zeroes = true,
                'i' => {
                    // The request fails here, whatever else is asked of it.
                    return Ok((Flags { invalid: true, ..Flags::default() }, Vec::new()));
                }
                _ => {} // `p` and `r`, which say nothing
            }
        }
        match options.complaint {
            Some(complaint) => Err(self.usage(Some(complaint))),
            None => Ok((flags, options.operands)),
        }
    }

    /// Exactly an offset and a length.
    fn pair(&self, operands: &[&'a str]) -> Parsed<(&'a str, &'a str)> {
        match operands {
            [offset, length] => Ok((offset, length)),
            _ => Err(self.usage(None)),
        }
    }

    fn read(&self) -> Parsed {
        let (flags, operands) = self.flags()?;
        let (offset, text) = self.pair(&operands)?;
        let (offset, length) = (bytes(offset)?, bytes(text)?);
        limit(length, text, "")?;
        if flags.pattern.is_none() && (flags.start.is_some() || flags.length.is_some()) {
            return Err(self.usage(None));
        }
        let start = flags.start.unwrap_or(0);
        let rest = length.checked_sub(start);
        let compared = flags.length.or(rest).filter(|compared| rest >= Some(*compared));
        let Some(compared) = compared else {
            return argument("pattern verification range exceeds end of read data");
        };
        if flags.machine_state {
            return Ok(Command::Unsupported("read"));
        }
        let verify = flags.pattern.map(|pattern| Verify { pattern, start, length: compared });
        let request = flags.request(offset, length, "read", false);
        Ok(Command::Read(Read { request, dump: flags.dump, verify }))
    }

    fn read_parts(&self, name: &'static str, background: bool) -> Parsed {
        let (flags, operands) = self.flags()?;
        if flags.invalid {
            return Ok(Command::Invalid("read"));
        }
        let [offset, parts @ ..] = &*operands else { return Err(self.usage(None)) };
        if parts.is_empty() {
            return Err(self.usage(None));
        }
        let (offset, length) = (bytes(offset)?, sum(parts)?);
        let verify = flags.pattern.map(|pattern| Verify { pattern, start: 0, length });
        let request = flags.request(offset, length, name, background);
        Ok(Command::Read(Read { request, dump: flags.dump, verify }))
    }

    fn write(&self) -> Parsed {
        let (flags, operands) = self.flags()?;
        let (offset, text) = self.pair(&operands)?;
        flags.check_write()?;
        let (offset, length) = (bytes(offset)?, bytes(text)?);
        if !flags.fast_only {
            limit(length, text, " without -n")?;
        }
        if (flags.compressed && !flags.zeroes) || flags.machine_state {
            return Ok(Command::Unsupported("write"));
        }
        Ok(flags.into_write(offset, length, "write", false))
    }

    fn write_parts(&self, name: &'static str, background: bool) -> Parsed {
        let (flags, operands) = self.flags()?;
        if flags.invalid {
            return Ok(Command::Invalid("write"));
        }
        let [offset, parts @ ..] = &*operands else { return Err(self.usage(None)) };
        match parts {
            [] => return Err(self.usage(None)),
            [_, _, ..] if flags.zeroes => {
                return argument("-z supports only a single length parameter");
            }
            _ if flags.unmap && !flags.zeroes => {
                return argument("-u requires -z to be specified");
            }
            _ => {}
        }
        let offset = bytes(offset)?;
        let length = if flags.zeroes { bytes(parts[0])? } else { sum(parts)? };
        Ok(flags.into_write(offset, length, name, background))
    }

    fn discard(&self) -> Parsed {
        let (flags, operands) = self.flags()?;
        let (offset, text) = self.pair(&operands)?;
        let (offset, length) = (bytes(offset)?, bytes(text)?);
        limit(length, text, "")?;
        Ok(Command::Discard(flags.request(offset, length, "discard", false)))
    }

    fn truncate(&self) -> Parsed {
        let options = split(self.verb.letters, self.arguments);
        let mut preallocate = false;
        for (_, mode) in options.given {
            preallocate = match mode {
                "off" => false,
                "falloc" | "full" => true,
                "metadata" => {
                    let text = "Unsupported preallocation mode: metadata".to_owned();
                    return Err(Refusal::Command(text));
                }
                _ => {
                    let text = format!("Invalid preallocation mode '{mode}'");
                    return Err(Refusal::Command(text));
                }
            };
        }
        if let Some(complaint) = options.complaint {
            return Err(self.usage(Some(complaint)));
        }
        let text = options.operands.first().copied().unwrap_or_default();
        Ok(Command::Truncate { size: bytes(text)?, preallocate })
    }
}

impl Flags {
    fn request(&self, offset: u64, length: u64, name: &'static str, background: bool) -> Request {
        let report = match (self.quiet, self.terse) {
            (true, _) => Report::Quiet,
            (false, true) => Report::Terse,
            (false, false) => Report::Full,
        };
        Request { offset, length, report, name, background }
    }

    /// Whether the options of `write` go together.
    fn check_write(&self) -> Parsed<()> {
        let sources = [self.zeroes, self.pattern.is_some(), self.file.is_some()];
        if self.machine_state && self.zeroes {
            return argument("-b and -z cannot be specified at the same time");
        }
        if self.durable && (self.machine_state || self.compressed) {
            return argument("-f and -b or -c cannot be specified at the same time");
        }
        if self.fast_only && !self.zeroes {
            return argument("-n requires -z to be specified");
        }
        if self.unmap && !self.zeroes {
            return argument("-u requires -z to be specified");
        }
        if sources.into_iter().filter(|given| *given).count() > 1 {
            return argument("Only one of -z, -P, and -s can be specified at the same time");
        }
        Ok(())
    }

    fn into_write(self, offset: u64, length: u64, name: &'static str, background: bool) -> Command {
        let request = self.request(offset, length, name, background);
        let source = match (self.zeroes, self.file) {
            (true, _) => Source::Zeroes { unmap: self.unmap },
            (false, Some(file)) => Source::File(file),
            (false, None) => Source::Pattern(self.pattern.unwrap_or(DEFAULT_PATTERN)),
        };
        Command::Write(Write { request, source, durable: self.durable })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(line: &str) -> Refusal {
        parse(line).expect_err(line)
    }

    #[test]
    fn an_empty_line_says_nothing() {
        assert_eq!(parse(""), Ok(None));
        assert_eq!(parse("   "), Ok(None));
    }

    #[test]
    fn a_read_verifies_the_part_it_is_told() {
        let Ok(Some(Command::Read(read))) = parse("r -qP 0x10 -s 1k 4k 8k") else { panic!() };
        assert_eq!(read.verify, Some(Verify { pattern: 16, start: 1024, length: 7168 }));
        assert_eq!((read.request.offset, read.request.length), (4096, 8192));
        assert_eq!(read.request.report, Report::Quiet);
        assert!(!read.dump);
    }

    #[test]
    fn a_write_has_one_source() {
        let source = |line: &str| match parse(line) {
            Ok(Some(Command::Write(write))) => write.source,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(source("write 0 1"), Source::Pattern(0xcd));
        assert_eq!(source("aio_write -P 010 0 1 1"), Source::Pattern(8));
        assert_eq!(source("write -zu 0 1"), Source::Zeroes { unmap: true });
        assert_eq!(source("write -s f 0 1"), Source::File("f".to_owned()));
        let text = "Only one of -z, -P, and -s can be specified at the same time";
        assert_eq!(refusal("write -z -P 1 0 1"), Refusal::Argument(text.to_owned()));
    }

    #[test]
    fn the_first_wrong_thing_is_told() {
        let told = |line: &str| match refusal(line) {
            Refusal::Argument(text) | Refusal::Command(text) => text,
            Refusal::Usage { complaint, .. } => complaint.unwrap_or("usage".to_owned()),
        };
        assert_eq!(told("foo"), "command \"foo\" not found");
        assert_eq!(told("r 0"), "bad argument count 1 to r, expected at least 2 arguments");
        assert_eq!(told("read -P 300 -Z 0 1"), "300 is not a valid pattern byte");
        assert_eq!(told("read -Z -P 300 0 1"), "read: invalid option -- 'Z'");
        assert_eq!(told("read 0 1 2"), "usage");
        assert_eq!(told("read -l 1 0 2"), "usage");
        assert_eq!(told("write 0 2G"), "length cannot exceed 2147483136 without -n, given 2G");
    }

    #[test]
    fn no_text_makes_it_panic() {
        const WORDS: &[&str] = &[
            "read",
            "write",
            "aio_write",
            "readv",
            "truncate",
            "alloc",
            "sleep",
            "sigraise",
            "help",
            "-",
            "--",
            "-P",
            "-s",
            "-l",
            "-zq",
            "-é",
            "-i",
            "-m",
            "0",
            "-1",
            "0x",
            "7E",
            "1.5k",
            "é",
            "9223372036854775807",
            "99999999999999999999",
            "\t",
            "\u{0}",
            ":",
            ".",
            "+",
            "-0",
        ];
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..50_000 {
            let count = random.usize(0..7);
            let words: Vec<_> = (0..count).map(|_| WORDS[random.usize(..WORDS.len())]).collect();
            // Either answer will do; what is claimed is that there is one.
            drop(parse(&words.join(" ")));
        }
    }
}
