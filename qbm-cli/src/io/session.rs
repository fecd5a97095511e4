//! A session: commands one after the other, and asynchronous transfers beside them.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use nix::sys::signal::Signal;
use qbm_core::{ByteRange, Error};

use super::language::{self, Command, Read, Refusal, Request, Source, VERBS, Verb, Write};
use super::text;
use super::transfer::{self, Bytes};
use crate::commands::resize::resize;
use crate::open::FileImage;

/// Requests in the background at a time; one more waits for the oldest.
const MOST_UNDER_WAY: usize = 32;

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
                tell(refusal);
                false
            }
        };
        self.succeeded &= done;
        Next::Command
    }

    /// Waits for what is under way and closes the image; whether every command succeeded.
    pub(super) fn close(mut self) -> anyhow::Result<bool> {
        self.wait(0);
        let image = Arc::into_inner(self.image).expect("no transfer is under way");
        match image.access() {
            qbm_core::Access::Read => {}
            qbm_core::Access::Write => block_on(image.close())?,
        }
        Ok(self.succeeded)
    }

    /// Waits until at most `rest` requests are under way.
    fn wait(&mut self, rest: usize) {
        let surplus = self.under_way.len().saturating_sub(rest);
        for request in self.under_way.drain(..surplus) {
            if let Err(panic) = request.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }

    /// Does `command`; whether it succeeded.
    fn command(&mut self, command: Command) -> bool {
        match command {
            Command::Read(read) => {
                let background = read.request.background;
                return self.start(background, move |image| self::read(image, &read));
            }
            Command::Write(write) => return self.start_write(write),
            Command::Discard(request) => return discard(&self.image, &request),
            Command::Flush => return told("flush", block_on(self.image.flush())),
            Command::AioFlush => self.wait(0),
            Command::Truncate { size, preallocate } => return self.truncate(size, preallocate),
            Command::Length => println!("{}", text::bytes(self.image.size())),
            Command::Map => return self.map(),
            Command::Alloc { offset, length } => return self.alloc(offset, length),
            Command::Sleep(milliseconds) => std::thread::sleep(Duration::from_millis(milliseconds)),
            Command::Info => {
                println!("format name: qbm\ncluster size: 0 bytes\nvm state offset: 0 bytes");
            }
            Command::Help(name) => return help(name.as_deref()),
            Command::Invalid(kind) => println!("injecting invalid {kind} request"),
            Command::Unsupported(kind) => {
                println!("{kind} failed: Operation not supported");
                return false;
            }
            Command::Abort => std::process::abort(),
            Command::Raise(signal) => return raise(signal),
            Command::Quit => {}
        }
        true
    }

    fn start_write(&mut self, write: Write) -> bool {
        if matches!(write.source, Source::File(_)) {
            // So that at most one file is in memory.
            self.wait(0);
        }
        match Bytes::of(&write) {
            Ok(bytes) => {
                let background = write.request.background;
                self.start(background, move |image| self::write(image, &write, &bytes))
            }
            Err(why) => {
                eprintln!("{why}");
                false
            }
        }
    }

    /// Does `work` at once, or beside the next commands.
    fn start(
        &mut self,
        background: bool,
        work: impl FnOnce(&FileImage) -> bool + Send + 'static,
    ) -> bool {
        if !background {
            return work(&self.image);
        }
        self.wait(MOST_UNDER_WAY - 1);
        let image = Arc::clone(&self.image);
        // As in qemu-io, it counts as a success once it is under way.
        self.under_way.push(std::thread::spawn(move || {
            let _done = work(&image);
        }));
        true
    }

    fn truncate(&self, size: u64, preallocate: bool) -> bool {
        let resized = block_on(resize(&self.image, size, preallocate));
        if let Err(error) = &resized {
            eprintln!("qbm: {}: could not resize: {}", self.image.name(), why(error));
        }
        resized.is_ok()
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

fn read(image: &FileImage, read: &Read) -> bool {
    let begun = Instant::now();
    // Held throughout, so that the lines of requests in the background do not mix.
    let _lines = std::io::stdout().lock();
    match transfer::read(image, read) {
        Ok(right) => {
            print!("{}", text::statistics("read", &read.request, begun.elapsed()));
            right
        }
        Err(error) => told(read.request.name, Err(error)),
    }
}

fn write(image: &FileImage, write: &Write, bytes: &Bytes) -> bool {
    let begun = Instant::now();
    let written = transfer::write(image, write, bytes);
    if written.is_ok() {
        print!("{}", text::statistics("wrote", &write.request, begun.elapsed()));
    }
    told(write.request.name, written)
}

fn discard(image: &FileImage, request: &Request) -> bool {
    let begun = Instant::now();
    let discarded = transfer::discard(image, request);
    if discarded.is_ok() {
        print!("{}", text::statistics("discard", request, begun.elapsed()));
    }
    told("discard", discarded)
}

/// Says why a line is no command, each part where qemu-io says it.
fn tell(refusal: Refusal) {
    match refusal {
        Refusal::Argument(text) => println!("{text}"),
        Refusal::Command(text) => eprintln!("{text}"),
        Refusal::Usage { verb, complaint } => {
            complaint.iter().for_each(|text| eprintln!("{text}"));
            println!("{}", verb.usage());
        }
    }
}

/// Says why `verb` failed, if it did, in the words of qemu-io; returns whether it did not.
fn told(verb: &str, done: Result<(), Error>) -> bool {
    let Err(error) = done else { return true };
    println!("{verb} failed: {}", why(&error));
    false
}

fn why(error: &Error) -> String {
    match error {
        Error::OutOfRange { .. } => "Input/output error".to_owned(),
        Error::ReadOnly => "Operation not permitted".to_owned(),
        Error::Io { error, .. } => text::reason(error),
        other => other.to_string(),
    }
}

fn raise(signal: i32) -> bool {
    let raised = match signal {
        0 => Ok(()),
        _ => Signal::try_from(signal).and_then(nix::sys::signal::raise),
    };
    if let Err(errno) = raised {
        println!("signal {signal} cannot be raised: {}", errno.desc());
    }
    raised.is_ok()
}

/// Explains all verbs or one; whether there is such a verb.
fn help(name: Option<&str>) -> bool {
    match name.map(|name| (name, Verb::find(name))) {
        Some((_, Some(verb))) => println!("{}", verb.explanation()),
        Some((name, None)) => {
            println!("command {name} not found");
            return false;
        }
        None => {
            VERBS.iter().for_each(|verb| println!("{}", verb.usage()));
            println!("\nSizes are like 4096, 64k, 1.5G or 0x200. 'help COMMAND' explains options.");
        }
    }
    true
}
