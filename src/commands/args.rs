//! Command-line options shared by several commands.

use std::path::PathBuf;

use clap::Args;

use crate::device::DeviceChoice;
use crate::device::precision::Precision;
use crate::output::shard::ShardChoice;

use crate::preprocess::{Crops, Decode, Fit, Views};

/// What every command takes.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Where to compute: auto, cpu, cuda, cuda:N
    #[arg(long, global = true, value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,
    /// CPU threads [default: as many as there are cores]
    #[arg(long, global = true, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
    /// Say nothing but results and errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// Which weights and preprocessing.
#[derive(Args, Debug)]
pub struct WeightArgs {
    /// torchvision's name of the weights (IMAGENET1K_V1), DEFAULT, none, or a .pth, .pt or .safetensors
    /// file [default: DEFAULT]
    #[arg(long, value_name = "W")]
    pub weights: Option<String>,
    /// Prepare images as these weights do (a name such as IMAGENET1K_V2) [default: as the weights in use]
    #[arg(long, value_name = "TAG")]
    pub preprocess: Option<String>,
    /// How an image becomes a square. crop: its centre is cut out; squash: both sides are resized; pad: the longer
    /// side is, between margins [default: as the model was trained, else crop]
    #[arg(long, value_name = "crop|squash|pad", value_parser = fit)]
    pub fit: Option<Fit>,
    /// For images of 16 bits a sample: the value that is white (4095 for cameras of 12 bits) [default: as the model was
    /// trained, else 65535]
    #[arg(long, value_name = "N", value_parser = white_level)]
    pub white_level: Option<u16>,
}

/// Which images, and how they are read.
#[derive(Args, Debug)]
pub struct ImageArgs {
    /// Images, folders that are searched for them, lists of paths, which keep their order (.txt: a path a line; .csv: a
    /// column `path`, or the first; -: lines of standard input), or CIFAR and MNIST as published
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// How they are read
    #[command(flatten)]
    pub read: ReadArgs,
    /// Take part I of N of the images (I from 0), and write a file such as out-00003-of-00016.csv; auto: as
    /// torchrun or Slurm says, auto/N: as an indexed Kubernetes Job of N says
    #[arg(long, value_name = "I/N|auto|auto/N")]
    pub shard: Option<ShardChoice>,
}

/// How images are read and computed.
#[derive(Args, Debug)]
pub struct ReadArgs {
    /// Images (in `predict` and `eval`, views of images) in a batch
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = batch_size)]
    pub batch_size: usize,
    /// In what numbers the network computes: fp32, or bf16 or fp16 where that is safe (as torch.autocast has
    /// it); what is written is fp32
    #[arg(long, value_name = "P", default_value = "fp32")]
    pub precision: Precision,
    /// The most pixels that an image may have
    #[arg(long, value_name = "N", default_value_t = 178_956_970)]
    pub max_pixels: u64,
    /// exact: decode every pixel of a JPEG, as Pillow does; fast: of one that is much larger than what the network
    /// sees, a half, a quarter or an eighth along each side [default: as the model was trained, else exact]
    #[arg(long, value_name = "exact|fast", value_parser = decode)]
    pub decode: Option<Decode>,
}

/// The views of an image.
#[derive(Args, Debug)]
pub struct ViewArgs {
    /// 1: the centre of each image; 10: its four corners and centre, and their mirror images, averaged
    #[arg(long, value_name = "1|10", default_value = "1", value_parser = crops)]
    pub crops: Crops,
    /// Resize the shorter side to each of these, in pixels, and average: 224,256,288. At least the model's
    /// crop size [default: the size that belongs to the weights]
    #[arg(long, value_name = "S,..", value_delimiter = ',', value_parser = side)]
    pub scales: Vec<u32>,
}

impl ViewArgs {
    /// The views.
    pub fn views(&self) -> Views {
        Views { crops: self.crops, scales: self.scales.clone() }
    }

    /// Whether there is one view of an image, at the size that belongs to the weights.
    pub fn is_one(&self) -> bool {
        self.crops == Crops::One && self.scales.is_empty()
    }
}

pub(super) fn threads(text: &str) -> Result<usize, String> {
    between(text, 1024)
}

pub(super) fn batch_size(text: &str) -> Result<usize, String> {
    between(text, 65_536)
}

pub(super) fn decode(text: &str) -> Result<Decode, &'static str> {
    text.parse()
}

pub(super) fn fit(text: &str) -> Result<Fit, &'static str> {
    text.parse()
}

pub(super) fn white_level(text: &str) -> Result<u16, String> {
    between(text, 65_535).map(|level| level as u16)
}

fn crops(text: &str) -> Result<Crops, &'static str> {
    text.parse()
}

pub(super) fn side(text: &str) -> Result<u32, String> {
    between(text, 4096).map(|side| side as u32)
}

pub(super) fn between(text: &str, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("expected a whole number from 1 to {most}")),
    }
}
