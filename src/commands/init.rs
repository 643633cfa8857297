//! `tl init`: a recipe for a folder of images.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::Outcome;
use super::args::Common;
use super::terminal::Terminal;
use crate::data::{
    Dataset, Part, has_test_part, in_yaml, read_labelled, read_labelled_or_parts, read_labelled_with,
};
use crate::device::{self, DeviceChoice};
use crate::error::{Error, Result};
use crate::models;
use crate::preprocess::image_size;
use crate::text::path_text::{path_text, typed};
use crate::text::words::{counted, for_shell, shown};
use crate::util::files;
use crate::weights::installed;

/// The command line.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Class folders, a folder of train, val and test folders, a .csv of path,label, or CIFAR or MNIST
    pub data: PathBuf,
    /// The recipe to write [default: the folder's name and .yaml, in the working directory]
    #[arg(long, value_name = "RECIPE")]
    pub out: Option<PathBuf>,
    /// The network, of `tl models` [default: one that suits this machine]
    #[arg(long)]
    pub model: Option<String>,
}

/// Looks at the images and writes the recipe.
pub fn run(args: &Args, common: &Common) -> Result<Outcome> {
    let terminal = Terminal::new(common.quiet);
    let (model, why) = match &args.model {
        Some(model) if models::find(model).is_some() => (model.clone(), "as asked for"),
        Some(model) => return Err(Error::usage(models::unknown(model))),
        None => suited(common.device.unwrap_or_default())?,
    };
    let data = Found::at(&typed(&args.data))?;
    let out = args.out.clone().unwrap_or_else(|| recipe_name(&args.data));
    write(&out, &recipe(&data, &out, &model, why))?;
    data.notes.iter().for_each(|note| terminal.say(format!("note: {note}")));
    terminal.say(format!("found   {}", data.summary()));
    terminal.say(format!("wrote   {}", path_text(&out)));
    let shell = for_shell(&path_text(&out));
    terminal.say(format!("next    tl finetune {shell}    (tl plan {shell} shows what it will do)"));
    Ok(Outcome::Done)
}

/// The images of a path, and its parts.
struct Found {
    train: PathBuf,
    val: Option<PathBuf>,
    test: Option<PathBuf>,
    /// Of the training images.
    classes: Vec<(String, usize)>,
    images: usize,
    /// Images for validation that a CSV's column tells, and to test on.
    aside: Option<(usize, usize)>,
    /// Columns and rows of the image in the middle.
    size: Option<(u32, u32)>,
    notes: Vec<String>,
}

impl Found {
    fn at(path: &Path) -> Result<Found> {
        let (train, images, parts) = match read_labelled_or_parts(path)? {
            Ok(images) => (path.to_path_buf(), images, Vec::new()),
            Err(parts) => {
                let train = parts.iter().find(|(part, _)| *part == Part::Train);
                let train = train.ok_or_else(|| without_train(path))?.1.clone();
                (train.clone(), read_labelled(&train)?, parts)
            }
        };
        let folder = |part| parts.iter().find(|(it, _)| *it == part).map(|(_, path)| path.clone());
        let test = folder(Part::Test).or_else(|| has_test_part(path).then(|| path.to_path_buf()));
        // Their mistakes are found now, not when the recipe is used.
        for (part, path) in [(Part::Val, folder(Part::Val)), (Part::Test, test.clone())] {
            path.map(|path| read_labelled_with(&path, &images.classes, part)).transpose()?;
        }
        let counts = images.counts();
        Ok(Found {
            val: folder(Part::Val),
            test,
            aside: images.aside.as_ref().map(|aside| (aside.val.len(), aside.test.len())),
            size: middle_size(&images),
            images: images.samples.len(),
            classes: images.classes.into_iter().zip(counts).collect(),
            notes: images.notes,
            train,
        })
    }

    /// `412 images of 3 classes (bolt 210, nut 160, screw 42), 1024×768 in the middle`
    fn summary(&self) -> String {
        const MOST: usize = 8;
        let mut classes: Vec<String> =
            self.classes.iter().take(MOST).map(|(name, count)| format!("{} {count}", shown(name))).collect();
        if self.classes.len() > MOST {
            let counts = self.classes.iter().map(|(_, count)| *count);
            let (least, most) = (counts.clone().min().unwrap_or(0), counts.max().unwrap_or(0));
            classes = vec![format!("{least} to {most} each")];
        }
        let size = self.size.map(|(width, height)| format!(", {width}×{height} in the middle"));
        format!(
            "{} to train on, of {} ({}){}",
            counted(self.images, "image", "images"),
            counted(self.classes.len(), "class", "classes"),
            classes.join(", "),
            size.unwrap_or_default()
        )
    }
}

fn without_train(path: &Path) -> Error {
    let message =
        "holds parts of a dataset but none to train on: expected a folder such as train beside them";
    Error::file(path, message)
}

