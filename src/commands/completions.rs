//! `tl completions`: scripts with which a shell completes the command line, and the man pages.

use std::path::PathBuf;

use clap::{Command, CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};
use clap_mangen::Man;

use super::args::Common;
use super::terminal::{Terminal, print};
use super::{Cli, Outcome};
use crate::error::{Error, Result};
use crate::text::path_text::path_text;
use crate::text::words::counted;
use crate::util::files;

/// The command line.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The shell, or man for the man pages
    #[arg(value_enum)]
    pub what: What,
    /// Write into this folder, under the names that are looked for, instead of printing (the man pages, of which each
    /// command has one, are only written)
    #[arg(long, value_name = "DIR", required_if_eq("what", "man"))]
    pub out: Option<PathBuf>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum What {
    Bash,
    Zsh,
    Fish,
    Man,
}

/// Prints the script, or writes the files.
pub fn run(args: &Args, common: &Common) -> Result<Outcome> {
    let files = match args.what {
        What::Bash => vec![("tl".into(), script(Shell::Bash))],
        What::Zsh => vec![("_tl".into(), script(Shell::Zsh))],
        What::Fish => vec![("tl.fish".into(), script(Shell::Fish))],
        What::Man => pages()?,
    };
    let Some(folder) = &args.out else {
        for (_, text) in &files {
            print(&String::from_utf8_lossy(text))?;
        }
        return Ok(Outcome::Done);
    };
    files::create_folders(folder).map_err(Error::io("create the folder", folder))?;
    for (name, text) in &files {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(Error::io("write", &path))?;
    }
    let written = counted(files.len(), "file", "files");
    Terminal::new(common.quiet).say(format!("{written} in {}", path_text(folder)));
    Ok(Outcome::Done)
}

fn script(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    generate(shell, &mut Cli::command(), "tl", &mut text);
    text
}

/// A page for `tl`, and one for each command: name and text.
fn pages() -> Result<Vec<(String, Vec<u8>)>> {
    let mut tl = Cli::command().disable_help_subcommand(true);
    tl.build();
    let commands: Vec<Command> = tl.get_subcommands().cloned().collect();
    std::iter::once(tl)
        .chain(commands)
        .map(|command| {
            let page = Man::new(command).source(concat!("tl ", env!("CARGO_PKG_VERSION")));
            let mut text = Vec::new();
            let rendered = page.render(&mut text);
            rendered.map_err(|error| Error::run(format!("cannot write a man page: {error}")))?;
            Ok((page.get_filename(), text))
        })
        .collect()
}
