//! `qbm create`: an image around a disk that is there, or with a new one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use futures_executor::block_on;
use qbm_core::descriptor::Durability;
use qbm_core::image::{self, CreateOptions};
use qbm_core::{Access, Storage};

use crate::open::{GateArgs, host, open_file};
use crate::target::data_name;
use crate::{output, size};

/// Create an image around an existing raw disk, or with a new one
#[derive(Args, Debug)]
pub struct CreateArgs {
    /// The descriptor to create
    image: PathBuf,
    /// The format, for scripts of qemu-img; there is one
    #[arg(short = 'f', value_name = "FORMAT", value_parser = ["qbm"], hide = true)]
    _format: Option<String>,
    /// Say nothing
    #[arg(short)]
    quiet: bool,
    /// The size of a new disk, such as 40G
    #[arg(value_parser = size::parse, required_unless_present = "data_file", conflicts_with = "data_file")]
    size: Option<u64>,
    /// Track the raw disk DATA, a file or block device, which is only read
    #[arg(long, value_name = "DATA")]
    data_file: Option<PathBuf>,
    /// When marks are durable
    #[arg(long, value_enum, default_value = "exact")]
    durability: DurabilityArg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DurabilityArg {
    /// Before the write that they are for: no crash loses one
    Exact,
    /// At a clean close: after a crash everything counts as changed
    Close,
}

/// Runs the command.
///
/// # Errors
///
/// Why the image was not created.
pub fn run(args: CreateArgs) -> anyhow::Result<ExitCode> {
    let CreateArgs { image, size, data_file, durability, quiet, .. } = args;
    let durability = match durability {
        DurabilityArg::Exact => Durability::Exact,
        DurabilityArg::Close => Durability::Close,
    };
    let (directory, name) = GateArgs::default().place(&image)?;
    let options = match data_file {
        None => {
            let file = data_name(&name);
            CreateOptions { file, data: None, size: size.unwrap_or(0), durability }
        }
        Some(path) => {
            let data =
                open_file(&path, Access::Read).with_context(|| path.display().to_string())?;
            let file = name_beside(&image, &path)?;
            CreateOptions { file, data: Some(data), size: 0, durability }
        }
    };
    let file = options.file.clone();
    let size = match &options.data {
        Some(data) => block_on(data.len())?,
        None => options.size,
    };
    block_on(image::create(&directory, &name, options, &*host()))?;
    if !quiet {
        println!("Created '{}', tracking '{file}', {}", image.display(), output::bytes(size));
    }
    Ok(ExitCode::SUCCESS)
}

/// The name of `data` in the descriptor `image`: relative where it lies beside or below it.
fn name_beside(image: &Path, data: &Path) -> anyhow::Result<String> {
    let parent = match image.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let directory = parent.canonicalize().with_context(|| parent.display().to_string())?;
    let folder = match data.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // The folder's links are followed, but a link such as /dev/vg/lv keeps its lasting name.
    let folder = folder.canonicalize().with_context(|| folder.display().to_string())?;
    let path = folder.join(data.file_name().context("the data image has no file name")?);
    let name = path.strip_prefix(&directory).unwrap_or(&path);
    match name.to_str() {
        Some(name) => Ok(name.to_owned()),
        None => bail!("{}: the name is not UTF-8, and a descriptor cannot have it", data.display()),
    }
}
