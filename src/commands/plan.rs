//! `tl plan`: what `finetune` would do.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use super::Outcome;
use super::args::Common;
use super::terminal::{Terminal, print};
use crate::error::Result;
use crate::plan::{Overrides, Plan, Watch};
use crate::util::signal::Signals;

/// The command line.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The recipe, a YAML file (docs/recipe.md lists its keys)
    pub recipe: PathBuf,
    /// Override a key of the recipe, as in --set train.epochs=5
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    pub sets: Vec<String>,
}

/// Prints the plan on standard output, notes on standard error.
pub fn run(args: &Args, common: &Common) -> Result<Outcome> {
    let terminal = Terminal::new(common.quiet);
    let overrides = Overrides { device: common.device, threads: common.threads, ..Overrides::default() };
    let signals = Signals::listen()?;
    let plan = read(&args.recipe, &args.sets, &overrides, terminal, &signals)?;
    show(&plan, terminal)?;
    Ok(Outcome::Done)
}

/// Reads a plan, and shows the downloads and measurements that this may need.
pub fn read(
    recipe: &Path,
    sets: &[String],
    overrides: &Overrides,
    terminal: Terminal,
    signals: &Signals,
) -> Result<Plan> {
    let bar = OnceCell::new();
    let measuring = |done: usize, total: usize| {
        let bar: &ProgressBar = bar.get_or_init(|| terminal.images("measuring similarity", total));
        bar.set_position(done as u64);
        signals.check("stopped while measuring the similarity: nothing was written")
    };
    let watch = Watch { downloads: &terminal.downloads(signals), measuring: &measuring };
    let plan = Plan::read(recipe, sets, overrides, &watch);
    bar.get().inspect(|bar| bar.finish_and_clear());
    plan
}

/// Prints the plan as YAML on standard output, and its summary and notes on standard error.
pub fn show(plan: &Plan, terminal: Terminal) -> Result<()> {
    let yaml = plan.settings.to_yaml()?;
    print(&yaml)?;
    plan.lines().iter().for_each(|line| terminal.say(line));
    for note in &plan.notes {
        terminal.say(format!("note: {note}"));
    }
    Ok(())
}
