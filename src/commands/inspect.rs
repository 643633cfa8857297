//! `tl inspect`: a network layer by layer.

use tch::Device;

use super::Outcome;
use super::args::{Common, side};
use super::terminal::print;
use crate::error::{Error, Result};
use crate::models::{Fill, Network, Row, inspect};
use crate::plan::fits;
use crate::preprocess::Preprocessing;
use crate::text::path_text;
use crate::text::words::counted;
use crate::weights::download::Silent;
use crate::weights::source::{Source, Weights};

/// Classes of torchvision's builders.
const CLASSES: usize = 1000;

/// The command line.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A name that `tl models` lists, a run folder, or a model file that `tl` wrote
    pub model: String,
    /// The side of the input, in pixels [default: as the weights want it]
    #[arg(long, value_name = "SIDE", value_parser = side)]
    pub input: Option<u32>,
}

/// Prints a row for each layer, marks the stages, and prints totals.
pub fn run(args: &Args, _: &Common) -> Result<Outcome> {
    let source = Source::resolve(&args.model, None, path_text::typed).map_err(Error::usage)?;
    let architecture = source.architecture;
    // A file written by `tl` may hold a chain shortened by its head.
    let opened = match &source.weights {
        Weights::Model(_) => Some(source.open(&Silent)?),
        _ => None,
    };
    let card = opened.as_ref().and_then(|opened| opened.card.clone());
    let preprocessing = match (&card, architecture.entry("DEFAULT")) {
        (Some(card), _) => card.preprocessing.clone(),
        (None, Some(entry)) => entry.preprocessing.clone(),
        (None, None) => architecture.preprocessing(),
    };
    let side = args.input.unwrap_or(preprocessing.crop_size);
    fits(architecture, &Preprocessing { crop_size: side, ..preprocessing }).map_err(Error::usage)?;
    let classes = card.map_or(CLASSES, |card| card.classes.len());
    let network = match &opened {
        Some(opened) => opened.network(classes, side, Device::Cpu, Fill::Zeros)?,
        None => Network::sized(architecture, classes, side.into(), Device::Cpu, Fill::Zeros)?,
    };
    let rows = inspect(&network, side)?;
    let title = format!(
        "{} ({}) on {side}×{side} pixels, {}",
        architecture.name,
        architecture.family,
        counted(classes, "class", "classes")
    );
    let text = table(&title, &rows, &network);
    print(&text)?;
    Ok(Outcome::Done)
}

fn table(title: &str, rows: &[Row], network: &Network) -> String {
    let shape = |row: &Row| row.output.iter().map(i64::to_string).collect::<Vec<_>>().join("×");
    let width = |of: &dyn Fn(&Row) -> usize, least: usize| rows.iter().map(of).max().unwrap_or(0).max(least);
    let key = width(&|row| row.key.chars().count(), 5);
    let kind = width(&|row| row.kind.chars().count(), 4);
    let output = width(&|row| shape(row).chars().count(), 6);
    let line = |cells: [&str; 7]| {
        let [a, b, c, d, g, e, f] = cells;
        format!("  {a:<key$}  {b:<kind$}  {c:<output$}  {d:>13}  {g:>7}  {e:>11}  {f:>14}\n")
    };
    let mut text = format!("{title}\n\n");
    text.push_str(&line(["layer", "type", "output", "weights", "biases", "activations", "multiply-adds"]));
    let mut stage = "";
    for row in rows {
        if row.stage != stage {
            stage = &row.stage;
            text.push_str(&format!("{stage}\n"));
        }
        let number = |number: u64| if number == 0 { String::new() } else { grouped(number) };
        let (weights, biases) = (number(row.weights as u64), number(row.biases as u64));
        let multiply_adds = number(row.multiply_adds);
        let activations = grouped(row.activations() as u64);
        let cells = [&row.key, &row.kind, &shape(row), &weights, &biases, &activations, &multiply_adds];
        text.push_str(&line(cells.map(String::as_str)));
    }
    let parameters: usize =
        network.vars().iter().filter(|var| var.role.is_parameter()).map(|var| var.tensor.numel()).sum();
    let activations: i64 = rows.iter().map(Row::activations).sum();
    let multiply_adds: u64 = rows.iter().map(|row| row.multiply_adds).sum();
    text.push_str(&format!(
        "\n{} parameters ({}B as float32), {} activations ({}B), {} multiply-adds\n",
        grouped(parameters as u64),
        scaled(parameters as u64 * 4),
        scaled(activations as u64),
        scaled(activations as u64 * 4),
        scaled(multiply_adds)
    ));
    text
}

/// `1.814 G`, `46.8 M` or `61.7 k`.
fn scaled(number: u64) -> String {
    let value = number as f64;
    match number {
        1_000_000_000.. => format!("{:.3} G", value * 1e-9),
        1_000_000.. => format!("{:.1} M", value * 1e-6),
        _ => format!("{:.1} k", value * 1e-3),
    }
}

/// `1,728`
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_are_grouped() {
        assert_eq!([0, 12, 1728, 138_357_544].map(super::grouped), ["0", "12", "1,728", "138,357,544"]);
    }

    #[test]
    fn totals_have_the_unit_of_their_size() {
        let numbers = [61_706, 46_758_048, 1_814_073_344];
        assert_eq!(numbers.map(super::scaled), ["61.7 k", "46.8 M", "1.814 G"]);
    }
}