/// The size of the image in the middle, by pixels, of at most 100.
fn middle_size(images: &Dataset) -> Option<(u32, u32)> {
    let step = images.samples.len().div_ceil(100).max(1);
    let files = images.samples.iter().step_by(step).filter(|sample| sample.record.is_none());
    let mut sizes: Vec<(u32, u32)> = files.filter_map(|sample| image_size(&sample.path)).collect();
    sizes.sort_by_key(|&(width, height)| u64::from(width) * u64::from(height));
    sizes.get(sizes.len() / 2).copied()
}

/// A network for this machine, and why.
fn suited(device: DeviceChoice) -> Result<(String, &'static str)> {
    let lite = models::find("efficientnet_lite0").and_then(|it| it.entry("DEFAULT"));
    Ok(match lite {
        _ if device::choose(device)?.is_cuda() => ("resnet50".into(), "a good start on a GPU"),
        Some(entry) if installed::at_hand(entry).is_some() => {
            ("efficientnet_lite0".into(), "small and good, and its weights are here already")
        }
        _ => ("resnet18".into(), "small enough for a CPU"),
    })
}

/// `photos` → `photos.yaml`, `list.csv` → `list.yaml`, and `.` the name of the working directory.
fn recipe_name(data: &Path) -> PathBuf {
    let whole = std::path::absolute(data).unwrap_or_else(|_| data.to_path_buf());
    let whole = if whole.file_name().is_none() { whole.canonicalize().unwrap_or(whole) } else { whole };
    let name = if whole.is_dir() { whole.file_name() } else { whole.file_stem() };
    let mut name = name.unwrap_or("images".as_ref()).to_os_string();
    name.push(".yaml");
    name.into()
}

/// Never over another recipe, which somebody may have written.
fn write(out: &Path, text: &str) -> Result<()> {
    let mut file = match files::create_new(out) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let message = format!("{} exists: name another with `--out`, or remove it", path_text(out));
            return Err(Error::usage(message));
        }
        file => file.map_err(Error::io("write", out))?,
    };
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync());
    if written.is_err() {
        // Half a recipe would only stand in the way; the error to tell is the first one.
        let _ = files::remove(out);
    }
    written.map_err(Error::io("write", out))
}

fn recipe(data: &Found, out: &Path, model: &str, why: &str) -> String {
    // Relative paths of a recipe begin at its folder.
    let beside = out.parent().is_none_or(|folder| folder.as_os_str().is_empty());
    let path = |path: &Path| match beside {
        true => in_yaml(path),
        false => in_yaml(&std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())),
    };
    let mut lines = vec![
        format!("# {}.", data.summary()),
        format!("# `tl plan {}` shows what will be done and why.", shown(&path_text(out))),
        "# All keys, with their defaults: docs/recipe.md.".into(),
        String::new(),
        format!("model: {model} # {why}; `tl models` lists others"),
        String::new(),
        "data:".into(),
        format!("  train: {}", path(&data.train)),
    ];
    lines.push(match (&data.val, &data.aside) {
        (Some(val), _) => format!("  val: {} # chooses the epoch", path(val)),
        (None, Some((val, _))) if *val > 0 => {
            format!("  # {} of the file choose the epoch", counted(*val, "row", "rows"))
        }
        _ => "  val: 0.2 # a fifth, kept aside to choose the epoch".into(),
    });
    lines.push(match (&data.test, &data.aside) {
        (Some(test), _) => format!("  test: {} # measured once, at the end", path(test)),
        (None, Some((_, test))) if *test > 0 => {
            format!("  # {} of the file are measured once, at the end", counted(*test, "row", "rows"))
        }
        _ => "  # test: FOLDER # images that nothing is chosen by: measured once, at the end".into(),
    });
    lines.extend(
        [
            "",
            "strategy:",
            "  method: auto # tries what suits the size of the data and its similarity to ImageNet, keeps the best",
            "",
            "# augment:",
            "#   flip: 0 # for writing, signs, whatever has a left and a right",
            "",
            "seed: 0 # the same seed gives the same model",
        ]
        .map(String::from),
    );
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_has_the_name_that_was_typed() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("photos.v2"), folder.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(recipe_name(&real), Path::new("photos.v2.yaml"));
        assert_eq!(recipe_name(&link), Path::new("link.yaml"));
        assert_eq!(recipe_name(&real.join(".")), Path::new("photos.v2.yaml"));
        assert_eq!(recipe_name(&link.join("..").join("photos.v2/")), Path::new("photos.v2.yaml"));
        assert_eq!(recipe_name(Path::new("some/list.csv")), Path::new("list.yaml"));
        assert_eq!(recipe_name(Path::new("/")), Path::new("images.yaml"));
    }
}
