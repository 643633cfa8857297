//! The training loop: its length, rates, loss and averages.

use super::{Key, Users, key};
use crate::recipe::kind::Kind::*;
use crate::recipe::kind::{Limits, MANY};

pub(super) const KEYS: &[Key] = &[
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
        "Stop after this many epochs without one that is better by `monitor`; terminal and report say so.",
    )
    .example("5", "epochs without improvement; never by default")
    .only(Users::FineTuning),
    key(
        "train.monitor",
        Choice(&["accuracy", "balanced_accuracy", "macro_f1", "loss"]),
        "`accuracy`",
        "The figure on the validation images by which an epoch is kept, and by which `early_stopping` waits. \
            `balanced_accuracy` is the mean recall of the classes and `macro_f1` their mean F1: for classes of unequal \
            size that matter alike. Of equals the lowest `val_loss` is kept.",
    )
    .example("accuracy", "accuracy | balanced_accuracy | macro_f1 | loss: what the kept epoch is best by")
    .only(Users::FineTuning)
    .also(&["metric", "monitored", "best_by"]),
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
        "train.tensorboard",
        Bool,
        "`false`",
        "Write TensorBoard's event file beside `metrics.jsonl`: `tensorboard --logdir runs` shows the runs. It changes \
            nothing else, and a run may go on with or without it.",
    )
    .example("true", "for `tensorboard --logdir runs`")
    .also(&["tb", "log_dir", "logdir"]),
];
