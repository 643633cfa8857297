//! Predictions as a text table.
//!
//! The first rows determine the column widths, the rest stream. On a terminal no line is longer
//! than the window: text is shortened with `…`, paths at the front because their ends differ; and
//! if `--top-k` asks for more columns than fit, each rank gets a line. Elsewhere nothing is
//! shortened.

use std::io::{self, IsTerminal, Write};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::predictions::{PredictionColumns, PredictionRow, is_number};
use crate::error::{Error, Result};

/// Rows that determine the widths.
const LOOK_AHEAD: usize = 200;

/// Spaces between columns.
const GAP: usize = 2;

/// Narrower text columns are of little use.
const NARROW: usize = 12;

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// Style of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableStyle {
    /// Line width at most, where possible; `None` for no limit.
    pub width: Option<usize>,
    /// Whether to use colours.
    pub colour: bool,
}

impl TableStyle {
    /// The capabilities of standard output: on a terminal its width, and colours unless disabled by
    /// the environment (`NO_COLOR`, `CLICOLOR=0`, `TERM=dumb`); elsewhere neither.
    pub fn of_stdout() -> Self {
        if !io::stdout().is_terminal() {
            return Self::default();
        }
        let width = console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
        Self { width, colour: console::colors_enabled() }
    }
}

/// A table of predictions being written to `W`.
pub struct PredictionTable<W: Write> {
    out: W,
    style: TableStyle,
    columns: PredictionColumns,
    waiting: Vec<PredictionRow>,
    layout: Option<Layout>,
}

impl<W: Write> PredictionTable<W> {
    /// A table with these columns.
    pub fn new(out: W, columns: PredictionColumns, style: TableStyle) -> Self {
        Self { out, style, columns, waiting: Vec::new(), layout: None }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn write_row(&mut self, row: &PredictionRow) -> Result<()> {
        if let Some(layout) = &self.layout {
            return layout.print(&mut self.out, row).map_err(Error::io("write to", "standard output"));
        }
        self.waiting.push(row.clone());
        if self.waiting.len() < LOOK_AHEAD { Ok(()) } else { self.print_waiting() }
    }

    /// Writes the remaining rows.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn finish(mut self) -> Result<()> {
        if self.layout.is_none() {
            self.print_waiting()?;
        }
        self.out.flush().map_err(Error::io("write to", "standard output"))
    }

    fn print_waiting(&mut self) -> Result<()> {
        let layout = Layout::new(&self.waiting, self.columns, self.style);
        let rows = std::mem::take(&mut self.waiting);
        let result = layout
            .print_header(&mut self.out)
            .and_then(|()| rows.iter().try_for_each(|row| layout.print(&mut self.out, row)));
        self.layout = Some(layout);
        result.map_err(Error::io("write to", "standard output"))
    }
}

/// The columns and their widths.
struct Layout {
    style: TableStyle,
    /// Ranks side by side; the rest get lines of their own.
    ranks: usize,
    lines: usize,
    unknown: bool,
    names: Vec<String>,
    widths: Vec<usize>,
    /// The narrowest column that had to be shortened.
    narrowest: usize,
}

impl Layout {
    fn new(rows: &[PredictionRow], columns: PredictionColumns, style: TableStyle) -> Self {
        let wide = Self::with_lines(rows, columns, 1, style);
        let fits = style.width.is_none_or(|width| wide.length() <= width && wide.narrowest >= NARROW);
        match columns.top_k {
            2.. if !fits => {
                Self::with_lines(rows, PredictionColumns { top_k: 1, ..columns }, columns.top_k, style)
            }
            _ => wide,
        }
    }

    fn with_lines(
        rows: &[PredictionRow],
        columns: PredictionColumns,
        lines: usize,
        style: TableStyle,
    ) -> Self {
        let names: Vec<_> = columns.names().collect();
        let widths = names.iter().map(|name| name.width()).collect();
        let PredictionColumns { top_k: ranks, unknown } = columns;
        let mut layout = Self { style, ranks, lines, unknown, names, widths, narrowest: usize::MAX };
        for row in rows {
            for line in 0..lines {
                let cells = layout.cells(row, line);
                for (width, cell) in layout.widths.iter_mut().zip(&cells) {
                    *width = cell.width().max(*width);
                }
            }
        }
        if let Some(limit) = style.width {
            layout.shrink(limit);
        }
        layout
    }

    /// Numbers are not shortened.
    fn is_text(&self, column: usize) -> bool {
        !is_number(&self.names[column])
    }

    fn length(&self) -> usize {
        self.widths.iter().sum::<usize>() + GAP * (self.widths.len() - 1)
    }

