//! Decodes every image once before training, so that a bad one among ten thousand is found now and
//! not in the last epoch.

use std::path::PathBuf;

use serde::Serialize;

use crate::data::Sample;
use crate::data::loader::for_each_ordered;
use crate::error::{Error, Result};
use crate::preprocess::{DecodeLimits, decode_file};
use crate::text::path_text::path_text;
use crate::util::signal::Signals;

/// An image that cannot be used.
#[derive(Clone, Debug, Serialize)]
pub struct BadImage {
    /// Its path, as seen from the working directory.
    pub path: String,
    /// Why it cannot be used.
    pub error: String,
    /// The opened path.
    #[serde(skip)]
    pub file: PathBuf,
}

/// Maximum number of images listed in a message; the report has them all.
const SHOWN: usize = 20;

/// Decodes all of `samples` and returns those that fail, in order. `tick` is called for each.
pub fn find_bad_images(
    samples: &[&Sample],
    limits: DecodeLimits,
    threads: usize,
    signals: &Signals,
    mut tick: impl FnMut(),
) -> Result<Vec<BadImage>> {
    let mut bad = Vec::new();
    // Pixels are dropped by the thread that decoded them: only errors are returned.
    let check = |index: usize| decode_file(samples[index].image(), limits).err();
    for_each_ordered(samples.len(), threads, 4 * threads.max(1), check, |index, error| {
        signals.check("stopped while checking the images: nothing was trained yet")?;
        tick();
        if let Some(error) = error {
            let error = match error {
                Error::File { message, .. } => message,
                other => other.to_string(),
            };
            let file = samples[index].path.clone();
            bad.push(BadImage { path: path_text(file.as_os_str()).into_owned(), error, file });
        }
        Ok(())
    })?;
    Ok(bad)
}

/// A line for each of the first images, and the number of the others.
pub fn list(bad: &[BadImage]) -> String {
    let mut lines: Vec<String> =
        bad.iter().take(SHOWN).map(|image| format!("  {}: {}", image.path, image.error)).collect();
    if bad.len() > SHOWN {
        lines.push(format!("  and {} more", bad.len() - SHOWN));
    }
    lines.join("\n")
}
