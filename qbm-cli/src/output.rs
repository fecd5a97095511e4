//! What the program prints.

use clap::ValueEnum;
use qbm_core::Timestamp;

/// For whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Human,
    /// For programs.
    Json,
}

/// Prints `value` as JSON, as qemu-img does.
pub fn print_json(value: &serde_json::Value) {
    println!("{value:#}");
}

/// `bytes` for people: `2.2 GiB`, `512 B`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = (0..UNITS.len()).rev().find(|unit| bytes >> (10 * unit) > 0).unwrap_or(0);
    if unit == 0 {
        return format!("{bytes} B");
    }
    let whole = u64::from(u32::try_from(10 * unit).expect("at most 60"));
    let tenths = (u128::from(bytes) * 10 + (1 << (whole - 1))) >> whole;
    match tenths % 10 {
        0 => format!("{} {}", tenths / 10, UNITS[unit]),
        part => format!("{}.{part} {}", tenths / 10, UNITS[unit]),
    }
}

/// `time` as `2026-10-01T01:00:00Z`.
pub fn time(time: Timestamp) -> String {
    let milliseconds = i64::try_from(time.0).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(milliseconds) {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => format!("{} ms", time.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_one_decimal_where_it_says_something() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (40 << 30, "40 GiB"),
            ((22 << 30) / 10, "2.2 GiB"),
            (u64::MAX, "16 EiB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn time_is_utc_to_the_second() {
        assert_eq!(time(Timestamp(1_790_816_400_999)), "2026-10-01T01:00:00Z");
    }
}
