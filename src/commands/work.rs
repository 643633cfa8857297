//! The images of a command, and where they are computed.

use std::path::{Path, PathBuf};

use super::args::{Common, ImageArgs};
use super::stream::ImageStream;
use super::terminal::Terminal;
use crate::data::Given;
use crate::device::precision::Precision;
use crate::device::{self, DeviceChoice};
use crate::error::{Error, Result};
use crate::output::shard::Shard;
use crate::output::{Begun, JobIdentity, Partial};
use crate::text::path_text::{self, path_text};
use crate::text::words::counted;
use crate::util::same_file::same_file;

/// The images of a command, and the device.
pub(super) struct Work {
    pub(super) images: ImageStream,
    /// As typed.
    pub(super) paths: Vec<PathBuf>,
    /// `None`: all of them.
    pub(super) shard: Option<Shard>,
    pub(super) device: tch::Device,
    pub(super) threads: usize,
}

impl Work {
    /// Finds the first image and the device.
    pub(super) fn find(images: &ImageArgs, common: &Common, terminal: Terminal) -> Result<Self> {
        let shard = match &images.shard {
            None => None,
            Some(choice) => {
                let (shard, by) = choice.resolve(variable)?;
                if let Some(by) = by {
                    terminal.say(format!("note: shard {shard}, {by}"));
                }
                Some(shard)
            }
        };
        let (precision, paths) = (images.read.precision, images.paths.clone());
        let images = ImageStream::open(Given::read(&paths)?, shard.unwrap_or(Shard::WHOLE), terminal)?;
        let (device, threads) = place(common, precision, terminal)?;
        Ok(Work { images, paths, shard, device, threads })
    }

    /// The path of the output.
    ///
    /// # Errors
    /// [`Error::Usage`] if it, or a file beside it, is one of the inputs: a list would be gone.
    pub(super) fn out(&self, out: &Path, beside: impl Fn(&Path) -> Vec<PathBuf>) -> Result<PathBuf> {
        let out = self.shard.map_or_else(|| out.into(), |shard| shard.path(out));
        let written = beside(&out).into_iter().chain([out.clone()]);
        let written: Vec<PathBuf> = written.collect();
        let is_written =
            |path: &&PathBuf| written.iter().any(|output| same_file(&path_text::typed(path), output));
        match self.paths.iter().find(is_written) {
            None => Ok(out),
            Some(path) => Err(Error::usage(format!(
                "the output would replace the PATH {}: choose another name for `--out`",
                path_text(path)
            ))),
        }
    }

    /// Adds the shard and the lists to a [`JobIdentity`].
    pub(super) fn describe(&self, job: JobIdentity) -> JobIdentity {
        let job = match self.images.lists() {
            Some(lists) => job.with("list", lists),
            None => job,
        };
        job.with("shard", self.shard.map_or("all".into(), |shard| shard.to_string()))
    }

    /// Prepares an output, and skips the images that it contains; or reports that the output is
    /// complete.
    ///
    /// # Errors
    /// As [`Partial::begin`] and [`ImageStream::pass`].
    pub(super) fn begin(
        &mut self,
        out: &Path,
        job: &JobIdentity,
        resume: bool,
        terminal: Terminal,
    ) -> Result<Begun> {
        let partial = match Partial::begin(out, job, resume)? {
            Begun::Complete(progress) => {
                self.images.same_as(&progress, out)?;
                return Ok(Begun::Complete(progress));
            }
            Begun::Partial(partial) => partial,
        };
        self.images.pass(partial.progress(), out)?;
        let done = |images: u64| counted(images as usize, "image", "images");
        let going_on = |images: u64| counted(images as usize, "image that is done", "images that are done");
        if let Some(lost) = partial.lost() {
            terminal.say(format!("note: {lost}; they are computed again"));
        }
        if let Some(images) = partial.started_over() {
            let done = done(images);
            terminal.say(format!(
                "note: a run that was stopped had done {done}; started over, as `--resume` would not"
            ));
        }
        if partial.progress().images > 0 {
            terminal.say(format!("going on after {}", going_on(partial.progress().images)));
        }
        Ok(Begun::Partial(partial))
    }
}

/// Where to compute, and with how many threads.
pub(super) fn place(
    common: &Common,
    precision: Precision,
    terminal: Terminal,
) -> Result<(tch::Device, usize)> {
    let choice = common.device.unwrap_or(DeviceChoice::Auto);
    let device = device::choose(choice)?;
    let notes = device::fallen_back(choice).into_iter().chain(precision.note(device));
    notes.for_each(|note| terminal.say(format!("note: {note}")));
    Ok((device, common.threads.unwrap_or_else(device::default_threads)))
}

/// An environment variable; an empty one counts as unset.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}
