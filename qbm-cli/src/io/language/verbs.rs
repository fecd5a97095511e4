//! The verbs: their names, what they take, and what `help` says about them.

/// A verb of the language.
#[derive(Debug, PartialEq, Eq)]
pub struct Verb {
    /// Its name.
    pub name: &'static str,
    /// A shorter name, or the name once more.
    pub short: &'static str,
    /// How few arguments it takes, options included.
    pub at_least: usize,
    /// How many it takes at most; `None` for any number.
    pub at_most: Option<usize>,
    /// Its options in the notation of getopt.
    pub letters: &'static str,
    /// What follows the name on a command line.
    pub synopsis: &'static str,
    /// What it does, in a few words.
    pub summary: &'static str,
}

/// What the letters mean. One letter has one meaning, except as said.
const OPTIONS: &[(char, &str)] = &[
    ('b', "the virtual machine's state, which this format does not have"),
    ('c', "write compressed, which this format cannot"),
    ('C', "report in one line for programs"),
    ('f', "return when the bytes are durable"),
    ('i', "fail the request before it reaches the image"),
    ('l', "compare only so many bytes (with -P)"),
    ('m', "how what is added gets its space: off, falloc or full"),
    ('n', "only if zeroing is fast, and then also more than 2 GiB (with -z)"),
    ('p', "without effect"),
    ('P', "the byte to write, or to compare what is read with"),
    ('q', "report nothing"),
    ('r', "without effect: buffers need no registration"),
    ('s', "compare only from there on (read, with -P); fill from this file (write)"),
    ('u', "the space may be given back (with -z)"),
    ('v', "print the bytes"),
    ('z', "make the range zero, without writing zeroes"),
];

/// All verbs, by name.
pub const VERBS: &[Verb] = &[
    plain("abort", "abort", "end by SIGABRT at once, as a crash would"),
    plain("aio_flush", "aio_flush", "wait for all requests in the background"),
    Verb {
        name: "aio_read",
        short: "aio_read",
        at_least: 2,
        at_most: None,
        letters: "CiqrvP:",
        synopsis: " [-Ciqrv] [-P pattern] off len [len..]",
        summary: "read in the background",
    },
    Verb {
        name: "aio_write",
        short: "aio_write",
        at_least: 2,
        at_most: None,
        letters: "CfiqruzP:",
        synopsis: " [-Cfiqruz] [-P pattern] off len [len..]",
        summary: "write in the background",
    },
    Verb {
        name: "alloc",
        short: "a",
        at_least: 1,
        at_most: Some(2),
        letters: "",
        synopsis: " offset [count]",
        summary: "tell how much of a range is in the image",
    },
    Verb {
        name: "discard",
        short: "d",
        at_least: 2,
        at_most: None,
        letters: "Cq",
        synopsis: " [-Cq] off len",
        summary: "give up the contents of a range",
    },
    plain("flush", "f", "make all complete writes durable"),
    Verb {
        name: "help",
        short: "?",
        at_least: 0,
        at_most: Some(1),
        letters: "",
        synopsis: " [command]",
        summary: "explain all commands, or one",
    },
    plain("info", "i", "tell what is open"),
    plain("length", "l", "print the size of the disk"),
    plain("map", "map", "print which parts of the disk are in the image"),
    Verb {
        name: "quit",
        short: "q",
        at_least: 0,
        at_most: None,
        letters: "",
        synopsis: "",
        summary: "end the session",
    },
    Verb {
        name: "read",
        short: "r",
        at_least: 2,
        at_most: None,
        letters: "bCl:pP:qrs:v",
        synopsis: " [-bCqrv] [-P pattern [-s off] [-l len]] off len",
        summary: "read a range",
    },
    Verb {
        name: "readv",
        short: "readv",
        at_least: 2,
        at_most: None,
        letters: "CqrvP:",
        synopsis: " [-Cqrv] [-P pattern] off len [len..]",
        summary: "read a range that is given in parts",
    },
    Verb {
        name: "sigraise",
        short: "sigraise",
        at_least: 1,
        at_most: Some(1),
        letters: "",
        synopsis: " signal",
        summary: "send itself a signal, such as 9 to be killed",
    },
    Verb {
        name: "sleep",
        short: "sleep",
        at_least: 1,
        at_most: Some(1),
        letters: "",
        synopsis: " milliseconds",
        summary: "wait",
    },
    Verb {
        name: "truncate",
        short: "t",
        at_least: 1,
        at_most: Some(3),
        letters: "m:",
        synopsis: " [-m prealloc_mode] off",
        summary: "make the disk end there; what is added is zero",
    },
    Verb {
        name: "write",
        short: "w",
        at_least: 2,
        at_most: None,
        letters: "bcCfnpP:qrs:uz",
        synopsis: " [-bcCfnqruz] [-P pattern | -s source_file] off len",
        summary: "write a range, with 0xcd unless told otherwise",
    },
    Verb {
        name: "writev",
        short: "writev",
        at_least: 2,
        at_most: None,
        letters: "CfqrP:",
        synopsis: " [-Cfqr] [-P pattern] off len [len..]",
        summary: "write a range that is given in parts",
    },
];

/// A verb without arguments.
const fn plain(name: &'static str, short: &'static str, summary: &'static str) -> Verb {
    Verb { name, short, at_least: 0, at_most: Some(0), letters: "", synopsis: "", summary }
}

impl Verb {
    /// The verb called `name`, by either of its names.
    pub fn find(name: &str) -> Option<&'static Self> {
        VERBS.iter().find(|verb| verb.name == name || verb.short == name)
    }

    /// How it is used, in one line.
    pub fn usage(&self) -> String {
        format!("{}{} -- {}", self.name, self.synopsis, self.summary)
    }

    /// How it is used and what its options mean, in as many lines as that takes.
    pub fn explanation(&self) -> String {
        let mut text = self.usage();
        for (letter, meaning) in OPTIONS {
            if self.letters.contains(*letter) {
                text += &format!("\n -{letter}  {meaning}");
            }
        }
        text
    }

    /// What `count` arguments, options included, are wrong by; `None` if it takes as many.
    pub(super) fn wrong_count(&self, name: &str, count: usize) -> Option<String> {
        let expected = match (self.at_least, self.at_most) {
            (least, None) if count < least => format!("at least {least}"),
            (least, Some(most)) if (least..=most).contains(&count) => return None,
            (least, Some(most)) if least == most => least.to_string(),
            (least, Some(most)) => format!("between {least} and {most}"),
            _ => return None,
        };
        Some(format!("bad argument count {count} to {name}, expected {expected} arguments"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_of_every_verb_is_explained() {
        for verb in VERBS {
            for letter in verb.letters.chars().filter(|letter| *letter != ':') {
                assert!(
                    OPTIONS.iter().any(|(known, _)| *known == letter),
                    "{} {letter}",
                    verb.name
                );
            }
        }
    }

    #[test]
    fn no_name_stands_for_two_verbs_and_all_are_sorted() {
        for (index, verb) in VERBS.iter().enumerate() {
            for other in &VERBS[index + 1..] {
                assert!(verb.name < other.name);
                assert!(![other.name, other.short].contains(&verb.short));
            }
        }
    }
}
