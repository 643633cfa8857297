//! The command line, as types only.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::device::DeviceChoice;
use crate::device::precision::Precision;
use crate::output::shard::ShardChoice;
use crate::preprocess::{Crops, Decode, Fit};

/// Transfer learning for image classification: a folder of images in, a classifier you can trust
/// out.
#[derive(Debug, Parser)]
#[command(name = "tl", version, about, max_term_width = 100)]
#[command(after_help = "Start with: tl finetune recipes/quickstart.yaml\n\
                        Exit codes: 0 done; 1 failed, or finished with images that could not be read; \
                        2 the command line or the recipe is wrong; 130 or 143 stopped by a signal.")]
pub struct Cli {
    /// The command
    #[command(subcommand)]
    pub command: Command,
    /// Options of all commands
    #[command(flatten, next_help_heading = "Options of all commands")]
    pub common: Common,
}

/// Options of every command.
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

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Learn the classes of a folder of images, as a recipe says
    Finetune(Finetune),
    /// Show what `finetune` would do, with every default resolved
    Plan(Plan),
    /// Write the features that a network computes of images
    Extract(Extract),
    /// Classify images
    Predict(Predict),
    /// List the networks
    Models(Models),
    /// Show a network layer by layer: shapes, parameters, multiply-adds
    Inspect(Inspect),
    /// Show what was found on this machine: libtorch, CUDA, cores, memory, folders
    Doctor(Doctor),
}

/// `tl finetune`
#[derive(Args, Debug)]
pub struct Finetune {
    /// The recipe, a YAML file (docs/recipe.md lists its keys)
    pub recipe: PathBuf,
    /// The run folder [default: the recipe's `out`, or runs/RECIPE]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Override a key of the recipe, as in --set train.epochs=5
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    pub sets: Vec<String>,
    /// Go on with the run in the run folder
    #[arg(long, conflicts_with = "overwrite")]
    pub resume: bool,
    /// Replace the run in the run folder
    #[arg(long)]
    pub overwrite: bool,
    /// Show the plan and stop
    #[arg(long)]
    pub dry_run: bool,
}

/// `tl plan`
#[derive(Args, Debug)]
pub struct Plan {
    /// The recipe, a YAML file (docs/recipe.md lists its keys)
    pub recipe: PathBuf,
    /// Override a key of the recipe, as in --set train.epochs=5
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    pub sets: Vec<String>,
}

/// Which weights and preprocessing.
#[derive(Args, Debug)]
pub struct Weights {
    /// torchvision's name of the weights (IMAGENET1K_V1), DEFAULT, none, or a .pth, .pt or
    /// .safetensors file [default: DEFAULT]
    #[arg(long, value_name = "W")]
    pub weights: Option<String>,
    /// Prepare images as these weights do (a name such as IMAGENET1K_V2) [default: as the weights
    /// in use]
    #[arg(long, value_name = "TAG")]
    pub preprocess: Option<String>,
    /// How an image becomes a square. crop: its centre is cut out; squash: both sides are resized;
    /// pad: the longer side is, between margins [default: as the model was trained, else crop]
    #[arg(long, value_name = "crop|squash|pad", value_parser = fit)]
    pub fit: Option<Fit>,
    /// For images of 16 bits a sample: the value that is white (4095 for cameras of 12 bits)
    /// [default: as the model was trained, else 65535]
    #[arg(long, value_name = "N", value_parser = white_level)]
    pub white_level: Option<u16>,
}

/// How images are read.
#[derive(Args, Debug)]
pub struct ImageArgs {
    /// Images, folders that are searched for them, lists of paths, which keep their order (.txt: a
    /// path a line; .csv: a column `path`, or the first; -: lines of standard input), or CIFAR and
    /// MNIST as published
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Images (in `predict`, views of images) in a batch
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = batch_size)]
    pub batch_size: usize,
    /// In what numbers the network computes: fp32, or bf16 or fp16 where that is safe (as
    /// torch.autocast has it); what is written is fp32
    #[arg(long, value_name = "P", default_value = "fp32")]
    pub precision: Precision,
    /// The most pixels that an image may have
    #[arg(long, value_name = "N", default_value_t = 178_956_970)]
    pub max_pixels: u64,
    /// exact: decode every pixel of a JPEG, as Pillow does; fast: of one that is much larger than
    /// what the network sees, a half, a quarter or an eighth along each side [default: as the model
    /// was trained, else exact]
    #[arg(long, value_name = "exact|fast", value_parser = decode)]
    pub decode: Option<Decode>,
    /// Take part I of N of the images (I from 0), and write a file such as out-00003-of-00016.csv;
    /// auto: as torchrun or Slurm says, auto/N: as an indexed Kubernetes Job of N says
    #[arg(long, value_name = "I/N|auto|auto/N")]
    pub shard: Option<ShardChoice>,
}

