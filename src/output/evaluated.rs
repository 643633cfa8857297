//! `predictions.csv` of `tl eval`: predictions beside labels.

use crate::error::Result;
use crate::stats::scores::likeliest;
use crate::util::atomic::AtomicFile;

/// An image, its label, and what became of it.
pub struct EvaluatedRow<'a> {
    /// Its path, as outputs spell it.
    pub path: &'a str,
    /// Its label.
    pub label: &'a str,
    /// What became of it.
    pub fate: Fate<'a>,
}

/// What became of an image.
pub enum Fate<'a> {
    /// The model has answered.
    Answered {
        /// The probability of each class.
        probabilities: &'a [f32],
        /// Their names.
        classes: &'a [String],
    },
    /// It was not measured on, and why, in a word.
    LeftOut(&'a str),
    /// It could not be read, and why.
    Failed(&'a str),
}

/// `path,true,label,confidence,left_out,error`, before the last one `p_CLASS` for each class if
/// asked for; numbers have the fewest digits that read back as the same float32.
pub struct EvaluatedTable {
    writer: csv::Writer<AtomicFile>,
    /// Columns of probabilities.
    classes: usize,
}

impl EvaluatedTable {
    /// Writes the header. `classes`: those with a column of their own.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if it cannot be written.
    pub fn begin(file: AtomicFile, classes: Option<&[String]>) -> Result<Self> {
        let classes = classes.unwrap_or_default();
        let mut table = EvaluatedTable { writer: csv::Writer::from_writer(file), classes: classes.len() };
        let fixed = ["path", "true", "label", "confidence", "left_out"].map(String::from);
        let own = classes.iter().map(|class| format!("p_{class}"));
        table.record(fixed.into_iter().chain(own).chain(["error".to_string()]))?;
        Ok(table)
    }

    /// Adds a row.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if it cannot be written.
    pub fn row(&mut self, row: &EvaluatedRow) -> Result<()> {
        let digits = |number: &f32| format!("{number:?}");
        let (answer, left_out, error) = match row.fate {
            Fate::Answered { probabilities, classes } => (Some((probabilities, classes)), "", ""),
            Fate::LeftOut(why) => (None, why, ""),
            Fate::Failed(why) => (None, "", why),
        };
        let [label, confidence] = match answer {
            Some((probabilities, classes)) => {
                let best = likeliest(probabilities);
                [classes[best].clone(), digits(&probabilities[best])]
            }
            None => [String::new(), String::new()],
        };
        let own = (0..self.classes).map(|class| answer.map_or(String::new(), |(all, _)| digits(&all[class])));
        let before = [row.path.to_string(), row.label.to_string(), label, confidence, left_out.to_string()];
        let fields: Vec<String> = before.into_iter().chain(own).chain([error.to_string()]).collect();
        self.record(fields)
    }

    /// The file, whole but not in place.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the last bytes cannot be written.
    pub fn finish(self) -> Result<AtomicFile> {
        let path = self.writer.get_ref().path().to_path_buf();
        self.writer.into_inner().map_err(|error| crate::Error::io("write", path)(error.into_error()))
    }

    fn record(&mut self, fields: impl IntoIterator<Item = String>) -> Result<()> {
        self.writer.write_record(fields).map_err(|error| {
            let error = match error.into_kind() {
                csv::ErrorKind::Io(error) => error,
                other => std::io::Error::other(format!("{other:?}")),
            };
            self.writer.get_ref().error(error)
        })
    }
}
