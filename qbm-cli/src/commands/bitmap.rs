//! `qbm bitmap`: operations on bitmaps, with the options of `qemu-img bitmap`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use futures_executor::block_on;
use qbm_core::image::{BitmapAction, Marks, OpenOptions};
use qbm_core::{Access, Granularity};
use serde_json::{Value, json};

use crate::open::{FileImage, GateArgs, ImageArgs, naming};
use crate::remote::{Remote, RemoteArgs};
use crate::size;

/// Add, remove, clear, enable, disable or merge a bitmap
///
/// Several actions in one call are done in their order, all of them or none.
#[derive(Args, Debug)]
pub struct BitmapArgs {
    #[command(flatten)]
    actions: Actions,
    #[command(flatten)]
    image: ImageArgs,
    #[command(flatten)]
    remote: RemoteArgs,
    /// The bitmap
    name: String,
    /// Bytes that a bit of an added bitmap stands for: a power of two, 512 to 2G [default: 64k]
    #[arg(short, long, value_name = "SIZE", value_parser = size::granularity)]
    granularity: Option<Granularity>,
    /// Merge from bitmaps of the image IMAGE
    #[arg(short = 'b', long = "source-file", value_name = "IMAGE")]
    source: Option<PathBuf>,
    /// The format of that image, for scripts of qemu-img; there is one
    #[arg(short = 'F', long = "source-format", value_parser = ["qbm"], requires = "source", hide = true)]
    _source_format: Option<String>,
}

/// What is to be done, in the order of the command line.
#[derive(Clone, Debug)]
struct Actions(Vec<Action>);

#[derive(Clone, Debug)]
enum Action {
    Add,
    Remove,
    Clear,
    Enable,
    Disable,
    Merge(String),
}

/// The actions that are flags, and what they say of themselves.
const FLAGS: [(&str, &str, Action); 5] = [
    ("add", "Add the bitmap; it records from now on", Action::Add),
    ("remove", "Remove the bitmap", Action::Remove),
    ("clear", "Take all its marks away", Action::Clear),
    ("enable", "Let it record again", Action::Enable),
    ("disable", "Let it record no more", Action::Disable),
];

