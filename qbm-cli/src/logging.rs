//! What a program that runs on tells the operator: by `tracing`, a line each on standard error.
//!
//! Where standard error is the journal's, a line begins with its priority, as sd-daemon(3) has it, and the
//! journal notes the time. Elsewhere it begins with the time.

use std::env;
use std::fmt;
use std::io;

use anyhow::anyhow;
use jiff::{Timestamp, Unit};
use nix::sys::stat::fstat;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Names the level of what is told.
const VARIABLE: &str = "QBM_LOG";

/// Begins to tell: what the variable `QBM_LOG` says, or what an operator wants to see anyway; and more for each
/// time that `verbose` counts.
///
/// # Errors
///
/// If the variable says what is no level.
pub fn start(verbose: u8) -> anyhow::Result<()> {
    let level = match env::var(VARIABLE) {
        Ok(text) => text.parse().map_err(|_| {
            anyhow!("{VARIABLE}={text}: it is none of off, error, warn, info, debug and trace")
        })?,
        Err(_) => LevelFilter::INFO,
    };
    let asked = match verbose {
        0 => LevelFilter::OFF,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let lines = Lines { journal: is_journal() };
    let told = tracing_subscriber::fmt().with_max_level(level.max(asked)).event_format(lines);
    told.with_writer(|| Complaints).init();
    Ok(())
}

/// Whether standard error is the journal's: systemd names it in this way.
fn is_journal() -> bool {
    let ours = fstat(io::stderr()).map(|file| format!("{}:{}", file.st_dev, file.st_ino));
    ours.is_ok_and(|ours| env::var("JOURNAL_STREAM").is_ok_and(|journal| journal == ours))
}

/// How a line looks.
struct Lines {
    journal: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        if self.journal {
            write!(writer, "<{}>", priority(level))?;
        } else if let Ok(now) = Timestamp::now().round(Unit::Second) {
            write!(writer, "{now} qbm: ")?;
        }
        if level == Level::WARN {
            writer.write_str("warning: ")?;
        }
        context.format_fields(writer.by_ref(), event)
    }
}

/// The priorities of syslog.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// Standard error, as this crate means it. An event is written to it in one piece.
struct Complaints;

impl io::Write for Complaints {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        eprintln!("{}", String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
