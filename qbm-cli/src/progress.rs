//! How far a long operation has come: a bar on a terminal, or the line that qemu-img prints.

use indicatif::{ProgressBar, ProgressStyle};
use qbm_core::copy::Progress;

/// Shows how far a long operation has come, on standard error.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// A bar for what `what` says.
    pub fn new(what: &str) -> Self {
        // Draws nothing where standard error is not a terminal.
        let bar = ProgressBar::new(0);
        let style = "{msg} [{bar:30}] {binary_bytes} of {binary_total_bytes}, {eta} left";
        bar.set_style(ProgressStyle::with_template(style).expect("a constant template"));
        bar.set_message(what.to_owned());
        Self { bar }
    }

    /// Shows `progress`.
    pub fn show(&mut self, progress: Progress) {
        self.bar.set_length(progress.total);
        self.bar.set_position(progress.done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Progress as qemu-img prints it, on standard output, for programs that read it there.
#[derive(Debug)]
pub struct Percent {
    wanted: bool,
    /// Hundredths of a percent that were last shown.
    shown: Option<u64>,
}

impl Percent {
    /// Shows nothing unless it is `wanted`.
    pub fn new(wanted: bool) -> Self {
        let mut percent = Self { wanted, shown: None };
        percent.print(0);
        percent
    }

    /// Shows `progress`, if it is a percent more than what was shown before.
    pub fn show(&mut self, progress: Progress) {
        let share = u128::from(progress.done) * 10_000 / u128::from(progress.total.max(1));
        let hundredths = u64::try_from(share).unwrap_or(10_000).min(10_000);
        if self.shown.is_none_or(|shown| hundredths >= shown + 100) {
            self.print(hundredths);
        }
    }

    /// Shows that all is done.
    pub fn finish(&mut self) {
        self.print(10_000);
    }

    fn print(&mut self, hundredths: u64) {
        self.shown = Some(hundredths);
        if self.wanted {
            let line = format!("    ({}.{:02}/100%)", hundredths / 100, hundredths % 100);
            crate::printing::print_over(&line);
        }
    }
}

impl Drop for Percent {
    fn drop(&mut self) {
        if self.wanted {
            // On to a line of its own for whatever comes next.
            print!("\n");
        }
    }
}
