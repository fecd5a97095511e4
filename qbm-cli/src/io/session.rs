//! A session: commands one after the other, and asynchronous transfers beside them.

use std::io::Write;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use qbm_core::{ByteRange, Error};

use super::language::{self, Command, Transfer, VERBS};
use super::{text, transfer};
use crate::open::FileImage;

/// Whether the session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It does.
    Command,
    /// It ends.
    Quit,
}

/// An open image, and what is under way.
pub(super) struct Session {
    image: Arc<FileImage>,
    under_way: Vec<JoinHandle<()>>,
    succeeded: bool,
}

impl Session {
    pub(super) fn new(image: FileImage) -> Self {
        Self { image: Arc::new(image), under_way: Vec::new(), succeeded: true }
    }

    /// Runs a line; what it has to say goes to standard output.
    pub(super) fn run(&mut self, line: &str) -> Next {
        let done = match language::parse(line) {
            Ok(None) => true,
            Ok(Some(Command::Quit)) => return Next::Quit,
            Ok(Some(command)) => self.command(command),
            Err(refusal) => {
                refusal.error.iter().for_each(|text| eprintln!("{text}"));
                refusal.output.iter().for_each(|text| println!("{text}"));
                false
            }
        };
        self.succeeded &= done;
        Next::Command
    }

    /// Waits for what is under way and closes the image; whether every command succeeded.
    pub(super) fn close(mut self) -> anyhow::Result<bool> {
        self.wait();
        let image = Arc::into_inner(self.image).expect("no transfer is under way");
        match image.access() {
            qbm_core::Access::Read => {}
            qbm_core::Access::Write => block_on(image.close())?,
        }
        Ok(self.succeeded)
    }

    fn wait(&mut self) {
        for transfer in self.under_way.drain(..) {
            if let Err(panic) = transfer.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }

    /// Does `command`; whether it succeeded.
    fn command(&mut self, command: Command) -> bool {
        let image = &self.image;
        match command {
            Command::Read(transfer) => return self.transfer(read, transfer),
            Command::Write(transfer) => return self.transfer(write, transfer),
            Command::Discard(transfer) => return self.transfer(discard, transfer),
            Command::Flush => return told("flush", block_on(image.flush())),
            Command::AioFlush => self.wait(),
            Command::Truncate(size) => return told("truncate", block_on(image.resize(size))),
            Command::Length => println!("{}", text::bytes(image.size())),
            Command::Map => return self.map(),
            Command::Alloc(offset, length) => return self.alloc(offset, length),
            Command::Sleep(milliseconds) => std::thread::sleep(Duration::from_millis(milliseconds)),
            Command::Info => {
                println!("format name: qbm\ncluster size: 0 bytes\nvm state offset: 0 bytes");
            }
            Command::Help(name) => return help(name.as_deref()),
            Command::Quit => {}
        }
        true
    }

    fn transfer(&mut self, work: fn(&FileImage, &Transfer) -> bool, transfer: Transfer) -> bool {
        if !transfer.asynchronous {
            return work(&self.image, &transfer);
        }
        let image = Arc::clone(&self.image);
        // As in qemu-io, it counts as a success once it is under way.
        self.under_way.push(std::thread::spawn(move || {
            let _done = work(&image, &transfer);
        }));
        true
    }

    fn map(&self) -> bool {
        let size = self.image.size();
        let mut offset = 0;
        while offset < size {
            let (length, allocated) = match self.allocated(offset, size - offset) {
                Ok(found) => found,
                Err(error) => return told("map", Err(error)),
            };
            let state = if allocated { "    allocated" } else { "not allocated" };
            println!(
                "{} ({length:#x}) bytes {state} at offset {} ({offset:#x})",
                text::bytes(length),
                text::bytes(offset)
            );
            offset += length;
        }
        true
    }

    fn alloc(&self, offset: u64, length: u64) -> bool {
        let size = self.image.size();
        let end = offset.saturating_add(length).min(size);
        let mut allocated = 0;
        let mut at = offset;
        while at < end {
            match self.allocated(at, end - at) {
                Ok((length, true)) => (allocated, at) = (allocated + length, at + length),
                Ok((length, false)) => at += length,
                Err(error) => return told("alloc", Err(error)),
            }
        }
        let place = text::bytes(offset);
        let length = end.saturating_sub(offset);
        println!("{allocated}/{length} bytes allocated at offset {place}");
        true
    }

    /// How many bytes from `offset` on are alike, at most `length`, and whether the top layer has
    /// them.
    fn allocated(&self, offset: u64, length: u64) -> Result<(u64, bool), Error> {
        let mut alike = 0;
        let mut state = None;
        while alike < length {
            let rest = ByteRange::new(offset + alike, length - alike);
            let extent = block_on(self.image.block_status(rest))?;
            let here = extent.present && extent.depth == 0;
            if *state.get_or_insert(here) != here {
                break;
            }
            alike += extent.length;
        }
        Ok((alike, state.unwrap_or(true)))
    }
}

fn read(image: &FileImage, transfer: &Transfer) -> bool {
    let begun = Instant::now();
    match transfer::read(image, transfer) {
        Ok((said, verified)) => {
            print!("{said}");
            statistics("read", transfer, begun.elapsed());
            verified
        }
        Err(error) => told("read", Err(error)),
    }
}

fn write(image: &FileImage, transfer: &Transfer) -> bool {
    if let Some(name) = &transfer.source
        && let Err(error) = std::fs::metadata(name)
    {
        let text = error.to_string();
        eprintln!("{name}: {}", text.split(" (os error").next().unwrap_or_default());
        return false;
    }
    let begun = Instant::now();
    let written = transfer::write(image, transfer);
    if written.is_ok() {
        statistics("wrote", transfer, begun.elapsed());
    }
    told("write", written)
}

fn discard(image: &FileImage, transfer: &Transfer) -> bool {
    let begun = Instant::now();
    let discarded = transfer::discard(image, transfer);
    if discarded.is_ok() {
        statistics("discard", transfer, begun.elapsed());
    }
    told("discard", discarded)
}

fn statistics(verb: &str, transfer: &Transfer, took: Duration) {
    if !transfer.quiet {
        // One call, so that the lines of asynchronous transfers do not mix.
        let text = format!("{}\n", text::statistics(verb, transfer, took));
        let _printed = std::io::stdout().write_all(text.as_bytes());
    }
}

/// Says why `verb` failed, if it did, in the words of qemu-io; returns whether it did not.
fn told(verb: &str, done: Result<(), Error>) -> bool {
    let Err(error) = done else { return true };
    let why = match &error {
        Error::OutOfRange { .. } => "Input/output error".to_owned(),
        Error::ReadOnly => "Operation not permitted".to_owned(),
        Error::Io { error, .. } => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or_default().to_owned()
        }
        other => other.to_string(),
    };
    println!("{verb} failed: {why}");
    false
}

fn help(name: Option<&str>) -> bool {
    let Some(name) = name else {
        VERBS.iter().for_each(|verb| println!("{}", verb.usage()));
        println!("\n-P byte: a pattern to write or verify. Sizes: 4096, 64k, 1.5G, 0x200.");
        return true;
    };
    match language::find(name) {
        Some(verb) => {
            println!("{}", verb.usage());
            true
        }
        None => {
            println!("command {name} not found");
            false
        }
    }
}