/// `tl extract`
#[derive(Args, Debug)]
pub struct Extract {
    /// A name that `tl models` lists, a run folder, or a model file that `tl` wrote
    #[arg(long, value_name = "MODEL")]
    pub model: String,
    /// Its weights
    #[command(flatten)]
    pub weights: Weights,
    /// The images
    #[command(flatten)]
    pub images: ImageArgs,
    /// Where to read: a stage's name, `features` (the input of the last layer) or `logits`
    #[arg(long, value_name = "NAME", default_value = "features")]
    pub stage: String,
    /// The file to write: .npy, .parquet, .safetensors or .csv
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Go on where a run that was stopped left off
    #[arg(long)]
    pub resume: bool,
}

/// `tl predict`
#[derive(Args, Debug)]
#[command(
    after_help = "With --crops, --scales or several models, the class probabilities (softmax) of all views by \
                        all models are averaged, as in AlexNet (Krizhevsky et al. 2012, 4.1) and VGG (Simonyan and \
                        Zisserman 2015, 4.2). The crops are those of torchvision's TenCrop."
)]
pub struct Predict {
    /// A name that `tl models` lists, a run folder, or a model file that `tl` wrote; given several
    /// times, the models are averaged, each with its own preprocessing
    #[arg(long = "model", value_name = "MODEL", required = true)]
    pub models: Vec<String>,
    /// Their weights; with several models, for each of them
    #[command(flatten)]
    pub weights: Weights,
    /// The images
    #[command(flatten)]
    pub images: ImageArgs,
    /// How many classes to name for each image
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = top_k)]
    pub top_k: usize,
    /// 1: the centre of each image; 10: its four corners and centre, and their mirror images,
    /// averaged
    #[arg(long, value_name = "1|10", default_value = "1", value_parser = crops)]
    pub crops: Crops,
    /// Resize the shorter side to each of these, in pixels, and average: 224,256,288. At least the
    /// model's crop size [default: the size that belongs to the weights]
    #[arg(long, value_name = "S,..", value_delimiter = ',', value_parser = side)]
    pub scales: Vec<u32>,
    /// The file to write: .csv, .jsonl or .parquet [default: a table on the terminal]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Go on where a run that was stopped left off
    #[arg(long, requires = "out")]
    pub resume: bool,
}

/// `tl models`
#[derive(Args, Debug)]
pub struct Models {
    /// Part of a name, or a pattern such as 'resnet*'
    pub filter: Option<String>,
    /// The order of the rows
    #[arg(long, value_enum, default_value_t = SortBy::Family)]
    pub sort: SortBy,
}

/// `tl inspect`
#[derive(Args, Debug)]
pub struct Inspect {
    /// A name that `tl models` lists, a run folder, or a model file that `tl` wrote
    pub model: String,
    /// The side of the input, in pixels [default: as the weights want it]
    #[arg(long, value_name = "SIDE", value_parser = side)]
    pub input: Option<u32>,
}

/// `tl doctor`
#[derive(Args, Debug)]
pub struct Doctor {
    /// Print it for programs
    #[arg(long)]
    pub json: bool,
}

/// How `tl models` is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SortBy {
    /// By family, as torchvision has them
    Family,
    /// By name
    Name,
    /// By ImageNet accuracy, best first
    Acc,
    /// By number of parameters, least first
    Params,
    /// By multiply-adds, least first
    Gflops,
}

fn threads(text: &str) -> Result<usize, String> {
    between(text, 1024)
}

fn batch_size(text: &str) -> Result<usize, String> {
    between(text, 65_536)
}

fn top_k(text: &str) -> Result<usize, String> {
    between(text, 100_000)
}

fn crops(text: &str) -> Result<Crops, &'static str> {
    text.parse()
}

fn decode(text: &str) -> Result<Decode, &'static str> {
    text.parse()
}

fn fit(text: &str) -> Result<Fit, &'static str> {
    text.parse()
}

fn white_level(text: &str) -> Result<u16, String> {
    between(text, 65_535).map(|level| level as u16)
}

fn side(text: &str) -> Result<u32, String> {
    between(text, 4096).map(|side| side as u32)
}

fn between(text: &str, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("expected a whole number from 1 to {most}")),
    }
}
