//! Random changes to training images.

use super::{Key, Users, key};
use crate::recipe::kind::Kind::*;
use crate::recipe::kind::Limits;

pub(super) const KEYS: &[Key] = &[
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
];
