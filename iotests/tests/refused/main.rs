//! Images that no command takes: each is refused at once, in one line, and changes nothing.
#![expect(clippy::unwrap_used, reason = "tests")]

mod contents;
mod harness;
mod paths;
mod scene;