    /// Narrows the widest text columns until the line fits.
    fn shrink(&mut self, limit: usize) {
        while self.length() > limit {
            let widest = (0..self.widths.len())
                .filter(|&column| self.is_text(column) && self.widths[column] > self.names[column].width())
                .max_by_key(|&column| self.widths[column]);
            let Some(widest) = widest else {
                return;
            };
            self.widths[widest] -= 1;
            self.narrowest = self.narrowest.min(self.widths[widest]);
        }
    }

    /// The texts in line `line` of a row.
    fn cells(&self, row: &PredictionRow, line: usize) -> Vec<String> {
        let first = |text: &str| if line == 0 { printable(text) } else { String::new() };
        let number = |value: Option<f32>| value.map(|value| format!("{value:.4}")).unwrap_or_default();
        let mut cells = vec![first(&row.path)];
        for rank in line..line + self.ranks {
            let (label, confidence) = row.rank(rank).unwrap_or_default();
            cells.extend([printable(label), number(confidence)]);
        }
        if self.unknown {
            cells.push(first(&number(row.answer.unknown)));
        }
        cells.push(first(row.error.as_deref().unwrap_or_default()));
        cells
    }

    fn print_header(&self, out: &mut impl Write) -> io::Result<()> {
        self.print_cells(out, &self.names, BOLD)
    }

    fn print(&self, out: &mut impl Write, row: &PredictionRow) -> io::Result<()> {
        let colour = if row.error.is_some() { RED } else { "" };
        for line in 0..self.lines {
            if line == 0 || row.rank(line).is_some() {
                self.print_cells(out, &self.cells(row, line), colour)?;
            }
        }
        Ok(())
    }

    fn print_cells(&self, out: &mut impl Write, cells: &[String], colour: &str) -> io::Result<()> {
        let mut text = String::new();
        for (column, cell) in cells.iter().enumerate() {
            let width = self.widths[column];
            let cell = match self.style.width {
                Some(_) if column == 0 => shorten_front(cell, width),
                Some(_) => shorten_back(cell, width),
                None => cell.clone(),
            };
            let blank = " ".repeat(width.saturating_sub(cell.width()));
            let (before, after) =
                if self.is_text(column) { ("", blank.as_str()) } else { (blank.as_str(), "") };
            text.extend([before, &cell, after, "  "]);
        }
        let text = text.trim_end();
        match self.style.colour && !colour.is_empty() {
            true => writeln!(out, "{colour}{text}{PLAIN}"),
            false => writeln!(out, "{text}"),
        }
    }
}

/// Escapes line ends and terminal commands, which a file's name may contain.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter.is_control() {
            true => shown.extend(letter.escape_default()),
            false => shown.push(letter),
        }
    }
    shown
}

/// `photos/2024/a.jpg` → `…2024/a.jpg`.
fn shorten_front(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.into();
    }
    let kept: Vec<char> = fitting(text.chars().rev(), width).collect();
    std::iter::once('…').chain(kept.into_iter().rev()).collect()
}

/// `golden retriever` → `golden re…`.
fn shorten_back(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.into();
    }
    fitting(text.chars(), width).chain(std::iter::once('…')).collect()
}

