//! `tl watch`: a run under way, from its folder.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use console::Term;

use super::Outcome;
use super::args::Common;
use super::terminal::print;
use crate::error::{Error, Result};
use crate::run::history::EpochRow;
use crate::run::progress::{Progress, State};
use crate::text::path_text::{path_text, typed};
use crate::text::words::{counted, for_shell, harmless};
use crate::util::signal::Signals;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// Epochs in a chart, at most: of more, the last ones.
const CHART: usize = 40;
/// Epochs whose mean length tells how long the rest will take.
const RECENT: usize = 3;

/// The command line.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The run folder
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Look once, and do not wait for the run's end
    #[arg(long)]
    pub once: bool,
}

/// Shows the run until it ends. It ends with 1 if the run has stopped before its end.
pub fn run(args: &Args, _: &Common) -> Result<Outcome> {
    let signals = Signals::listen()?;
    let folder = typed(&args.run);
    let term = Term::stdout();
    let mut shown = Shown::default();
    loop {
        let progress = Progress::read(&folder)?;
        let over = args.once || !matches!(progress.state, State::Working { .. });
        match term.is_term() {
            true => shown.redraw(&term, &lines(&folder, &progress))?,
            false => shown.append(&folder, &progress, over)?,
        }
        if over {
            return Ok(match progress.state {
                State::Stopped { .. } => Outcome::SomeFailed,
                State::Working { .. } | State::Finished { .. } => Outcome::Done,
            });
        }
        sleep(PAUSE);
        signals.check("stopped watching: the run goes on")?;
    }
}

/// What is on the screen.
#[derive(Default)]
struct Shown {
    /// Lines to be drawn over.
    lines: Vec<String>,
    /// Epochs that were printed.
    epochs: usize,
    begun: bool,
}

impl Shown {
    /// Replaces what is there, on a terminal.
    fn redraw(&mut self, term: &Term, lines: &[String]) -> Result<()> {
        let width = usize::from(term.size().1).max(20);
        let cut = |line: &String| console::truncate_str(&harmless(line), width - 1, "…").into_owned();
        let lines: Vec<String> = lines.iter().map(cut).collect();
        if lines == self.lines {
            return Ok(());
        }
        term.clear_last_lines(self.lines.len())
            .and_then(|()| lines.iter().try_for_each(|line| term.write_line(line)))
            .map_err(Error::io("write to", "standard output"))?;
        self.lines = lines;
        Ok(())
    }

    /// Adds what is new, in a file or a pipe.
    fn append(&mut self, folder: &Path, progress: &Progress, over: bool) -> Result<()> {
        let all = lines(folder, progress);
        // A look that is the first and the last is whole.
        if over && !self.begun {
            return print(&(all.join("\n") + "\n"));
        }
        if !self.begun {
            self.begun = true;
            print(&format!("{}\n", all[0]))?;
        }
        // Rows disappear if the run is started over.
        self.epochs = self.epochs.min(progress.rows.len());
        for row in &progress.rows[self.epochs..] {
            print(&format!("{}\n", epoch_line(row, progress)))?;
        }
        self.epochs = progress.rows.len();
        match over {
            true => print(&format!("{}\n", state_line(folder, progress))),
            false => Ok(()),
        }
    }
}

/// All there is to say.
fn lines(folder: &Path, progress: &Progress) -> Vec<String> {
    let mut lines = vec![title(folder, progress)];
    if let Some(last) = progress.rows.last() {
        lines.push(epoch_line(last, progress));
        let chart = |name: &str, value: fn(&EpochRow) -> f64| {
            let rows = &progress.rows[progress.rows.len().saturating_sub(CHART)..];
            let values: Vec<f64> = rows.iter().map(value).collect();
            format!("  {name:<13}{}", sparkline(&values))
        };
        if progress.rows.len() > 1 {
            lines.push(chart("train loss", |row| row.train_loss));
            lines.push(chart("val loss", |row| row.val_loss));
            lines.push(chart("val accuracy", |row| row.val_accuracy));
        }
        if let Some(best) = best(&progress.rows) {
            lines.push(format!(
                "best    epoch {}, val accuracy {:.4}, val loss {:.4}",
                best.epoch, best.val_accuracy, best.val_loss
            ));
        }
    }
    lines.push(state_line(folder, progress));
    lines
}

