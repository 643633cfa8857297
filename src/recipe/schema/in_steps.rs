//! The training loop in steps: the head that is fitted first, stages that join later, and frozen
//! stages whose output is kept.

use super::{Key, Users, key};
use crate::recipe::kind::Kind::*;
use crate::recipe::kind::{Limits, MANY};

pub(super) const KEYS: &[Key] = &[
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
];
