//! The lines that only a build with `--cfg qbm_mutants` can reach: what planted bugs do.
//!
//! They are in the ordinary build too, so that the compiler checks them with the rest, behind a condition
//! that is `false` there. No test of that build reaches them, so none of them is missing.

use std::collections::BTreeSet;

/// The numbers of the lines of `source`, as rustfmt lays it out, that take a planted bug: the bodies of
/// `if`s and match arms that ask for one at last, and the `else` of an `if` that asks for there to be
/// none.
pub(super) fn lines(source: &str) -> BTreeSet<usize> {
    let lines: Vec<&str> = source.lines().collect();
    let bodies = (0..lines.len()).filter_map(|line| body(&lines, line));
    bodies.flatten().map(|line| line + 1).collect()
}

/// The body that the condition on the line `condition` leaves to a planted bug, if it asks for one.
fn body(lines: &[&str], condition: usize) -> Option<std::ops::Range<usize>> {
    let asked = lines[condition].strip_suffix(" {")?;
    let asked = asked.strip_suffix(" =>").unwrap_or(asked);
    let (before, bug) = asked.rsplit_once("mutants::")?;
    let opened = if bug.starts_with("planted(") && !before.ends_with("|| ") {
        condition
    } else if bug.starts_with("without(") {
        let closed = closed(lines, condition)?;
        lines[closed].ends_with("} else {").then_some(closed)?
    } else {
        return None;
    };
    let closed = closed(lines, opened)?;
    // The brace that ends it counts with it, unless an `else` begins there.
    let end = if lines[closed].trim() == "}" { closed + 1 } else { closed };
    Some(opened + 1..end)
}

/// Where the block closes that the line `opened` ends with opening.
fn closed(lines: &[&str], opened: usize) -> Option<usize> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let closes =
        |line: &&str| line.trim_start().starts_with('}') && indent(line) == indent(lines[opened]);
    lines[opened + 1..].iter().position(closes).map(|after| opened + 1 + after)
}

#[cfg(test)]
mod tests {
    use super::lines;

    /// What a planted bug does is in lines that say so.
    const SOURCE: &str = "
    if mutants::planted(Mutant::A) {
        if rarely {
            // bug
        }
    }
    if engine() && mutants::planted(Mutant::B) {
        return; // bug
    } else if engine() {
        return;
    }
    if engine() || mutants::planted(Mutant::C) {
        return;
    }
    match engine() {
        Err(_) if mutants::planted(Mutant::D) => {
            return; // bug
        }
        Ok(()) => {
            return;
        }
    }
    if mutants::without(Mutant::E) {
        return;
    } else {
        return; // bug
    }
    if mutants::without(Mutant::F) {
        return;
    }
    let known = mutants::planted(Mutant::G) && engine();
";

    #[test]
    fn what_planted_bugs_do_is_found_and_what_the_engine_does_is_not() {
        let found = lines(SOURCE);
        let text = |line: &usize| SOURCE.lines().nth(line - 1).unwrap().trim();
        let texts: Vec<&str> = found.iter().map(text).collect();
        let rarely = ["if rarely {", "// bug", "}", "}"];
        let others = ["return; // bug", "return; // bug", "}", "return; // bug", "}"];
        assert_eq!(texts, [&rarely[..], &others[..]].concat());
    }
}
