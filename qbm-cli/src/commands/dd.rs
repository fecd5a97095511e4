//! `qbm dd`: copies a part of a disk to a new one, with the operands of `qemu-img dd`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use qbm_core::ByteRange;
use qbm_core::copy::Copying;

use crate::disk::CopyArgs;
use crate::size;
use crate::target::{Extras, GRAIN, Target};

/// Bytes of a block, unless told otherwise.
const BLOCK: u64 = 512;
/// The most bytes of a block.
const MOST_BLOCK: u64 = i32::MAX.unsigned_abs() as u64;

/// Copy a part of a disk to a new one
#[derive(Args, Debug)]
#[command(after_help = "\
As in qemu-img, count is counted from the start of the disk, so that skip is a part of it.

Examples:
  qbm dd if=vm.qbm of=start.raw bs=1M count=16           the first 16 MiB
  qbm dd -f raw -O qbm if=vm.raw of=rest.qbm bs=1M skip=16    all but those")]
pub struct DdArgs {
    /// The disk to read and the one to write, and in blocks of bs what is copied
    #[arg(required = true, value_name = "if=FILE of=FILE bs=SIZE count=N skip=N")]
    operands: Vec<String>,
    #[command(flatten)]
    copy: CopyArgs,
}

/// What the operands say; the last of each kind counts.
#[derive(Debug, PartialEq, Eq)]
struct Operands {
    input: PathBuf,
    output: PathBuf,
    block: u64,
    count: Option<u64>,
    skip: u64,
}

impl Operands {
    fn parse(operands: &[String]) -> anyhow::Result<Self> {
        let (mut input, mut output) = (None, None);
        let (mut block, mut count, mut skip) = (BLOCK, None, 0);
        for operand in operands {
            let number = |text| size::number(text).with_context(|| operand.clone());
            match operand.split_once('=') {
                Some(("if", path)) => input = Some(path.into()),
                Some(("of", path)) => output = Some(path.into()),
                Some(("bs", text)) => block = number(text)?,
                Some(("count", text)) => count = Some(number(text)?),
                Some(("skip", text)) => skip = number(text)?,
                _ => bail!("{operand}: no operand; there are if, of, bs, count and skip"),
            }
        }
        if block == 0 || block > MOST_BLOCK {
            bail!("bs={block}: not from 1 to {MOST_BLOCK}");
        }
        let (Some(input), Some(output)) = (input, output) else {
            bail!("need both if=FILE and of=FILE");
        };
        Ok(Self { input, output, block, count, skip })
    }

    /// What is copied of a disk of `size` bytes; `None` if it starts past the end.
    fn part(&self, size: u64) -> Option<ByteRange> {
        let end = self.count.and_then(|count| count.checked_mul(self.block));
        let end = end.map_or(size, |end| end.min(size));
        let start = self.skip.checked_mul(self.block).filter(|start| *start <= end)?;
        Some(ByteRange::new(start, end - start))
    }
}

/// Runs the command.
///
/// # Errors
///
/// Why the disk was not copied.
pub fn run(args: &DdArgs) -> anyhow::Result<ExitCode> {
    let operands = Operands::parse(&args.operands)?;
    let source = args.copy.source(&operands.input)?;
    let from = operands.part(source.disk().size()).unwrap_or_else(|| {
        eprintln!("qbm: {}: cannot skip to specified offset", operands.input.display());
        ByteRange::new(0, 0)
    });
    let output = (operands.output.as_path(), args.copy.output_format);
    let target = Target::create(&args.copy.gate, output, from.length())?;
    let copying =
        Copying { from, to: 0, writing: target.writing(false), grain: GRAIN, above: None };
    let filled = target.fill(&[(source.disk(), copying)], &mut |_| ());
    target.finish(filled.map(|()| Extras::default()))?;
    Ok(ExitCode::SUCCESS)
}
