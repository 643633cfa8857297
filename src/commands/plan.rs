//! `tl plan`: what `finetune` would do.

use std::io::{Write, stdout};

use super::Outcome;
use super::terminal::Terminal;
use crate::cli::{self, Common};
use crate::error::{Error, Result};
use crate::plan::{Overrides, Plan};

/// Prints the plan on standard output, notes on standard error.
pub fn run(args: &cli::Plan, common: &Common) -> Result<Outcome> {
    let overrides = Overrides { out: None, device: common.device, threads: common.threads };
    let plan = Plan::read(&args.recipe, &args.sets, &overrides)?;
    show(&plan, Terminal::new(common.quiet))?;
    Ok(Outcome::Done)
}

/// The plan as YAML, and its notes.
pub fn show(plan: &Plan, terminal: Terminal) -> Result<()> {
    let yaml = plan.settings.to_yaml()?;
    stdout().write_all(yaml.as_bytes()).map_err(Error::io("write to", "standard output"))?;
    for note in &plan.notes {
        terminal.say(format!("note: {note}"));
    }
    Ok(())
}