impl Args for Actions {
    fn augment_args(command: Command) -> Command {
        let flag =
            |(name, help, _)| Arg::new(name).long(name).help(help).action(ArgAction::SetTrue);
        let merge = Arg::new("merge")
            .long("merge")
            .value_name("SOURCE")
            .help("Mark what the bitmap SOURCE marks, too")
            .action(ArgAction::Append);
        FLAGS.map(flag).into_iter().chain([merge]).fold(command, Command::arg)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Actions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut actions: Vec<(usize, Action)> = Vec::new();
        for (name, _, action) in FLAGS {
            if matches.value_source(name) == Some(ValueSource::CommandLine) {
                actions.extend(matches.index_of(name).map(|index| (index, action)));
            }
        }
        let sources = matches.get_many::<String>("merge").into_iter().flatten();
        let indices = matches.indices_of("merge").into_iter().flatten();
        actions.extend(indices.zip(sources).map(|(i, source)| (i, Action::Merge(source.clone()))));
        actions.sort_by_key(|(index, _)| *index);
        Ok(Self(actions.into_iter().map(|(_, action)| action).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Runs the command.
///
/// # Errors
///
/// Why nothing was done.
pub fn run(args: BitmapArgs) -> anyhow::Result<ExitCode> {
    let BitmapArgs { actions: Actions(actions), image, remote, name, granularity, source, .. } =
        args;
    if actions.is_empty() {
        bail!("need at least one of --add, --remove, --clear, --enable, --disable or --merge");
    }
    let adds = actions.iter().any(|action| matches!(action, Action::Add));
    if granularity.is_some() && !adds {
        bail!("--granularity goes with --add");
    }
    if source.is_some() && !actions.iter().any(|action| matches!(action, Action::Merge(_))) {
        bail!("--source-file goes with --merge");
    }
    let granularity = granularity.unwrap_or(Granularity::DEFAULT);
    if let Some(remote) = remote.find(&image.image)? {
        if source.is_some() {
            bail!("{}: --source-file cannot be while a server has it", image.image.display());
        }
        return run_by_server(remote, (&image.image, &name), granularity, &actions);
    }
    let source = source.map(|path| Source::open(path, &image.gate)).transpose()?;
    let merge = |from| match &source {
        None => Ok(BitmapAction::Merge { target: name.clone(), source: from }),
        Some(source) => {
            Ok(BitmapAction::MergeMarks { target: name.clone(), marks: source.marks(&from)? })
        }
    };
    let to_core = |action| match action {
        Action::Add => Ok(BitmapAction::Add { name: name.clone(), granularity, disabled: false }),
        Action::Remove => Ok(BitmapAction::Remove(name.clone())),
        Action::Clear => Ok(BitmapAction::Clear(name.clone())),
        Action::Enable => Ok(BitmapAction::Enable(name.clone())),
        Action::Disable => Ok(BitmapAction::Disable(name.clone())),
        Action::Merge(from) => merge(from),
    };
    let actions = actions.into_iter().map(to_core).collect::<anyhow::Result<Vec<_>>>()?;
    let naming = naming(&image.image);
    let image = image.open(Access::Write, false)?;
    let done = match source.map_or(Ok(()), |source| source.refuse_other_size(image.size())) {
        Ok(()) => block_on(image.transaction(&actions)).map_err(naming),
        refused => refused,
    };
    // Closed either way: a refused action changes nothing.
    let closed = block_on(image.close());
    done?;
    closed?;
    Ok(ExitCode::SUCCESS)
}

/// Lets the server do all of it that has the image.
fn run_by_server(
    mut server: Remote,
    (image, name): (&Path, &str),
    granularity: Granularity,
    actions: &[Action],
) -> anyhow::Result<ExitCode> {
    let node = &server.node;
    let bitmap = json!({ "node": node, "name": name });
    let to_qmp = |action: &Action| match action {
        Action::Add => {
            let granularity = granularity.bytes();
            let data = json!({
                "node": node, "name": name, "granularity": granularity, "persistent": true,
            });
            json!({ "type": "block-dirty-bitmap-add", "data": data })
        }
        Action::Remove => json!({ "type": "block-dirty-bitmap-remove", "data": bitmap }),
        Action::Clear => json!({ "type": "block-dirty-bitmap-clear", "data": bitmap }),
        Action::Enable => json!({ "type": "block-dirty-bitmap-enable", "data": bitmap }),
        Action::Disable => json!({ "type": "block-dirty-bitmap-disable", "data": bitmap }),
        Action::Merge(from) => {
            let data = json!({ "node": node, "target": name, "bitmaps": [from] });
            json!({ "type": "block-dirty-bitmap-merge", "data": data })
        }
    };
    let actions: Vec<Value> = actions.iter().map(to_qmp).collect();
    let done = server.client.execute("transaction", &json!({ "actions": actions }));
    done.with_context(|| image.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// The image of the bitmaps to merge, where it is another one.
struct Source {
    path: PathBuf,
    image: FileImage,
}

impl Source {
    fn open(path: PathBuf, gate: &GateArgs) -> anyhow::Result<Self> {
        let image = gate.image(&path, OpenOptions::new(Access::Read))?;
        Ok(Self { path, image })
    }

    fn marks(&self, name: &str) -> anyhow::Result<Marks> {
        block_on(self.image.marks(name)).map_err(naming(&self.path))
    }

    fn refuse_other_size(&self, size: u64) -> anyhow::Result<()> {
        let there = self.image.size();
        if there != size {
            let path = self.path.display();
            bail!("{path}: its disk has {there} bytes, and the one to merge into {size}");
        }
        Ok(())
    }
}
