//! The run as a whole: its last measurement, seed, device, threads and folder.

use super::{Key, key};
use crate::recipe::kind::Kind::*;

pub(super) const KEYS: &[Key] = &[
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