fn title(folder: &Path, progress: &Progress) -> String {
    let what = [progress.method.as_deref(), progress.model.as_deref()];
    let what: Vec<&str> = what.into_iter().flatten().collect();
    format!("{}  {}", path_text(folder), what.join(", "))
}

fn epoch_line(row: &EpochRow, progress: &Progress) -> String {
    let of = progress.epochs.map(|epochs| format!("/{epochs}")).unwrap_or_default();
    format!(
        "epoch {}{of}  loss {:.4}  train accuracy {:.4}  val loss {:.4}  val accuracy {:.4}  {:.0} images/s",
        row.epoch, row.train_loss, row.train_accuracy, row.val_loss, row.val_accuracy, row.images_per_second
    )
}

/// The epoch with the best accuracy, of equal ones that with the smaller loss: what is kept may be
/// another one, which the report gives reasons for.
fn best(rows: &[EpochRow]) -> Option<&EpochRow> {
    rows.iter()
        .min_by(|a, b| b.val_accuracy.total_cmp(&a.val_accuracy).then(a.val_loss.total_cmp(&b.val_loss)))
}

/// What the run waits for, or how it ended.
fn state_line(folder: &Path, progress: &Progress) -> String {
    let path = for_shell(&path_text(folder));
    match &progress.state {
        State::Finished { val_accuracy } => {
            let accuracy =
                val_accuracy.map(|accuracy| format!(", val accuracy {accuracy:.4}")).unwrap_or_default();
            format!("finished{accuracy}; next: tl predict --model {path} PATH...")
        }
        State::Stopped { crashed } => {
            let how = if *crashed { "it crashed or was killed" } else { "nobody is at work on it" };
            let epochs = counted(progress.rows.len(), "epoch", "epochs");
            format!(
                "not finished: {how}, after {epochs}; go on with `tl finetune RECIPE --resume --out {path}`"
            )
        }
        State::Working { holder } => format!("{holder} is at work: {}", waits_for(progress)),
    }
}

fn waits_for(progress: &Progress) -> String {
    let done = progress.rows.last().map_or(0, |row| row.epoch);
    match progress.epochs {
        _ if done == 0 => "no epoch is finished yet".into(),
        Some(epochs) if done >= epochs => "all epochs are done, the model is being measured".into(),
        Some(epochs) => {
            let recent = &progress.rows[progress.rows.len().saturating_sub(RECENT)..];
            let mean = recent.iter().map(|row| row.seconds).sum::<f64>() / recent.len().max(1) as f64;
            let left = mean * (epochs - done) as f64;
            format!("epoch {} is under way, {} left at most", done + 1, duration(left))
        }
        None => format!("{} done", counted(done, "epoch", "epochs")),
    }
}

/// `8 s`, `2 min`, `3.5 h`.
fn duration(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 100. => format!("{seconds:.0} s"),
        seconds if seconds < 6000. => format!("{:.0} min", seconds / 60.),
        seconds => format!("{:.1} h", seconds / 3600.),
    }
}

/// A bar for each value, from the smallest to the largest; a dot for one that is no number.
fn sparkline(values: &[f64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let (least, most) = (finite().fold(f64::MAX, f64::min), finite().fold(f64::MIN, f64::max));
    let bar = |&value: &f64| match value.is_finite() {
        true if most > least => BARS[((value - least) / (most - least) * 7.).round() as usize],
        true => BARS[0],
        false => '·',
    };
    values.iter().map(bar).collect()
}