/// As many characters as leave room for an ellipsis.
fn fitting(letters: impl Iterator<Item = char>, width: usize) -> impl Iterator<Item = char> {
    let mut left = width.saturating_sub(1);
    letters.map_while(move |letter| {
        left = left.checked_sub(letter.width().unwrap_or(0))?;
        Some(letter)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Answer;

    fn row(path: &str, ranks: &[(&str, f32)]) -> PredictionRow {
        let ranks = ranks.iter().map(|(label, confidence)| (label.to_string(), *confidence)).collect();
        let answer = Answer { ranks, ..Answer::default() };
        PredictionRow { path: path.into(), answer, error: None }
    }

    const ONE: PredictionColumns = PredictionColumns { top_k: 1, unknown: false };

    fn failed(path: &str, error: &str) -> PredictionRow {
        PredictionRow { path: path.into(), error: Some(error.into()), ..PredictionRow::default() }
    }

    fn table(rows: &[PredictionRow], top_k: usize, style: TableStyle) -> String {
        let mut out = Vec::new();
        let mut table = PredictionTable::new(&mut out, PredictionColumns { top_k, unknown: false }, style);
        rows.iter().for_each(|row| table.write_row(row).unwrap());
        table.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    fn narrow(width: usize) -> TableStyle {
        TableStyle { width: Some(width), colour: false }
    }

    #[test]
    fn columns_are_aligned() {
        let rows =
            [row("a.jpg", &[("dog", 0.93128)]), row("ö/漢字.jpg", &[("cat", 1.0)]), failed("c.jpg", "cut")];
        let expected = "\
path        label  confidence  error
a.jpg       dog        0.9313
ö/漢字.jpg  cat        1.0000
c.jpg                          cut
";
        assert_eq!(table(&rows, 1, TableStyle::default()), expected);
    }

    #[test]
    fn an_unknown_image_has_no_confidence() {
        let mut strange = row("a.jpg", &[("dog", 0.93128), ("cat", 0.01)]);
        (strange.answer.unknown, strange.answer.rejected) = (Some(0.99996), true);
        let mut known = row("b.jpg", &[("cat", 0.5), ("dog", 0.25)]);
        known.answer.unknown = Some(0.25);
        let rows = [strange, known, failed("c.jpg", "cut")];
        let table = |style| {
            let mut out = Vec::new();
            let columns = PredictionColumns { top_k: 2, unknown: true };
            let mut table = PredictionTable::new(&mut out, columns, style);
            rows.iter().for_each(|row| table.write_row(row).unwrap());
            table.finish().unwrap();
            String::from_utf8(out).unwrap()
        };
        let expected = "\
path   label    confidence  label_2  confidence_2  unknown  error
a.jpg  unknown              dog            0.9313   1.0000
b.jpg  cat          0.5000  dog            0.2500   0.2500
c.jpg                                                       cut
";
        assert_eq!(table(TableStyle::default()), expected);
        let expected = "\
path   label    confidence  unknown  error
a.jpg  unknown               1.0000
       dog          0.9313
b.jpg  cat          0.5000   0.2500
       dog          0.2500
c.jpg                                cut
";
        assert_eq!(table(narrow(50)), expected);
    }

    #[test]
    fn nothing_is_longer_than_the_window() {
        let path = format!("{}/last.jpg", "folder/".repeat(20));
        let rows = [row(&path, &[("a label of many words", 0.5)]), failed("b.jpg", &"reason ".repeat(20))];
        let text = table(&rows, 1, narrow(60));
        assert!(text.lines().all(|line| line.width() <= 60), "{text}");
        assert!(text.contains("/last.jpg ") && text.contains("a label of ma"), "{text}");
        assert_eq!(text.matches('…').count(), 3, "{text}");
        assert!(!table(&rows, 1, TableStyle::default()).contains('…'));
    }

    #[test]
    fn ranks_that_do_not_fit_get_lines() {
        let ranks: Vec<(&str, f32)> = vec![("golden retriever", 0.5), ("Labrador", 0.25), ("kuvasz", 0.125)];
        let rows = [row("a.jpg", &ranks), failed("b.jpg", "cut")];
        let expected = "\
path   label             confidence  error
a.jpg  golden retriever      0.5000
       Labrador              0.2500
       kuvasz                0.1250
b.jpg                                cut
";
        assert_eq!(table(&rows, 3, narrow(60)), expected);
        assert_eq!(table(&rows, 3, narrow(120)).lines().count(), 3);
        assert!(
            table(&rows, 3, TableStyle::default())
                .starts_with("path   label             confidence  label_2")
        );
    }

    #[test]
    fn hostile_names_do_not_reach_the_terminal() {
        let text = table(&[row("a\x1b[2J\nb.jpg", &[("x\ty", 0.5)])], 1, TableStyle::default());
        assert!(text.contains("a\\u{1b}[2J\\nb.jpg") && text.contains("x\\ty"), "{text}");
    }

    #[test]
    fn colours_only_where_asked_for() {
        let rows = [row("a.jpg", &[("dog", 0.5)]), failed("b.jpg", "cut")];
        assert!(!table(&rows, 1, narrow(80)).contains('\x1b'));
        let text = table(&rows, 1, TableStyle { width: Some(80), colour: true });
        assert!(text.lines().nth(2).unwrap().starts_with("\x1b[31mb.jpg"), "{text}");
    }

    #[test]
    fn a_window_of_no_width_is_survived() {
        for width in 0..40 {
            let text = table(&[row("a.jpg", &[("漢字", 0.5), ("dog", 0.25)])], 2, narrow(width));
            assert!(text.contains("0.2500"), "{text}");
        }
    }

    #[test]
    fn many_rows_stream() {
        let mut out = Vec::new();
        let mut table = PredictionTable::new(&mut out, ONE, TableStyle::default());
        for i in 0..1_000 {
            table.write_row(&row(&format!("{i}.jpg"), &[("dog", 0.5)])).unwrap();
            assert!(table.waiting.len() < LOOK_AHEAD);
        }
        table.finish().unwrap();
        assert_eq!(String::from_utf8(out).unwrap().lines().count(), 1_001);
    }
}
