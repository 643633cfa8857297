//! Progress of a download: the observer's trait, and an observer for a terminal.

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use indicatif::{DecimalBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::text::path_text::path_text;
use crate::text::words::harmless;

/// Watches a download. Every method may be left out.
pub trait DownloadProgress {
    /// Bytes are about to flow: `done` of `total` are there already (`total` is `None` if the
    /// server does not say). Called again after each broken connection.
    fn begin(&self, file_name: &str, to: &Path, done: u64, total: Option<u64>) {
        let _ = (file_name, to, done, total);
    }

    /// `done` bytes of the file are there.
    fn advance(&self, done: u64) {
        let _ = done;
    }

    /// A message for the user: the connection broke, another process is downloading.
    fn notice(&self, message: &str) {
        let _ = message;
    }

    /// No more bytes will come, after success or failure.
    fn end(&self) {}

    /// The number of a signal that stops the download. Polled several times a second.
    fn interrupted(&self) -> Option<i32> {
        None
    }
}

/// Reports nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl DownloadProgress for Silent {}

/// A bar on standard error with speed and time left on a terminal; elsewhere one line a file.
pub struct DownloadBar {
    mode: Mode,
    /// The bar of the current file; `None` between files.
    bar: RefCell<Option<ProgressBar>>,
    interrupted: Box<dyn Fn() -> Option<i32>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Quiet,
    Lines,
    Bar,
}

impl DownloadBar {
    /// A bar, lines or nothing, depending on `quiet` and on standard error.
    pub fn new(quiet: bool) -> Self {
        let mode = match (quiet, io::stderr().is_terminal()) {
            (true, _) => Mode::Quiet,
            (false, true) => Mode::Bar,
            (false, false) => Mode::Lines,
        };
        Self { mode, bar: RefCell::new(None), interrupted: Box::new(|| None) }
    }

    /// The same, stopping the download when `interrupted` returns a signal's number.
    pub fn stopping(self, interrupted: impl Fn() -> Option<i32> + 'static) -> Self {
        Self { interrupted: Box::new(interrupted), ..self }
    }
}

impl DownloadProgress for DownloadBar {
    fn begin(&self, file_name: &str, to: &Path, done: u64, total: Option<u64>) {
        let mut slot = self.bar.borrow_mut();
        if self.mode == Mode::Quiet {
            return;
        }
        if slot.is_none() {
            line(&headline(file_name, to, total));
        }
        let draw = match self.mode {
            Mode::Bar => ProgressDrawTarget::stderr(),
            _ => ProgressDrawTarget::hidden(),
        };
        let bar = slot.get_or_insert_with(|| ProgressBar::with_draw_target(total, draw));
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_style(style(total.is_some()));
        // Bytes of an earlier run do not count in this run's speed.
        bar.set_position(done);
        bar.reset_eta();
        bar.enable_steady_tick(Duration::from_millis(200));
    }

    fn advance(&self, done: u64) {
        if let Some(bar) = &*self.bar.borrow() {
            bar.set_position(done);
        }
    }

    fn notice(&self, message: &str) {
        match (&*self.bar.borrow(), self.mode) {
            (_, Mode::Quiet) => {}
            (Some(bar), Mode::Bar) => bar.suspend(|| line(message)),
            _ => line(message),
        }
    }

    fn end(&self) {
        if let Some(bar) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }

    fn interrupted(&self) -> Option<i32> {
        (self.interrupted)()
    }
}

fn headline(file_name: &str, to: &Path, total: Option<u64>) -> String {
    let folder = path_text(to.parent().unwrap_or(to));
    match total {
        Some(total) => format!("downloading {file_name} ({}) to {folder}", DecimalBytes(total)),
        None => format!("downloading {file_name} to {folder}"),
    }
}

fn style(sized: bool) -> ProgressStyle {
    let template = match sized {
        true => "{bar:30} {decimal_bytes}/{decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left",
        false => "{spinner} {decimal_bytes}, {decimal_bytes_per_sec}",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A line on standard error. Unlike `eprintln!` it does not panic if that is closed.
fn line(message: &str) {
    let _ = writeln!(io::stderr(), "{}", harmless(message));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headline_says_what_how_much_and_where_to() {
        let to = Path::new("/cache/resnet18-f37072fd.pth");
        let text = headline("resnet18-f37072fd.pth", to, Some(46_830_571));
        assert_eq!(text, "downloading resnet18-f37072fd.pth (46.83 MB) to /cache");
    }

    #[test]
    fn both_styles_parse() {
        for sized in [true, false] {
            style(sized);
        }
    }
}
