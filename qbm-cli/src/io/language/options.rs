//! Options of a command: single letters, in any place and order, as getopt reads them.

/// The options of a command line and what is left without them.
#[derive(Debug, Default)]
pub(super) struct Options<'a> {
    /// Each option in order, with its value where it takes one.
    pub(super) given: Vec<(char, &'a str)>,
    /// What is wrong with the option after those; it and what follows are not looked at.
    pub(super) complaint: Option<String>,
    /// The other arguments, in order.
    pub(super) operands: Vec<&'a str>,
}

/// Splits `arguments` by `letters`: those that may be given, each followed by `:` if it takes a
/// value.
pub(super) fn split<'a>(letters: &str, arguments: &[&'a str]) -> Options<'a> {
    let mut options = Options::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let Some(mut cluster) = argument.strip_prefix('-').filter(|letters| !letters.is_empty())
        else {
            options.operands.push(argument);
            continue;
        };
        if cluster == "-" {
            options.operands.extend(rest);
            break;
        }
        while let Some(letter) = cluster.chars().next() {
            cluster = &cluster[letter.len_utf8()..];
            let value = match takes_value(letters, letter) {
                None => {
                    options.complaint = Some(format!("invalid option -- '{letter}'"));
                    return options;
                }
                Some(false) => "",
                Some(true) if !cluster.is_empty() => std::mem::take(&mut cluster),
                Some(true) => match rest.next() {
                    Some(value) => value,
                    None => {
                        let complaint = format!("option requires an argument -- '{letter}'");
                        options.complaint = Some(complaint);
                        return options;
                    }
                },
            };
            options.given.push((letter, value));
        }
    }
    options
}

/// Whether `letter` takes a value; `None` if it is no option.
fn takes_value(letters: &str, letter: char) -> Option<bool> {
    let place = letters.find(letter).filter(|_| letter != ':')?;
    Some(letters[place + letter.len_utf8()..].starts_with(':'))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn options_may_stand_anywhere_and_together() {
        let options = split("qP:", &["0", "-qP7", "4k", "-P", "-1"]);
        assert_eq!(options.given, [('q', ""), ('P', "7"), ('P', "-1")]);
        assert_eq!(options.operands, ["0", "4k"]);
        assert_eq!(options.complaint, None);
    }

    #[test]
    fn two_dashes_end_the_options_and_one_is_none() {
        let options = split("q", &["-", "--", "-q"]);
        assert_eq!(options.given, []);
        assert_eq!(options.operands, ["-", "-q"]);
    }

    #[test]
    fn the_first_wrong_option_is_named() {
        let complaint = |letters, argument| split(letters, &[argument]).complaint.unwrap();
        assert_eq!(complaint("q", "-qZ"), "invalid option -- 'Z'");
        assert_eq!(complaint("q", "--help"), "invalid option -- '-'");
        assert_eq!(complaint("P:", "-:"), "invalid option -- ':'");
        assert_eq!(complaint("P:", "-P"), "option requires an argument -- 'P'");
    }
}
