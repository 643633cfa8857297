//! Removes unusable images from the data.

use std::collections::HashSet;
use std::path::PathBuf;

use super::Data;
use crate::data::Sample;
use crate::data::verify::BadImage;
use crate::error::{Error, Result};

impl Data {
    /// Removes bad images; the rest must still be enough to learn from.
    pub fn remove(&mut self, bad: &[BadImage]) -> Result<()> {
        let files: HashSet<&PathBuf> = bad.iter().map(|image| &image.file).collect();
        let keep = |sample: &Sample| !files.contains(&sample.path);
        self.train.retain(keep);
        self.val.retain(keep);
        if let Some(test) = &mut self.test {
            test.retain(keep);
            if test.is_empty() {
                return Err(Error::run("no image of `data.test` can be used"));
            }
        }
        if self.val.is_empty() {
            return Err(Error::run("no image is left to measure on (`data.val`)"));
        }
        let empty: Vec<&str> = self
            .counts()
            .iter()
            .zip(&self.classes)
            .filter(|(count, _)| **count == 0)
            .map(|(_, class)| class.as_str())
            .collect();
        match empty.is_empty() {
            true => Ok(()),
            false => Err(Error::run(format!(
                "no usable training image is left of {}: mend its images or remove the class",
                crate::text::suggest::quoted(&empty)
            ))),
        }
    }
}
