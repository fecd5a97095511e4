//! The child of a drill: writes through the engine from several threads until it is killed.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use futures_executor::block_on;
use qbm_core::image::OpenOptions;
use qbm_core::{Access, Buffer, ByteRange, Persist, Unmap, backup};

use super::judge;
use super::plan::{BLOCK, Deed, Life, THREADS, stamped};
use crate::aio::Aio;
use crate::open::{FileImage, GateArgs, host};

/// Write until killed
#[derive(Args, Debug)]
pub struct WriterArgs {
    /// The directory of the drill
    directory: PathBuf,
    /// Which life this is
    number: u32,
    /// What the random choices follow
    seed: u64,
    /// How the bytes are moved
    #[arg(long, value_enum, default_value = "threads")]
    aio: Aio,
}

/// Runs the command.
///
/// # Errors
///
/// If a write or flush fails.
pub fn run(args: &WriterArgs) -> anyhow::Result<ExitCode> {
    let gate = GateArgs::default();
    let path = args.directory.join(judge::IMAGE);
    let image = Arc::new(gate.image_by(args.aio, &path, OpenOptions::new(Access::Write))?);
    let life = Life { number: args.number, seed: args.seed, size: image.size() };
    let mut threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let image = Arc::clone(&image);
            std::thread::spawn(move || write(&image, life, thread))
        })
        .collect();
    if args.number.is_multiple_of(2) {
        // A backup under way is killed too, on either side.
        let directory = args.directory.clone();
        threads.push(std::thread::spawn(move || back_up(&image, &directory, life)));
    }
    for thread in threads {
        match thread.join() {
            Ok(done) => done?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Does the deeds of `thread`. Ends only by an error.
fn write(image: &FileImage, life: Life, thread: u64) -> anyhow::Result<()> {
    let mut buffer = Buffer::zeroed(usize::try_from(BLOCK)?);
    for (index, deed) in (0..).zip(life.deeds(thread)) {
        let place = |block: u64| ByteRange::new(block * BLOCK, BLOCK);
        match deed {
            Deed::Write(block) => {
                stamped(block, life.stamp(index), &mut buffer);
                buffer = block_on(image.write(block * BLOCK, buffer, Persist::Later))?;
            }
            Deed::Zero(block) => block_on(image.write_zeroes(place(block), Unmap::Allowed))?,
            Deed::Discard(block) => block_on(image.discard(place(block)))?,
            Deed::Flush => {
                block_on(image.flush())?;
                // A line is one write to the pipe, and stays there when we are killed.
                println!("flushed {thread} {index}");
            }
        }
    }
    Ok(())
}

fn back_up(image: &FileImage, directory: &std::path::Path, life: Life) -> anyhow::Result<()> {
    let target = GateArgs::default().directory(&directory.join(judge::TARGET))?;
    let options = judge::backup_options(format!("life-{}", life.number));
    block_on(backup::run(image, &target, &options, &host(), &mut |_| {}))?;
    Ok(())
}
