//! The CCITT codings of bilevel pages (ITU-T T.4 and T.6), with the code tables of the `fax` crate.

use std::convert::Infallible;
use std::mem;

use fax::BitReader;
use fax::maps::{Mode, black, mode, white};

/// Coding of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// Runs only, and every line begins at a byte.
    Runs,
    /// Runs after an end-of-line code; in two dimensions a bit marks the lines that refer to the
    /// previous one.
    Group3 { two_dimensional: bool },
    /// Every line refers to the previous one.
    Group4,
}

/// Unpacks lines of `width` pixels, eight to a byte and a set bit for black, into `lines` of zeros.
///
/// # Errors
/// If a code is unknown, a line does not have `width` pixels, or the data end early. A group 4
/// block with an early end code leaves the other lines white, as writers omit blank ones.
pub(super) fn unpack(data: &[u8], coding: Coding, width: u32, lines: &mut [u8]) -> Result<(), String> {
    let bits = Bits { data, at: 0 };
    let mut page = Page { bits, width, reference: Vec::new(), line: Vec::new() };
    for (number, row) in lines.chunks_exact_mut(width.div_ceil(8) as usize).enumerate() {
        match page.next(coding) {
            Some(Line::Pixels) => fill(row, &page.line, width),
            Some(Line::EndOfBlock) if number > 0 => break,
            _ if page.bits.at + LONGEST > data.len() * 8 => {
                return Err("the TIFF is truncated; copy or download it again".to_string());
            }
            _ => return Err(format!("the TIFF is damaged: line {} of a fax strip", number + 1)),
        }
    }
    Ok(())
}

/// Bits of the longest code.
const LONGEST: usize = 13;

/// Bits, the highest of each byte first; after the end there are zeros, which are not a code.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl BitReader for Bits<'_> {
    type Error = Infallible;

    fn peek(&self, bits: u8) -> Option<u16> {
        let byte = |index: usize| u32::from(self.data.get(self.at / 8 + index).copied().unwrap_or(0));
        let window = byte(0) << 16 | byte(1) << 8 | byte(2);
        let shift = 24u32.checked_sub(self.at as u32 % 8 + u32::from(bits))?;
        Some(((window >> shift) & ((1 << bits) - 1)) as u16)
    }

    fn consume(&mut self, bits: u8) -> Result<(), Infallible> {
        self.at += usize::from(bits);
        Ok(())
    }

    fn bits_to_byte_boundary(&self) -> u8 {
        (8 - self.at % 8) as u8 % 8
    }
}

impl Bits<'_> {
    /// Skips an end-of-line code, at least eleven zeros and a one, if it comes next.
    fn pass_end_of_line(&mut self) -> bool {
        if self.peek(11) != Some(0) {
            return false;
        }
        let rest = self.at + 11..self.data.len() * 8;
        let one = rest.into_iter().find(|at| self.data[at / 8] >> (7 - at % 8) & 1 == 1);
        self.at = one.map_or(self.at, |at| at + 1);
        one.is_some()
    }
}

enum Line {
    Pixels,
    EndOfBlock,
}

struct Page<'a> {
    bits: Bits<'a>,
    width: u32,
    /// Positions of colour changes in the line above: to black, to white, and so on.
    reference: Vec<u32>,
    line: Vec<u32>,
}

impl Page<'_> {
    /// Reads the next line's changes; `None` if the data are wrong.
    fn next(&mut self, coding: Coding) -> Option<Line> {
        mem::swap(&mut self.reference, &mut self.line);
        self.line.clear();
        match coding {
            Coding::Runs => {
                self.bits.at = self.bits.at.next_multiple_of(8);
                self.runs()
            }
            Coding::Group3 { two_dimensional } => {
                let marked = self.bits.pass_end_of_line();
                if !two_dimensional {
                    return self.runs();
                }
                let alone = self.bits.peek(1)? == 1;
                self.bits.at += 1;
                match (marked, alone) {
                    (false, _) => None,
                    (true, true) => self.runs(),
                    // At the end of a page, end-of-line codes follow each other, and lines are
                    // missing.
                    (true, false) => self.modes().filter(|line| matches!(line, Line::Pixels)),
                }
            }
            Coding::Group4 => self.modes(),
        }
    }

    /// Reads white and black runs in turn.
    fn runs(&mut self) -> Option<Line> {
        let (mut at, mut black) = (0, false);
        while at < self.width {
            at = self.run(at, black)?;
            black = !black;
        }
        Some(Line::Pixels)
    }

    /// Reads a run that begins at `at`; returns its end.
    fn run(&mut self, mut at: u32, black: bool) -> Option<u32> {
        loop {
            let length = if black { black::decode(&mut self.bits) } else { white::decode(&mut self.bits) }?;
            at += u32::from(length);
            if at > self.width {
                return None;
            }
            // Longer runs come in parts, and the last part is below 64.
            if length < 64 {
                self.change(at)?;
                return Some(at);
            }
        }
    }

    /// Adds a colour change at `at`.
    fn change(&mut self, at: u32) -> Option<()> {
        self.line.push(at);
        // At most a change for every pixel, except for empty runs at the edges.
        (self.line.len() <= self.width as usize + 2).then_some(())
    }

    /// Reads changes relative to those of the line above.
    fn modes(&mut self) -> Option<Line> {
        let (mut at, mut black, mut begins) = (0, false, true);
        // The next change above to the other colour; every second change is to the same colour.
        let mut above = 0;
        while at < self.width {
            let passed = |change: u32| change < at || (change == at && !begins);
            while self.reference.get(above).is_some_and(|&change| passed(change)) {
                above += 2;
            }
            let change = |index: usize| self.reference.get(index).copied().unwrap_or(self.width);
            // The table takes any seven zeros for this code.
            let ends = begins && self.bits.peek(12) == Some(1);
            match mode::decode(&mut self.bits)? {
                Mode::Pass => at = change(above + 1),
                Mode::Vertical(offset) => {
                    let to = change(above).checked_add_signed(i32::from(offset))?;
                    if to < at || to > self.width {
                        return None;
                    }
                    at = to;
                    self.change(at)?;
                    black = !black;
                    above = above.checked_sub(1).unwrap_or(1);
                }
                Mode::Horizontal => {
                    at = self.run(at, black)?;
                    at = self.run(at, !black)?;
                }
                Mode::EOF if ends => return Some(Line::EndOfBlock),
                Mode::EOF | Mode::Extension => return None,
            }
            begins = false;
        }
        Some(Line::Pixels)
    }
}

/// Sets the bits of the black runs.
fn fill(row: &mut [u8], changes: &[u32], width: u32) {
    for run in changes.chunks(2) {
        let (from, to) = (run[0] as usize, run.get(1).copied().unwrap_or(width) as usize);
        if from >= to {
            continue;
        }
        let (first, last) = (from / 8, (to - 1) / 8);
        let (head, tail) = (0xFF >> (from % 8), 0xFF << (7 - (to - 1) % 8));
        if first == last {
            row[first] |= head & tail;
        } else {
            row[first] |= head;
            row[first + 1..last].fill(0xFF);
            row[last] |= tail;
        }
    }
}
