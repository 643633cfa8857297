//! Operations of policies: torchvision's `_apply_op` on Pillow images, byte for byte given the
//! magnitude, and its tables of magnitudes (`transforms/autoaugment.py`).

use super::{RgbImage, affine, color, tables};

/// torchvision's `num_magnitude_bins`: the magnitudes of `RandAugment` and `TrivialAugmentWide`.
pub(super) const BINS: u32 = 31;

/// An operation of a policy, by torchvision's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
    Invert,
}

/// The choices of `RandAugment` and `TrivialAugmentWide`, in torchvision's order.
pub(super) const CHOICES: [Operation; 14] = {
    use Operation::*;
    [
        Identity,
        ShearX,
        ShearY,
        TranslateX,
        TranslateY,
        Rotate,
        Brightness,
        Color,
        Contrast,
        Sharpness,
        Posterize,
        Solarize,
        AutoContrast,
        Equalize,
    ]
};

impl Operation {
    /// torchvision's `_apply_op`.
    pub(super) fn apply(self, image: &mut RgbImage, magnitude: f64) {
        match self {
            Operation::Identity => {}
            Operation::ShearX => *image = affine::shear_x(image, magnitude),
            Operation::ShearY => *image = affine::shear_y(image, magnitude),
            Operation::TranslateX => *image = affine::translate(image, magnitude.trunc(), 0.0),
            Operation::TranslateY => *image = affine::translate(image, 0.0, magnitude.trunc()),
            Operation::Rotate => *image = affine::rotate(image, magnitude),
            Operation::Brightness => color::brightness(image, 1.0 + magnitude),
            Operation::Color => color::saturation(image, 1.0 + magnitude),
            Operation::Contrast => color::contrast(image, 1.0 + magnitude),
            Operation::Sharpness => color::sharpness(image, 1.0 + magnitude),
            Operation::Posterize => tables::posterize(image, magnitude as u32),
            Operation::Solarize => tables::solarize(image, magnitude),
            Operation::AutoContrast => tables::autocontrast(image),
            Operation::Equalize => tables::equalize(image),
            Operation::Invert => tables::invert(image),
        }
    }

    /// Whether its magnitude may be negative too.
    pub(super) fn is_signed(self) -> bool {
        use Operation::*;
        matches!(
            self,
            ShearX | ShearY | TranslateX | TranslateY | Rotate | Brightness | Color | Contrast | Sharpness
        )
    }

    /// The `_augmentation_space` of `RandAugment` and `AutoAugment`, at one of `bins`.
    pub(super) fn magnitude(self, bin: u32, bins: u32, width: u32, height: u32) -> f64 {
        use Operation::*;
        match self {
            ShearX | ShearY => line(0.0, 0.3, bin, bins),
            TranslateX => line(0.0, 150.0 / 331.0 * f64::from(width), bin, bins),
            TranslateY => line(0.0, 150.0 / 331.0 * f64::from(height), bin, bins),
            Rotate => line(0.0, 30.0, bin, bins),
            Brightness | Color | Contrast | Sharpness => line(0.0, 0.9, bin, bins),
            Posterize => 8.0 - (f64::from(bin) / (f64::from(bins - 1) / 4.0)).round_ties_even(),
            Solarize => line(255.0, 0.0, bin, bins),
            Identity | AutoContrast | Equalize | Invert => 0.0,
        }
    }

    /// `TrivialAugmentWide._augmentation_space`, at one of [`BINS`].
    pub(super) fn wide_magnitude(self, bin: u32) -> f64 {
        use Operation::*;
        match self {
            ShearX | ShearY | Brightness | Color | Contrast | Sharpness => line(0.0, 0.99, bin, BINS),
            TranslateX | TranslateY => line(0.0, 32.0, bin, BINS),
            Rotate => line(0.0, 135.0, bin, BINS),
            Posterize => 8.0 - (f64::from(bin) / 5.0).round_ties_even(),
            Solarize => line(255.0, 0.0, bin, BINS),
            Identity | AutoContrast | Equalize | Invert => 0.0,
        }
    }
}

/// `torch.linspace(start, end, bins)[bin]`, in single precision. PyTorch's last bit depends on the
/// processor's vector width; this is `start + step * i`, counted from the nearer end.
fn line(start: f64, end: f64, bin: u32, bins: u32) -> f64 {
    let (start, end, last) = (start as f32, end as f32, bins - 1);
    let step = (end - start) / last as f32;
    let value = match bin < bins / 2 {
        true => start + step * bin as f32,
        false => end - step * last.saturating_sub(bin) as f32,
    };
    f64::from(value)
}
