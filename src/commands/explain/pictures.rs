//! The files of `tl explain`: a picture and a map an image, and a table of them.

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use crate::data::Input;
use crate::error::{Error, Result};
use crate::inference::explain::Explanation;
use crate::output::{Done, Output, OutputProgress, npy_bytes};
use crate::preprocess::{Preprocessing, RgbImage, encode_png};
use crate::text::path_text::path_text;
use crate::util::atomic::AtomicFile;
use crate::util::digest::Hasher;
use crate::util::files;

/// Bytes of an image's own name in the names of its files, at most.
const LONGEST_STEM: usize = 80;
/// Digits of the digest of its whole path there: no two paths share 48 bits.
const DIGITS: usize = 12;

/// What is written of an image.
pub(super) struct Picture {
    class: usize,
    confidence: f32,
    /// The image as the network sees it under its map, as a PNG.
    png: Vec<u8>,
    /// The map at the same size, float32.
    npy: Vec<u8>,
}

impl Picture {
    pub(super) fn of(image: &RgbImage, explanation: &Explanation) -> Result<Picture> {
        let Explanation { class, confidence, ref map } = *explanation;
        let (width, height) = (image.width as usize, image.height as usize);
        let npy = npy_bytes(&map.resized(width, height).values, width);
        Ok(Picture { class, confidence, png: encode_png(&map.overlay(image))?, npy })
    }
}

/// The images of a batch `[N, 3, H, W]`, as they were before they were normalised: to the byte.
pub(super) fn shown(images: &Tensor, preprocessing: &Preprocessing) -> Result<Vec<RgbImage>> {
    let channel = |values: [f32; 3]| Tensor::f_from_slice(&values)?.f_reshape([1, 3, 1, 1]);
    let images = images.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
    let levels = images.f_mul(&channel(preprocessing.std)?)?.f_add(&channel(preprocessing.mean)?)?;
    let levels = levels.f_mul_scalar(255.)?.f_round()?.f_clamp(0., 255.)?.f_to_kind(Kind::Uint8)?;
    let (count, _, height, width) = levels.size4()?;
    let bytes = Vec::<u8>::try_from(levels.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_flatten(0, -1)?)?;
    let of_one = (bytes.len() / count.max(1) as usize).max(1);
    let image = |data: &[u8]| RgbImage { width: width as u32, height: height as u32, data: data.to_vec() };
    Ok(bytes.chunks_exact(of_one).map(image).collect())
}

/// The folder of pictures, and its table under construction.
pub(super) struct Pictures<'a> {
    folder: PathBuf,
    classes: &'a [String],
    index: csv::Writer<AtomicFile>,
    path: PathBuf,
    images: u64,
    failed: u64,
}

impl<'a> Pictures<'a> {
    /// Makes the folder. Files of other images in it stay.
    pub(super) fn begin(folder: &Path, index: &Path, classes: &'a [String]) -> Result<Self> {
        files::create_folders(folder).map_err(Error::io("create the folder", folder))?;
        let mut pictures = Pictures {
            folder: folder.into(),
            classes,
            index: csv::Writer::from_writer(AtomicFile::create(index)?),
            path: index.into(),
            images: 0,
            failed: 0,
        };
        pictures.row(["path", "label", "confidence", "picture", "map", "error"])?;
        Ok(pictures)
    }

    fn row(&mut self, fields: [&str; 6]) -> Result<()> {
        self.index.write_record(fields).map_err(|error| Error::io("write", &self.path)(error.into()))
    }
}

impl Output for Pictures<'_> {
    type Row = Picture;

    const STOPPED: &'static str =
        "stopped before the last image: the pictures made so far stay, without their table `index.csv`";

    fn write(&mut self, input: &Input, row: Result<Picture, String>) -> Result<()> {
        self.images += 1;
        let made = match row {
            Ok(made) => made,
            Err(error) => {
                self.failed += 1;
                return self.row([&input.name, "", "", "", "", &error]);
            }
        };
        let stem = file_stem(&input.name);
        let (picture, map) = (format!("{stem}.png"), format!("{stem}.npy"));
        AtomicFile::write(self.folder.join(&picture), &made.png)?;
        AtomicFile::write(self.folder.join(&map), &made.npy)?;
        let confidence = format!("{:?}", made.confidence);
        self.row([&input.name, &self.classes[made.class], &confidence, &picture, &map, ""])
    }

    fn finish(self, done: Done) -> Result<OutputProgress> {
        let file =
            self.index.into_inner().map_err(|error| Error::io("write", &self.path)(error.into_error()))?;
        file.commit()?;
        Ok(OutputProgress::new(done, self.images, self.failed))
    }
}

/// The name of an image's files: its own, as far as it is letters, digits, `-`, `_` and `.`, and a
/// digest of its whole path, since images in other folders may have the same name.
fn file_stem(name: &str) -> String {
    let own = Path::new(name).file_stem().unwrap_or_default();
    let safe = |letter: char| if letter.is_alphanumeric() || "-_.".contains(letter) { letter } else { '_' };
    let mut stem = String::new();
    // No hidden file, and no option of a command.
    for letter in path_text(own).trim_start_matches(['.', '-']).chars().map(safe) {
        if stem.len() + letter.len_utf8() > LONGEST_STEM {
            break;
        }
        stem.push(letter);
    }
    let mut hasher = Hasher::new();
    hasher.update(name.as_bytes());
    let digest = hasher.hex();
    format!("{stem}-{}", digest.get(..DIGITS).unwrap_or(&digest)).trim_start_matches('-').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::find;
    use crate::preprocess::Input as NetworkInput;

    #[test]
    fn names_are_safe_and_different() {
        let stem = |name| file_stem(name);
        assert_eq!(stem("photos/a/cat 1.jpg").rsplit_once('-').unwrap().0, "cat_1");
        assert_ne!(stem("photos/a/cat.jpg"), stem("photos/b/cat.jpg"));
        assert_ne!(stem("photos/cat.jpg"), stem("photos/cat.png"));
        for hostile in
            ["..", "/", "", "a/../..jpg", "-rf.png", "x\u{1b}[2J.png", "a\\..\\b.png", "\u{202e}gnp.x"]
        {
            let stem = stem(hostile);
            assert!(stem.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c)), "{stem:?}");
            assert!(!stem.starts_with(['.', '-']) && stem.len() >= DIGITS, "{stem:?}");
        }
        assert!(stem(&"ä".repeat(200)).len() <= LONGEST_STEM + DIGITS + 1);
    }

    #[test]
    fn pixels_are_recovered_from_a_batch_to_the_byte() {
        let preset = find("efficientnet_lite0").unwrap().preprocessing();
        let preset = Preprocessing { crop_size: 16, ..preset };
        let data: Vec<u8> = (0..=255).flat_map(|level| [level, 255 - level, level / 2]).collect();
        let image = RgbImage { width: 16, height: 16, data };
        let mut values = vec![0.; 3 * 256];
        preset.normalise_into(&NetworkInput::from(image.clone()), &mut values);
        let batch = Tensor::from_slice(&values).reshape([1, 3, 16, 16]);
        assert_eq!(shown(&batch, &preset).unwrap(), [image]);
    }
}
