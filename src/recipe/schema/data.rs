//! The images.

use super::{Key, key};
use crate::recipe::kind::Kind::*;

pub(super) const KEYS: &[Key] = &[
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
];
