//! The table of all keys of a recipe: one row, one key.
//!
//! Validation, the "did you mean" hints, `--set`, the notes on keys that a method does not use, the
//! tables of `docs/recipe.md` and `recipes/reference.yaml` are all derived from it (`make
//! reference` writes the last two, and a test compares them). A new key needs a row here, a field
//! in `sections.rs`, and code that uses it.

use super::Method;
use super::kind::MANY;
pub use super::kind::{Kind, Limits};
use super::method;

/// One key of the recipe.
#[derive(Debug)]
pub struct Key {
    /// The full path of the key, with dots: `train.epochs`.
    pub path: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// Its default, as worded in the reference.
    pub default: &'static str,
    /// Its meaning, as worded in the reference.
    pub meaning: &'static str,
    /// A YAML value for the annotated recipe; empty for a section.
    pub example: &'static str,
    /// The remark after the example; may be empty.
    pub remark: &'static str,
    /// Whether the example is commented out, because it would exclude another key.
    pub commented: bool,
    /// The methods that use it.
    pub users: Users,
    /// Names of this key in other tools; they get a hint, and are not accepted.
    pub(super) also: &'static [&'static str],
}

/// The methods that use a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Users {
    /// All of them.
    All,
    /// Those with a training loop.
    FineTuning,
    /// These; `auto` and `race` stand for themselves, whatever they choose.
    These(&'static [Method]),
}

impl Users {
    /// Whether `method` uses the key, or `asked`, what the recipe names.
    pub fn include(self, method: Method, asked: Method) -> bool {
        match self {
            Users::All => true,
            Users::FineTuning => method.is_by_gradient(),
            Users::These(methods) => methods.contains(&method) || methods.contains(&asked),
        }
    }
}

impl Key {
    /// The last part of the path: `epochs` of `train.epochs`.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// The path of the key's section; empty at the top.
    pub fn section(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(section, _)| section)
    }

    const fn example(mut self, example: &'static str, remark: &'static str) -> Self {
        (self.example, self.remark) = (example, remark);
        self
    }

    const fn hint(mut self, example: &'static str, remark: &'static str) -> Self {
        self.commented = true;
        self.example(example, remark)
    }

    const fn only(mut self, users: Users) -> Self {
        self.users = users;
        self
    }

    const fn also(mut self, also: &'static [&'static str]) -> Self {
        self.also = also;
        self
    }
}

/// The row of a path, if the key exists.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The keys directly in a section (`""`: at the top of the recipe).
pub(super) fn keys_of(section: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.section() == section)
}

