//! `qbm io`: reads and writes an image by the command language of qemu-io.

pub mod language;
mod session;
mod text;
mod transfer;

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use clap::Args;
use qbm_core::Access;

use self::session::{Next, Session};
use crate::aio::Aio;
use crate::open::ImageArgs;

/// Read and write an image by the command language of qemu-io
///
/// Exit status: 0 every command succeeded, 1 one of them failed.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qbm io -c 'write -P 7 0 1M' -c flush vm.qbm
  qbm io -c 'read -P 7 0 1M' vm.qbm
  qbm io -c help vm.qbm")]
pub struct IoArgs {
    #[command(flatten)]
    image: ImageArgs,
    /// Run CMD and not what standard input says; may be repeated
    #[arg(short, long = "cmd", value_name = "CMD")]
    commands: Vec<String>,
    /// Open the image for reading only
    #[arg(short, long)]
    read_only: bool,
    /// How the bytes are moved
    #[arg(short = 'i', long, value_enum, default_value = "threads")]
    aio: Aio,
    /// Read it although a program has it open
    #[arg(short = 'U', long, requires = "read_only")]
    force_share: bool,
    #[command(flatten)]
    _tuning: Tuning,
}

/// Options of qemu-io that say how the bytes get to the medium: scripts may give them, and nothing
/// comes of it.
#[derive(Args, Debug)]
struct Tuning {
    /// How the image is cached.
    #[arg(short = 't', long, hide = true)]
    cache: Option<String>,
    /// Whether it is cached at all.
    #[arg(short = 'n', long, hide = true)]
    nocache: bool,
    /// Whether it is read and written by calls that do not wait.
    #[arg(short = 'k', long, hide = true)]
    native_aio: bool,
    /// What becomes of a discard.
    #[arg(short = 'd', long, hide = true)]
    discard: Option<String>,
}

/// Runs the command.
///
/// # Errors
///
/// If the image cannot be opened or closed, or standard input not be read. A command that fails
/// says so and is the exit status; the next one runs all the same.
pub fn run(args: &IoArgs) -> anyhow::Result<ExitCode> {
    let access = if args.read_only { Access::Read } else { Access::Write };
    let image = args.image.open_by(args.aio, access, args.force_share)?;
    let mut session = Session::new(image);
    let done = if args.commands.is_empty() {
        from_input(&mut session)
    } else {
        for line in &args.commands {
            if session.run(line) == Next::Quit {
                break;
            }
        }
        Ok(())
    };
    // Closed whatever happened, so that what was written is durable.
    let succeeded = session.close()?;
    done?;
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn from_input(session: &mut Session) -> anyhow::Result<()> {
    let input = std::io::stdin().lock();
    let prompt = input.is_terminal();
    let ask = || -> std::io::Result<()> {
        if prompt {
            print!("qbm io> ");
            std::io::stdout().flush()?;
        }
        Ok(())
    };
    ask()?;
    for line in input.lines() {
        if session.run(&line?) == Next::Quit {
            break;
        }
        ask()?;
    }
    Ok(())
}
