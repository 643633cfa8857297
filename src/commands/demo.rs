//! `tl demo`: what `tl` does, on images that it brings.

mod shipped;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;

use super::args::Common;
use super::terminal::{Terminal, print};
use super::{Cli, Outcome};
use crate::error::{Error, Result};
use crate::models;
use crate::text::path_text::path_text;
use crate::text::words::for_shell;
use crate::weights::installed;

/// The network that names what is in the photographs.
const KNOWS_IMAGENET: &str = "efficientnet_lite0";
const PHOTOS: &str = "data/photos";
const RECIPE: &str = "recipes/digits-stages.yaml";
const RUN: &str = "runs/digits-stages";
const SAMPLES: &str = "data/samples";

/// The command line.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The folder to write images, recipes and results into: a new or empty one, or that of an earlier demo
    #[arg(long, value_name = "DIR", default_value = "tl-demo")]
    pub out: PathBuf,
}

/// Names what is in photographs, learns digits, and says where the report is.
pub fn run(args: &Args, common: &Common) -> Result<Outcome> {
    let demo = Demo { folder: &args.out, common, terminal: Terminal::new(common.quiet) };
    shipped::write(demo.folder)?;
    demo.say(format!(
        "Two photographs and 1,797 handwritten digits are in {}\n",
        path_text(&demo.folder.join("data"))
    ));
    let named = demo.photographs()?;
    demo.digits()?;
    demo.way_on(named);
    Ok(Outcome::Done)
}

struct Demo<'a> {
    folder: &'a Path,
    common: &'a Common,
    terminal: Terminal,
}

impl Demo<'_> {
    fn say(&self, text: impl AsRef<str>) {
        self.terminal.say(text);
    }

    /// A path in the folder, for a message.
    fn at(&self, path: &str) -> String {
        path_text(&self.folder.join(path)).into_owned()
    }

    /// Runs `tl WORDS` in this process, without its messages.
    fn tl(&self, words: &[&OsStr]) -> Result<Outcome> {
        let cli = Cli::try_parse_from([OsStr::new("tl")].iter().chain(words));
        let Cli { command, .. } = cli.map_err(|error| Error::run(error.to_string()))?;
        super::run(&Cli { command, common: Common { quiet: true, ..self.common.clone() } })
    }

    /// The rows of `tl predict` on a folder of images.
    fn predict(&self, model: &str, images: &str, out: &str, top_k: &str) -> Result<Vec<csv::StringRecord>> {
        let (images, out) = (self.folder.join(images), self.folder.join(out));
        let words = ["predict", "--model", model, "--top-k", top_k, "--out"].map(OsStr::new);
        if let Outcome::SomeFailed = self.tl(&[&words[..], &[out.as_os_str(), images.as_os_str()]].concat())?
        {
            return Err(Error::file(&out, "says which images could not be read"));
        }
        let damaged = |error: csv::Error| Error::file(&out, error.to_string());
        csv::Reader::from_path(&out)
            .map_err(damaged)?
            .into_records()
            .map(|row| row.map_err(damaged))
            .collect()
    }

    /// Whether the weights of the network that knows them are here.
    fn photographs(&self) -> Result<bool> {
        let entry = models::find(KNOWS_IMAGENET).and_then(|network| network.entry("DEFAULT"));
        let Some(entry) = entry else { return Ok(false) };
        if installed::at_hand(entry).is_none() {
            let command = installed::command(entry)?.unwrap_or_default();
            self.say(format!(
                "1. The photographs need a network that knows what things look like. This fetches it (17 MB) for the next `tl \
                 demo`: {command}\n"
            ));
            return Ok(false);
        }
        self.say("1. What a network that knows 1,000 kinds of things (EfficientNet-Lite0) sees in the photographs:");
        for row in self.predict(KNOWS_IMAGENET, PHOTOS, "photos.csv", "3")? {
            let guess = |place: usize| {
                format!("{} {:.0} %", &row[place], 100. * row[place + 1].parse().unwrap_or(0.))
            };
            print(&format!("   {:<12} {}\n", name(&row[0]), [1, 3, 5].map(guess).join(", ")))?;
        }
        self.say("");
        Ok(true)
    }

    /// Trains, measures, predicts.
    fn digits(&self) -> Result<()> {
        self.say(
            "2. A smaller network, which has seen nothing but printed letters, learns to read the digits:",
        );
        let (recipe, run) = (self.folder.join(RECIPE), self.folder.join(RUN));
        let started = Instant::now();
        self.tl(&[
            "finetune".as_ref(),
            "--overwrite".as_ref(),
            "--out".as_ref(),
            run.as_ref(),
            recipe.as_ref(),
        ])?;
        let seconds = started.elapsed().as_secs_f64().round().max(1.);
        let report = run.join("report.json");
        let text = fs::read(&report).map_err(Error::io("read", &report))?;
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        let number = |pointer: &str| {
            let found = json.pointer(pointer).and_then(serde_json::Value::as_f64);
            found.ok_or_else(|| Error::file(&report, format!("has no {pointer}")))
        };
        print(&format!(
            "   it learnt from {:.0} digits in {seconds:.0} s, and reads {:.1} % of {:.0} others right\n",
            number("/train/images")? + number("/val/images")?,
            100. * number("/test/accuracy")?,
            number("/test/images")?,
        ))?;
        let rows = self.predict(&self.at(RUN), SAMPLES, "samples.csv", "1")?;
        let read = rows.iter().map(|row| format!("{} {}", name(&row[0]).trim_end_matches(".png"), &row[1]));
        print(&format!("   ten more, and what it reads: {}\n", read.collect::<Vec<_>>().join(", ")))?;
        self.say("");
        Ok(())
    }

    /// The report, and the commands that do the same.
    fn way_on(&self, named: bool) {
        self.say(format!(
            "How well it does, and what it confuses: {}\n\nThe same by hand:",
            self.at(&format!("{RUN}/report.html"))
        ));
        self.say(format!("   cd {}", for_shell(&path_text(self.folder))));
        if named {
            self.say(format!("   tl predict --model {KNOWS_IMAGENET} --top-k 3 {PHOTOS}"));
        }
        self.say(format!("   tl finetune {RECIPE} --overwrite\n   tl predict --model {RUN} {SAMPLES}"));
        self.say("And with images of yours, a folder for each kind:\n   tl init FOLDER");
    }
}

/// The file's own name.
fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