const fn key(path: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Key {
    Key {
        path,
        kind,
        default,
        meaning,
        example: "",
        remark: "",
        commented: false,
        users: Users::All,
        also: &[],
    }
}

use Kind::*;

/// Image sides in pixels: the maximum is ten times the input of any published network.
const SIDE: Kind = Whole(1, 4096);

/// Every key, in the order of the reference.
pub const KEYS: &[Key] = &[
    key(
        "model",
        Name,
        "required",
        "The network to start from: a known name (`tl models` lists them), a run folder, or a \
            `.safetensors` file that `tl` wrote. A known name wins over a file of the same name.",
    )
    .example("shufflenet_v2_x0_5", "`tl models` lists the names; or a run folder, or a model file that tl wrote")
    .also(&["arch", "architecture", "network", "backbone"]),
    key(
        "weights",
        Name,
        "`DEFAULT`",
        "The weights to start from: a torchvision enum name (`IMAGENET1K_V2`, or with the class before \
            it: `ResNet50_Weights.IMAGENET1K_V2`), `DEFAULT` (the model's best entry), `none` (random), \
            or a `.pth`, `.pt` or `.safetensors` file.",
    )
    .example("../data/shufflenet_v2_x0_5-letters.safetensors", "an enum name such as IMAGENET1K_V1, DEFAULT, none, or a file")
    .also(&["pretrained", "checkpoint"]),
    key(
        "preprocess",
        NameOrSection,
        "what belongs to the weights",
        "How an image becomes the network's input: the name of the weights entry whose preprocessing to \
            take, or a section that changes parts of what belongs to the weights.",
    )
    .example("", "what belongs to the weights, unless it is changed here; or the name of a weights entry")
    .also(&["preprocessing", "transforms"]),
    key(
        "preprocess.resize_size",
        SIDE,
        "what belongs to the weights",
        "The shorter side after resizing, in pixels. With `crop_size` left out, that follows it.",
    )
    .example("64", "the shorter side after resizing")
    .also(&["resize"]),
    key(
        "preprocess.crop_size",
        SIDE,
        "what belongs to the weights",
        "The side of the square that the network sees, in pixels. With `resize_size` left out, that \
            follows it.",
    )
    .example("64", "the square that the network sees")
    .also(&["size", "image_size", "crop"]),
    key(
        "preprocess.interpolation",
        Choice(&["bilinear", "bicubic"]),
        "what belongs to the weights",
        "The resizing filter, as Pillow defines it.",
    )
    .example("bilinear", "bilinear | bicubic"),
    key(
        "preprocess.mean",
        Numbers(3, Limits::Any),
        "what belongs to the weights",
        "Subtracted from red, green and blue after scaling to [0, 1].",
    )
    .example("[0.485, 0.456, 0.406]", ""),
    key(
        "preprocess.std",
        Numbers(3, Limits::Positive),
        "what belongs to the weights",
        "Red, green and blue are divided by these after the mean is subtracted.",
    )
    .example("[0.229, 0.224, 0.225]", ""),
    key(
        "preprocess.fit",
        Choice(&["crop", "squash", "pad"]),
        "`crop`, or what the model file says",
        "What becomes of an image that is no square: `crop` resizes the shorter side to `resize_size` and cuts out the \
            centre; `squash` resizes both sides to `crop_size`; `pad` resizes the longer side to `crop_size` and the \
            other in proportion, and fills up with `pad_color` (see below).",
    )
    .example("crop", "crop | squash | pad: what becomes of an image that is no square")
    .also(&["resize_mode", "crop_mode", "letterbox", "pad", "squash", "squish", "keep_ratio", "aspect_ratio"]),
    key(
        "preprocess.pad_color",
        Color,
        "`mean`, times 255 and rounded",
        "For `pad`: the colour of the margins.",
    )
    .hint("[124, 116, 104]", "for pad: the margins")
    .also(&["fill", "fill_color", "padding_color", "background"]),
    key(
        "preprocess.white_level",
        Whole(1, 65535),
        "65535, or what the model file says",
        "For images of 16 bits a sample: the value that is white, as all above it are. 4095 for cameras of 12 bits.",
    )
    .hint("4095", "for images of 16 bits a sample: the value that is white")
    .also(&["max_value", "bit_depth", "bits", "white", "maxval", "window"]),
    key("data", Section, "required", "The images.")
    .example("", "").also(&["dataset"]),
    key(
        "data.train",
        Path,
        "required",
        "The training images: a folder with one sub-folder per class, a `.csv` of `path,label`, or CIFAR or MNIST \
            as published.",
    )
    .example("../data/digits/train", "a folder of class folders, a .csv of path,label, or CIFAR or MNIST as published"),
    key(
        "data.val",
        FractionOrPath,
        "`0.2`, or the rows of `data.train` that are for it",
        "What training is judged by: a fraction of `data.train`, drawn per class with the seed, or a \
            folder or `.csv` of its own.",
    )
    .example("0.2", "a fraction of train, a folder or a .csv")
    .also(&["validation", "valid", "val_split"]),
    key(
        "data.test",
        Path,
        "none, or the test part of `data.train`",
        "A folder or `.csv` that is never looked at until the end, then measured once.",
    )
    .example("../data/digits/test", "measured once, at the end"),
    key(
        "data.bad_images",
        Choice(&["skip", "fail"]),
        "`skip`",
        "What to do about images that cannot be read: go on without them, list and count them (`skip`), \
            or stop before training (`fail`).",
    )
    .example("skip", "skip | fail"),
    key(
        "data.max_pixels",
        Whole(1, u32::MAX as u64),
        "`178956970`",
        "An image of more pixels than this counts as one that cannot be read; the size is checked before \
            decoding. The default is Pillow's limit.",
    )
    .example("178956970", "larger images count as unreadable"),
    key(
        "data.decode",
        Choice(&["exact", "fast"]),
        "`exact`",
        "How much of a JPEG is decoded: every pixel, as Pillow does, or, where it is much larger than what the \
            network sees, a half, a quarter or an eighth along each side ([decoding.md](decoding.md)).",
    )
    .example("exact", "exact | fast: decode large JPEGs at a smaller size"),
    key("strategy", Section, "all `auto`", "How much of the network to retrain.")
    .example("", ""),
    key(
        "strategy.size",
        Choice(&["auto", "little", "lots"]),
        "`auto`",
        "How much data there is; `auto` looks at the number of images.",
    )
    .example("auto", "auto | little | lots: for auto")
    .only(Users::These(&[Method::Auto])),
    key(
        "strategy.similarity",
        Choice(&["auto", "similar", "different"]),
        "`auto`",
        "How similar the images are to those that the weights were trained on; `auto` measures.",
    )
    .example("auto", "auto | similar | different: for auto")
    .only(Users::These(&[Method::Auto])),
    key(
        "strategy.method",
        Choice(&method::NAMES),
        "`auto`",
        "What to do: `linear` fits a linear classifier on the top features; `stages` on features of \
            different stages; `partial` fine-tunes the last stages; `full` fine-tunes all; `scratch` \
            trains all from random weights; `auto` chooses by size and similarity; `race` measures \
            several of them and takes the best.",
    )
    .example("partial", "auto (the default) | linear | stages | partial | full | scratch | race"),
    key(
        "strategy.little_below",
        Whole(1, MANY),
        "`20`",
        "For `auto`: fewer training images a class than this, by the median over the classes, are `little`.",
    )
    .example("20", "fewer images a class are little")
    .only(Users::These(&[Method::Auto])),
    key(
        "strategy.similar_below",
        Number(Limits::Positive),
        "`0.03`",
        "For `auto`, networks with BatchNorm: a distance of the activations' statistics from the source's \
            below this is `similar`.",
    )
    .example("0.03", "a smaller distance of BatchNorm's statistics is similar")
    .only(Users::These(&[Method::Auto])),
    key(
        "strategy.similar_above",
        Number(Limits::UpToOne),
        "`0.75`",
        "For `auto`, networks without BatchNorm: images of which the source's classifier tells more than this \
            share are `similar`.",
    )
    .example("0.75", "the same for networks without BatchNorm: a greater share of information")
    .only(Users::These(&[Method::Auto])),
    key(
        "strategy.rival",
        Bool,
        "`true`",
        "For `auto`: fit heads and fine-tune, and let the validation images say what each counts, because no measurement \
            beforehand tells which is better. Fine-tuning is left out where the heads leave nothing to gain.",
    )
    .example("true", "for auto: the table's choice beside another method, and the better is kept")
    .only(Users::These(&[Method::Auto])),
    key(
        "strategy.average",
        Bool,
        "`true`",
        "Average instead of choosing: the heads of `stages`, with the weights that explain held-out training images best; and \
            for `auto` heads and fine-tuning, with those that explain the validation images best.",
    )
    .example("true", "for stages and auto: average instead of choosing")
    .only(Users::These(&[Method::Auto, Method::Stages])),
    key(
        "strategy.train_from",
        Name,
        "by model",
        "For `partial`: the name of the first stage that is trained; the stages before it stay as they are.",
    )
    .example("stage4", "for partial: the first stage that is trained")
    .only(Users::These(&[Method::Partial]))
    .also(&["freeze", "unfreeze", "freeze_until"]),
    key(
        "strategy.read",
        Names,
        "the ends of the groups of stages, six at most, and `features`",
        "For `stages`: whose features are compared, each alone and all together.",
    )
    .example("[stage2, stage3, features]", "for stages: whose features are compared")
    .only(Users::These(&[Method::Stages])),
    key(
        "strategy.compare_on",
        Whole(2, MANY),
        "all; `20` where `auto` tries it beside `full`",
        "For `stages`: so many training images of each class compare the stages and choose `c`; the head that is kept \
            is fitted to all.",
    )
    .example("40", "for stages: images of each class that compare them; all by default")
    .only(Users::These(&[Method::Stages])),
    key("strategy.race", Section, "see below", "For `race`: what is measured, and how.")
    .example("", "for race"),
    key(
        "strategy.race.methods",
        Choices(&["linear", "stages", "partial", "full", "scratch"]),
        "`[linear, stages, partial, full]`",
        "The methods that are measured against each other, two at least.",
    )
    .example("[linear, stages, partial, full]", "")
    .only(Users::These(&[Method::Race])),
    key(
        "strategy.race.folds",
        Whole(2, 100),
        "`3`",
        "Into how many folds the training images are cut; each method is measured on each fold after learning \
            from the others.",
    )
    .example("3", "")
    .only(Users::These(&[Method::Race])),
    key(
        "strategy.race.epochs",
        Whole(1, MANY),
        "`5`, and more where that is fewer than 100 steps",
        "How often each image is seen in the race by the methods with a training loop, all the same; no more \
            than any of them has in full. `linear` and `stages` need one pass.",
    )
    .example("5", "")
    .only(Users::These(&[Method::Race])),
    key("train", Section, "by method", "The training loop.")
    .example("", ""),
    key(
        "train.epochs",
        Whole(1, MANY),
        "by method and number of images: `linear` and `stages` need none; `partial` and `full` 200 over its root, 8 at least; `scratch` 60 and fewer for many",
        "How often each training image is seen.",
    )
    .example("15", "by method and size")
    .only(Users::FineTuning)
    .also(&["num_epochs", "n_epochs", "max_epochs"]),
    key("train.batch_size", Whole(1, 65_536), "`32`; `16` where an epoch would have fewer than 40 steps", "Images per step.")
    .example("32", "").also(&["batch", "bs"]),
    key(
        "train.micro_batch",
        Whole(1, 65_536),
        "all of a batch",
        "The most images that go through the network at once in a step, for a GPU of little memory: the gradients of \
            the parts of a batch are added up, and training is the same to rounding, unless BatchNorm normalises by \
            batches (`batch_norm: train`). Where memory runs out, it is halved by itself, and told.",
    )
    .hint("8", "images through the network at once; all of a batch by default")
    .only(Users::FineTuning)
    .also(&["accumulate", "grad_accum", "gradient_accumulation", "accumulation_steps", "microbatch"]),
    key(
        "train.precision",
        Choice(&["fp32", "bf16", "fp16"]),
        "`fp32`",
        "In what numbers a step computes where that is safe, as `torch.autocast` has it: `bf16`, or `fp16` with \
            loss scaling as in `torch.amp.GradScaler`. Weights stay in fp32, and all that is measured or kept is \
            computed in fp32.",
    )
    .example("fp32", "fp32 | bf16 | fp16")
    .only(Users::FineTuning)
    .also(&["amp", "mixed_precision", "dtype", "autocast"]),
    key("train.optimizer", Choice(&["sgd", "adamw"]), "`sgd`", "The optimizer, as PyTorch defines it.")
    .example("sgd", "sgd | adamw")
    .only(Users::FineTuning)
        .also(&["optim"]),
    key(
        "train.lr",
        Number(Limits::Positive),
        "by method: `partial` and `full` 0.01, with BatchNorm 0.02 with lots of data and 0.06 from weights that `tl` trained from random ones; `scratch` 0.02; with `adamw` a hundredth of that",
        "The peak learning rate of everything but the head; with `layer_decay` that of the last stages.",
    )
    .example("0.01", "")
    .only(Users::FineTuning)
    .also(&["learning_rate"]),
    key(
        "train.head_lr",
        Number(Limits::Positive),
        "the same as `lr`; for `partial` and `full` with a new head 10 × `lr`",
        "The peak learning rate of the head.",
    )
    .example("0.01", "")
    .only(Users::FineTuning)
    .also(&["head_learning_rate", "lr_head"]),
    key("train.momentum", Number(Limits::BelowOne), "`0.9`", "For `sgd`.")
    .example("0.9", "")
    .only(Users::FineTuning),
    key("train.nesterov", Bool, "`false`", "For `sgd`: Nesterov's form of momentum.")
    .example("false", "")
    .only(Users::FineTuning),
    key(
        "train.weight_decay",
        Number(Limits::FromZero),
        "by optimizer: `sgd` 0.0005, `adamw` 0.01",
        "L2 strength for `sgd`, decoupled decay for `adamw`, as in PyTorch.",
    )
    .example("0.0005", "")
    .only(Users::FineTuning)
    .also(&["wd", "l2"]),
    key(
        "train.decay_norm_and_bias",
        Bool,
        "`false`",
        "Whether weight decay applies to normalisation layers and biases too.",
    )
    .example("false", "")
    .only(Users::FineTuning),
    key(
        "train.schedule",
        Choice(&["constant", "step", "cosine", "plateau"]),
        "`cosine`",
        "The learning rate after the warm-up: `constant`; `step` multiplies it by `gamma` every \
            `step_epochs`; `cosine` falls to 0 at the end; `plateau` multiplies it by `gamma` when \
            `val_accuracy` has not risen for more than `patience` epochs, as in PyTorch.",
    )
    .example("cosine", "constant | step | cosine | plateau")
    .only(Users::FineTuning)
    .also(&["scheduler", "lr_schedule", "lr_scheduler"]),
    key(
        "train.warmup_epochs",
        Whole(0, MANY),
        "by method: `partial` and `full` 1, `scratch` 3; a quarter of `epochs` at most",
        "Epochs over which the learning rate rises linearly to its peak.",
    )
    .example("1", "")
    .only(Users::FineTuning)
    .also(&["warmup"]),
    key(
        "train.step_epochs",
        Whole(1, MANY),
        "a third of `epochs`, rounded up",
        "For `step`: epochs between two cuts.",
    )
    .example("5", "for step")
    .only(Users::FineTuning)
    .also(&["step_size", "step"]),
    key("train.gamma", Number(Limits::Inside), "`0.1`", "For `step` and `plateau`: the factor of a cut.")
    .example("0.1", "for step and plateau")
    .only(Users::FineTuning)
        .also(&["factor"]),
    key(
        "train.patience",
        Whole(1, MANY),
        "`5`",
        "For `plateau`: so many epochs without a better `val_accuracy` are waited for.",
    )
    .example("5", "for plateau")
    .only(Users::FineTuning),
    key(
        "train.label_smoothing",
        Number(Limits::BelowOne),
        "`0`",
        "The share of each target that is spread evenly over all classes.",
    )
    .example("0", "")
    .only(Users::FineTuning),
    key(
        "train.aux_weight",
        Number(Limits::FromZero),
        "by model: `googlenet` 0.3, `inception_v3` 0.4",
        "What the loss of each auxiliary classifier counts beside the main one; 0 trains without them. They \
            are dropped after training.",
    )
    .hint("0.3", "for GoogLeNet and Inception v3: what their auxiliary classifiers count")
    .only(Users::FineTuning)
    .also(&["aux_loss_weight", "auxiliary_weight"]),
    key(
        "train.class_weights",
        Choice(&["none", "balanced"]),
        "`none`",
        "`balanced` weights each class by images / (classes × images of the class), for unequal classes.",
    )
    .example("none", "none | balanced"),
    key(
        "train.clip_grad_norm",
        Number(Limits::Positive),
        "no clipping; 1 where the head comes fitted or trained",
        "The largest norm that the gradient of a step may have; a larger one is scaled down.",
    )
    .example("1", "")
    .only(Users::FineTuning)
    .also(&["grad_clip", "clip", "max_grad_norm"]),
    key(
        "train.early_stopping",
        Whole(1, MANY),
        "never",
        "Stop after this many epochs without a better `val_accuracy`; terminal and report say so.",
    )
    .example("5", "epochs without improvement; never by default")
    .only(Users::FineTuning),
    key(
        "train.batch_norm",
        Choice(&["train", "inference"]),
        "by method: `partial` and `full` `inference`, `scratch` `train`",
        "Whether BatchNorm in the trained stages uses and updates batch statistics (`train`) or keeps \
            those of the weights (`inference`). Frozen stages always keep theirs.",
    )
    .example("inference", "train | inference: in the stages that are trained")
    .only(Users::FineTuning),
    key(
        "train.mixup",
        Number(Limits::FromZero),
        "`0`: none",
        "Mixup's alpha: each batch is blended with itself, moved on by one image; the weight of an image is drawn \
            from Beta(alpha, alpha). With `cutmix` too, a coin decides for each batch.",
    )
    .example("0", "alpha, such as 0.2")
    .only(Users::FineTuning)
    .also(&["mixup_alpha"]),
    key(
        "train.cutmix",
        Number(Limits::FromZero),
        "`0`: none",
        "CutMix's alpha: a rectangle of each image is that of the image before it in the batch; the share of the \
            rest is drawn from Beta(alpha, alpha).",
    )
    .example("0", "alpha, such as 1")
    .only(Users::FineTuning)
    .also(&["cutmix_alpha"]),
    key(
        "train.ema",
        Number(Limits::Inside),
        "no average",
        "Keep and measure an exponential moving average of the weights: the share of the average that stays \
            at each step, such as 0.99. During the warm-up it follows the weights.",
    )
    .example("0.99", "an average of the weights; none by default")
    .only(Users::FineTuning)
    .also(&["model_ema", "ema_decay", "model_ema_decay"]),
    key(
        "train.linear_head_first",
        Bool,
        "by method: `partial` `true`, `full` `true` unless `batch_norm: train`; `false` where `model` has the same classes",
        "Fit the head to the features of the weights, as `linear` does, before the first epoch, and fine-tune \
            from there. `false` begins with the rows that the head of a model of `tl`'s has for classes of the same names, and \
            new ones for the others. `scratch` has no use for it.",
    )
    .example("true", "fit the head before the first epoch")
    .only(Users::FineTuning)
    .also(&["lp_ft", "linear_probe"]),
    key(
        "train.layer_decay",
        Number(Limits::UpToOne),
        "`1`",
        "The last group of stages is trained at `lr`, each group before it at this share of the rate of the \
            one behind it.",
    )
    .example("1", "each group of stages at this share of the rate of the one behind it")
    .only(Users::FineTuning)
    .also(&["layerwise_decay", "layer_wise_decay", "llrd"]),
    key(
        "train.unfreeze_epochs",
        Whole(0, MANY),
        "`0`",
        "Begin with the head (with the last group of stages too, if the head comes fitted), and train one \
            more group after every so many epochs; 0 trains all from the start.",
    )
    .example("0", "one more group after so many epochs")
    .only(Users::FineTuning)
    .also(&["gradual_unfreezing"]),
    key(
        "train.keep",
        Choice(&["auto", "never"]),
        "`auto`",
        "For `partial`: compute the output of the frozen stages once for each image and keep it (`auto`), \
            where it is the same in every epoch and there is room for it, or compute it in every epoch (`never`).",
    )
    .example("auto", "auto | never: the frozen stages' output")
    .only(Users::FineTuning)
    .also(&["cache"]),
    key(
        "train.keep_memory",
        Whole(0, MANY),
        "`1024`",
        "For `keep`: how much is kept in memory, in MiB; what is more goes to a file.",
    )
    .example("1024", "MiB")
    .only(Users::FineTuning),
    key(
        "train.keep_disk",
        Whole(0, MANY),
        "`16384`",
        "For `keep`: the largest that this file may become, in MiB. It lies in the run folder while the run \
            lasts, without a name.",
    )
    .example("16384", "MiB")
    .only(Users::FineTuning),
    key(
        "train.kept_views",
        Whole(0, MANY),
        "`0`",
        "For `partial` with augmentation: draw only so many views of each training image, so that the frozen \
            stages' output can be kept; epoch after epoch takes the next. 0 draws new ones in every epoch.",
    )
    .example("0", "augmented views of each image that are kept")
    .only(Users::FineTuning),
    key(
        "train.c",
        Number(Limits::Positive),
        "chosen by cross-validation",
        "For `linear` and `linear_head_first`: the inverse L2 strength, scikit-learn's `C`; given, nothing is \
            searched.",
    )
    .hint("1", "the inverse L2 strength of a fitted head; cross-validated by default")
    .also(&["C"]),
    key(
        "train.folds",
        Whole(2, 100),
        "`5`",
        "For `linear` and `linear_head_first`: the folds of the cross-validation that chooses `c`.",
    )
    .example("5", "of that cross-validation"),
    key(
        "augment",
        Section,
        "by method",
        "Random changes to training images. `linear` uses none: it computes each image's features once.",
    )
    .example("", "")
    .also(&["augmentation"]),
    key(
        "augment.random_resized_crop",
        Bool,
        "`true`",
        "Train on a random part of each image, resized; otherwise on the same crop as at prediction.",
    )
    .example("true", "")
    .only(Users::FineTuning),
    key(
        "augment.scale",
        Range(Limits::UpToOne),
        "`[0.08, 1]`",
        "For the random crop: the least and the largest share of the image's area.",
    )
    .example("[0.08, 1]", "")
    .only(Users::FineTuning),
    key(
        "augment.ratio",
        Range(Limits::Positive),
        "`[0.75, 1.3333333333333333]`",
        "For the random crop: the least and the largest width / height.",
    )
    .example("[0.75, 1.3333333333333333]", "")
    .only(Users::FineTuning),
    key(
        "augment.scale_jitter",
        WholeRange(1, 4096),
        "none",
        "VGG's scale jitter, instead of the random crop: the shorter side is resized to a random number of pixels \
            from the first to the second, then a square of `crop_size` is cut out at random.",
    )
    .hint("[256, 512]", "VGG's, instead of random_resized_crop")
    .only(Users::FineTuning),
    key("augment.flip", Number(Limits::ZeroToOne), "`0.5`", "The probability of a horizontal flip.")
    .example("0.5", "")
    .only(Users::FineTuning)
        .also(&["horizontal_flip", "hflip"]),
    key("augment.vertical_flip", Number(Limits::ZeroToOne), "`0`", "The probability of a vertical flip.")
    .example("0", "")
    .only(Users::FineTuning)
        .also(&["vflip"]),
    key(
        "augment.policy",
        Choice(&["none", "autoaugment", "randaugment", "trivialaugment"]),
        "`none`",
        "Random operations on the crop, as in torchvision: pairs learned on ImageNet (`autoaugment`), `num_ops` of \
            one `magnitude` (`randaugment`), or one of any magnitude (`trivialaugment`).",
    )
    .example("none", "none | autoaugment | randaugment | trivialaugment")
    .only(Users::FineTuning)
    .also(&["auto_augment", "autoaugment", "randaugment", "trivialaugment", "ra", "ta_wide"]),
    key("augment.num_ops", Whole(1, 16), "`2`", "For `randaugment`: operations in a row.")
    .example("2", "for randaugment")
    .only(Users::FineTuning),
    key("augment.magnitude", Whole(0, 30), "`9`", "For `randaugment`: the strength of the operations.")
    .example("9", "for randaugment")
    .only(Users::FineTuning)
        .also(&["ra_magnitude"]),
    key(
        "augment.color_jitter",
        Section,
        "none",
        "Random changes of colour, in random order, as in torchvision's `ColorJitter`.",
    )
    .example("", "")
    .only(Users::FineTuning)
    .also(&["colour_jitter", "jitter"]),
    key(
        "augment.color_jitter.brightness",
        Number(Limits::FromZero),
        "`0`",
        "The factor is drawn from 1 - x (0 at least) to 1 + x.",
    )
    .example("0", "")
    .only(Users::FineTuning),
    key("augment.color_jitter.contrast", Number(Limits::FromZero), "`0`", "As for `brightness`.")
    .example("0", "")
    .only(Users::FineTuning),
    key("augment.color_jitter.saturation", Number(Limits::FromZero), "`0`", "As for `brightness`.")
    .example("0", "")
    .only(Users::FineTuning),
    key(
        "augment.color_jitter.hue",
        Number(Limits::ZeroToHalf),
        "`0`",
        "The hue turns by -x to x of the colour circle.",
    )
    .example("0", "")
    .only(Users::FineTuning),
    key(
        "augment.pca_color",
        Number(Limits::FromZero),
        "`0`",
        "AlexNet's shift along the principal components of ImageNet's colours: the deviation of its three random \
            numbers, in the paper 0.1.",
    )
    .example("0", "AlexNet's is 0.1")
    .only(Users::FineTuning)
    .also(&["pca_colour", "lighting", "pca"]),
    key(
        "eval",
        Section,
        "the plain crop alone",
        "How the kept model is measured once more at the end, on `val` and `test`: with the class \
            probabilities of several views of each image averaged. The report has these figures beside the \
            plain ones; the best epoch is chosen by the plain ones.",
    )
    .example("", "a second measurement at the end, averaged over views")
    .also(&["evaluation", "tta"]),
    key(
        "eval.crops",
        WholeOf(&[1, 10]),
        "`1`",
        "1: the centre of each image; 10: its four corners and centre, and their mirror images.",
    )
    .example("10", "1 | 10")
    .also(&["ten_crop", "tencrop"]),
    key(
        "eval.scales",
        Wholes(1, 4096),
        "`resize_size` of the preprocessing",
        "The shorter sides that each image is resized to, in pixels: `[224, 256, 288]`. None may be less \
            than `crop_size`.",
    )
    .example("[64, 72]", "")
    .also(&["scale"]),
    key("seed", Whole(0, u64::MAX), "`0`", "Where all randomness comes from: equal seeds give equal runs.")
    .example("0", "")
        .also(&["random_seed", "manual_seed"]),
    key(
        "device",
        Device,
        "`auto`",
        "Where to compute; `auto` takes the first GPU if there is one. `--device` wins over it.",
    )
    .example("auto", "auto | cpu | cuda | cuda:N")
    .also(&["gpu"]),
    key("threads", Whole(1, 1024), "all cores", "CPU threads. `--threads` wins over it.")
    .example("4", "all cores by default")
        .also(&["workers", "num_workers"]),
    key(
        "out",
        Path,
        "`runs/` and the recipe's file name without its ending",
        "The run folder, relative to the working directory, unlike the other paths. `--out` wins over it.",
    )
    .example("runs/reference", "relative to the working directory")
    .also(&["output", "output_dir", "out_dir"]),
];
