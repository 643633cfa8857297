//! What a run begins with: the network, its weights and its preprocessing.

use super::{Key, SIDE, key};
use crate::recipe::kind::Kind::*;
use crate::recipe::kind::Limits;

pub(super) const KEYS: &[Key] = &[
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
];
