//! The lines that qemu-io prints.

use std::io;
use std::time::Duration;

use super::language::{Report, Request};

/// A size as qemu-io tells it: `512 bytes`, `1.500 KiB`, `4 KiB`.
pub(super) fn size(bytes: f64) -> String {
    const UNITS: [&str; 6] = ["EiB", "PiB", "TiB", "GiB", "MiB", "KiB"];
    for (unit, shift) in UNITS.iter().zip([60, 50, 40, 30, 20, 10]) {
        let one = f64::from(2_u32).powi(shift);
        if bytes >= one {
            let number = format!("{:.3}", bytes / one);
            return format!("{} {unit}", number.strip_suffix(".000").unwrap_or(&number));
        }
    }
    let number = format!("{bytes:.6}");
    format!("{} bytes", number.strip_suffix(".000000").unwrap_or(&number))
}

/// A number of bytes as [`size`] tells it.
#[expect(clippy::cast_precision_loss, reason = "told to three decimals")]
pub(super) fn bytes(count: u64) -> String {
    size(count as f64)
}

/// What is said of a request that went well: nothing, one line for programs, or two lines.
#[expect(clippy::cast_precision_loss, reason = "told to three decimals")]
pub(super) fn statistics(verb: &str, request: &Request, took: Duration) -> String {
    let Request { offset, length, report, .. } = request;
    let seconds = took.as_secs_f64().max(1e-9);
    let (rate, operations) = (*length as f64 / seconds, 1.0 / seconds);
    match report {
        Report::Quiet => String::new(),
        Report::Terse => format!("{length},1,{},{rate:.3},{operations:.3}\n", clock(took)),
        Report::Full => format!(
            "{verb} {length}/{length} bytes at offset {offset}\n\
             {}, 1 ops; {} ({}/sec and {operations:.4} ops/sec)\n",
            bytes(*length),
            short_clock(took),
            size(rate),
        ),
    }
}

/// Why an operation of the system failed, in its words but without its number.
pub(super) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn clock(took: Duration) -> String {
    let (seconds, hundredths) = (took.as_secs(), took.subsec_millis() / 10);
    format!("{}:{:02}:{:02}.{hundredths:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn short_clock(took: Duration) -> String {
    if took.as_secs() < 60 {
        return format!("{:02}.{:02} sec", took.as_secs(), took.subsec_millis() / 10);
    }
    clock(took)
}

/// `bytes`, which are at `offset`, sixteen on a line, in hexadecimal and, where they
/// are letters or digits, as text.
pub(super) fn dump(offset: u64, bytes: &[u8]) -> String {
    let mut text = String::new();
    for (line, at) in bytes.chunks(16).zip((offset..).step_by(16)) {
        let hex: String = line.iter().map(|byte| format!(" {byte:02x}")).collect();
        let plain = |byte: &u8| if byte.is_ascii_alphanumeric() { char::from(*byte) } else { '.' };
        let plain: String = line.iter().map(plain).collect();
        text += &format!("{at:08x}: {hex}  {plain}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_decimals_or_none() {
        let cases = [(0.0, "0 bytes"), (512.0, "512 bytes"), (1536.0, "1.500 KiB")];
        for (count, text) in cases.into_iter().chain([(f64::from(1 << 20), "1 MiB")]) {
            assert_eq!(size(count), text);
        }
    }
}
