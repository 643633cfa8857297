//! How much of the network to retrain, and the race.

use super::{Key, Users, key};
use crate::recipe::kind::Kind::*;
use crate::recipe::kind::{Limits, MANY};
use crate::recipe::{Method, method};

pub(super) const KEYS: &[Key] = &[
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
];
