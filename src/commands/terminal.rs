//! Progress of a command for a person: bars on a terminal, lines elsewhere, nothing with `--quiet`.
//! All on standard error; results go to standard output.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::error::{Error, Result};
use crate::methods;
use crate::run::history::{EpochRow, LinearHead};
use crate::text::words::harmless;
use crate::trainer::{Observer, Step};
use crate::util::signal::Signals;
use crate::weights::download::DownloadBar;

/// Shows a warning, even with `--quiet`.
pub fn warn(text: impl AsRef<str>) {
    // Standard error may be closed; `eprintln!` would panic.
    let _ = writeln!(stderr(), "{}", harmless(text.as_ref()));
}

/// Writes a result to standard output, without anything that would command a terminal.
pub fn print(text: &str) -> Result<()> {
    stdout().write_all(harmless(text).as_bytes()).map_err(Error::io("write to", "standard output"))
}

/// Standard error of a terminal or a file.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    quiet: bool,
    bars: bool,
}

impl Terminal {
    /// Examines standard error once.
    pub fn new(quiet: bool) -> Self {
        Terminal { quiet, bars: !quiet && stderr().is_terminal() }
    }

    /// Prints a line, unless quiet.
    pub fn say(&self, text: impl AsRef<str>) {
        if !self.quiet {
            warn(text);
        }
    }

    /// A bar over `length` images; invisible without a terminal.
    pub fn images(&self, what: &str, length: usize) -> ProgressBar {
        // The message is a `+` where more images may be found.
        let template = "{prefix} {wide_bar} {pos}/{len}{msg} images, {rate}, {eta} left";
        self.bar(template, length).with_prefix(what.to_string())
    }

    /// A bar of `length` steps; invisible without a terminal.
    pub fn bar(&self, template: &str, length: usize) -> ProgressBar {
        let bar = ProgressBar::new(length as u64);
        if !self.bars {
            bar.set_draw_target(ProgressDrawTarget::hidden());
            return bar;
        }
        if let Ok(style) = ProgressStyle::with_template(template) {
            let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                // An error in drawing the bar cannot be reported here.
                let rate = state.per_sec();
                let _ = write!(out, "{rate:.0$}/s", usize::from(rate < 10.));
            };
            bar.set_style(style.with_key("rate", rate));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    /// Observes downloads, and stops them at a signal.
    pub fn downloads(&self, signals: &Signals) -> DownloadBar {
        let signals = signals.clone();
        DownloadBar::new(self.quiet).stopping(move || signals.received())
    }
}

impl methods::MethodObserver for Terminal {
    fn say(&self, line: &str) {
        Terminal::say(self, line);
    }

    fn counting(&self, what: &str, total: usize) -> Box<dyn methods::Counting> {
        Box::new(Counting(
            self.bar("{prefix} {wide_bar} {pos}/{len}, {eta} left", total).with_prefix(what.to_string()),
        ))
    }

    fn training(&self, epochs: usize) -> Box<dyn Observer> {
        Box::new(Epochs { terminal: *self, epochs, bar: None, preparing: None })
    }

    fn part(&self, what: String, epochs: usize) -> Box<dyn Observer> {
        Box::new(Part { terminal: *self, what, epochs, bar: None })
    }
}

/// A bar that is removed when its work is done.
struct Counting(ProgressBar);

impl methods::Counting for Counting {
    fn at(&self, done: usize) {
        self.0.set_position(done as u64);
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Shows a training: a bar for all of it, and a line for each epoch.
struct Epochs {
    terminal: Terminal,
    epochs: usize,
    /// Made at the first step, when their number is known.
    bar: Option<ProgressBar>,
    /// For computations before the first step.
    preparing: Option<ProgressBar>,
}

impl Observer for Epochs {
    fn preparing(&mut self, what: &str, done: usize, total: usize) {
        let bar = self.preparing.get_or_insert_with(|| self.terminal.images(what, total));
        bar.set_position(done as u64);
        if done >= total {
            bar.finish_and_clear();
            self.preparing = None;
        }
    }

    fn note(&mut self, text: &str) {
        let line = format!("note: {text}");
        match &self.bar {
            Some(bar) if !bar.is_hidden() => bar.suspend(|| self.terminal.say(line)),
            _ => self.terminal.say(line),
        }
    }

    fn linear_head(&mut self, head: &LinearHead) {
        self.terminal.say(head.to_string());
    }

    fn step(&mut self, step: &Step) {
        let Epochs { terminal, epochs, .. } = *self;
        let bar = self.bar.get_or_insert_with(|| {
            let bar = terminal.bar("{prefix} {wide_bar} {msg}, {eta} left", epochs * step.steps);
            // A resumed run has not done the earlier steps now: they must not count for the speed.
            bar.reset_eta();
            bar.with_position(((step.epoch - 1) * step.steps + step.step - 1) as u64)
        });
        bar.set_prefix(format!("epoch {}/{epochs}", step.epoch));
        bar.set_message(format!(
            "loss {:.3}, accuracy {:.3}, {:.0} images/s",
            step.loss, step.accuracy, step.images_per_second
        ));
        bar.set_position(((step.epoch - 1) * step.steps + step.step) as u64);
    }

    fn epoch(&mut self, row: &EpochRow, best: bool) {
        let line = format!(
            "epoch {:>width$}/{}  loss {:.4}  train accuracy {:.4}  val loss {:.4}  val accuracy {:.4}{}  \
             {:.0} images/s",
            row.epoch,
            self.epochs,
            row.train_loss,
            row.train_accuracy,
            row.val_loss,
            row.val_accuracy,
            if best { " best" } else { "     " },
            row.images_per_second,
            width = self.epochs.to_string().len(),
        );
        match &self.bar {
            Some(bar) if !bar.is_hidden() => bar.suspend(|| self.terminal.say(line)),
            _ => self.terminal.say(line),
        }
    }
}

impl Drop for Epochs {
    fn drop(&mut self) {
        for bar in self.bar.iter().chain(&self.preparing) {
            bar.finish_and_clear();
        }
    }
}

/// Shows the progress of a training inside a larger task, on a terminal.
struct Part {
    terminal: Terminal,
    what: String,
    epochs: usize,
    bar: Option<ProgressBar>,
}

impl Observer for Part {
    fn step(&mut self, step: &Step) {
        let bar = self.bar.get_or_insert_with(|| {
            let bar = self.terminal.bar("{prefix} {wide_bar} {msg}, {eta} left", self.epochs * step.steps);
            bar.reset_eta();
            bar.with_prefix(self.what.clone())
        });
        bar.set_message(format!("loss {:.3}, {:.0} images/s", step.loss, step.images_per_second));
        bar.set_position(((step.epoch - 1) * step.steps + step.step) as u64);
    }

    fn epoch(&mut self, _: &EpochRow, _: bool) {}
}

impl Drop for Part {
    fn drop(&mut self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}
