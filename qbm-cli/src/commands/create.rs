//! `qbm create`: an image around a disk that is there, with a new one, or over another image.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use futures_executor::block_on;
use qbm_core::descriptor::{Durability, Format, ImageRef};
use qbm_core::image::{self, CreateOptions, OverlayOptions};
use qbm_core::{Access, Granularity, Storage};

use crate::medium::address;
use crate::open::{DiskFile, GateArgs, host};
use crate::target::data_name;
use crate::{output, size};

/// Create an image around an existing raw disk, with a new one, or over another image
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
    /// The size of a new disk, such as 40G; over another image that of BASE, unless it is given
    #[arg(value_parser = size::parse, required_unless_present_any = ["data_file", "backing"], conflicts_with = "data_file")]
    size: Option<u64>,
    /// Show BASE where nothing has been written yet. Its name is relative to the new image, and BASE
    /// must not be changed from then on
    #[arg(
        short,
        long,
        value_name = "BASE",
        requires = "backing_format",
        conflicts_with = "data_file"
    )]
    backing: Option<String>,
    /// What BASE is, which is never found out by looking at it
    #[arg(short = 'F', long, value_enum, value_name = "FORMAT", requires = "backing")]
    backing_format: Option<FormatArg>,
    /// What is copied from BASE at a time: a power of two, 512 to 2G
    #[arg(long, value_name = "SIZE", default_value = "64k", value_parser = size::granularity)]
    cluster_size: Granularity,
    /// Track the raw disk DATA, which is only read: a file, a block device, or the address of an NBD
    /// server
    #[arg(long, value_name = "DATA")]
    data_file: Option<PathBuf>,
    /// When marks are durable
    #[arg(long, value_enum, default_value = "exact")]
    durability: DurabilityArg,
    #[command(flatten)]
    gate: GateArgs,
}

/// The formats of an image that is behind another.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FormatArg {
    /// The bytes of the disk and nothing else.
    Raw,
    /// An image with a descriptor.
    Qbm,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Raw => Self::Raw,
            FormatArg::Qbm => Self::Qbm,
        }
    }
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
    let CreateArgs { image, size, data_file, durability, quiet, gate, cluster_size, .. } = args;
    let durability = match durability {
        DurabilityArg::Exact => Durability::Exact,
        DurabilityArg::Close => Durability::Close,
    };
    if let (Some(file), Some(format)) = (args.backing, args.backing_format) {
        let backing = ImageRef { file, format: format.into() };
        let told = over(&gate, &image, (backing, cluster_size), (size, durability))?;
        if !quiet {
            println!("{told}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (directory, name) = gate.place(&image)?;
    let options = match data_file {
        None => {
            let file = data_name(&name);
            CreateOptions { file, data: None, size: size.unwrap_or(0), durability }
        }
        Some(path) => {
            let data = DiskFile::open_operator(&path, Access::Read)
                .with_context(|| path.display().to_string())?;
            let file = match address(&path) {
                Some(address) => address.to_owned(),
                None => name_beside(&image, &path)?,
            };
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

/// Creates `image` over `backing`, with clusters of a size; returns what to say of it.
///
/// # Errors
///
/// Why the image was not created.
pub fn over(
    gate: &GateArgs,
    image: &Path,
    (backing, cluster): (ImageRef, Granularity),
    (size, durability): (Option<u64>, Durability),
) -> anyhow::Result<String> {
    let (directory, name) = gate.place(image)?;
    let behind = backing.file.clone();
    let options = OverlayOptions { file: data_name(&name), backing, cluster, size, durability };
    let size = block_on(image::create_overlay(&directory, &name, options, &*host()))?;
    Ok(format!("Created '{}' over '{behind}', {}", image.display(), output::bytes(size)))
}

/// The name of `data` in the descriptor `image`: relative where it lies beside or below it.
///
/// # Errors
///
/// If it has none that a descriptor can have.
pub fn name_beside(image: &Path, data: &Path) -> anyhow::Result<String> {
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
