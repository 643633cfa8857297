//! torchvision's `AutoAugment` for ImageNet, `RandAugment` and `TrivialAugmentWide`
//! (`transforms/autoaugment.py`) on Pillow images: nearest neighbour and black outside, its
//! defaults.

use serde::{Deserialize, Serialize};

use super::RgbImage;
use super::draws::Draws;
use super::operation::{BINS, CHOICES, Operation};

/// Random operations on whole images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
pub enum Policy {
    /// One of 25 pairs of operations learned on ImageNet (Cubuk et al. 2019).
    AutoAugment,
    /// A number of random operations, all of one magnitude (Cubuk et al. 2020).
    RandAugment {
        /// Operations in a row, from 1 up.
        num_ops: u32,
        /// Their strength, 0 to 30.
        magnitude: u32,
    },
    /// One random operation of a random magnitude, from wider ranges (Müller and Hutter 2021).
    TrivialAugment,
}

impl Policy {
    /// Operations in a row at most.
    pub const MAX_OPS: u32 = 16;
    /// The greatest magnitude.
    pub const MAX_MAGNITUDE: u32 = BINS - 1;

    /// The error in the settings, if any.
    pub(super) fn mistake(&self) -> Option<String> {
        let Policy::RandAugment { num_ops, magnitude } = *self else { return None };
        if !(1..=Policy::MAX_OPS).contains(&num_ops) {
            return Some(format!("num_ops: expected 1 to {}, found {num_ops}", Policy::MAX_OPS));
        }
        (magnitude > Policy::MAX_MAGNITUDE)
            .then(|| format!("magnitude: expected 0 to {}, found {magnitude}", Policy::MAX_MAGNITUDE))
    }

    /// Changes `image` at random.
    pub(super) fn apply(&self, image: &mut RgbImage, draws: &mut Draws) {
        for (operation, magnitude) in self.draw(image.width, image.height, draws) {
            operation.apply(image, magnitude);
        }
    }

    /// Operations with their magnitudes, for an image of this size.
    pub(super) fn draw(&self, width: u32, height: u32, draws: &mut Draws) -> Vec<(Operation, f64)> {
        let signed = |operation: Operation, magnitude: f64, draws: &mut Draws| {
            let minus = operation.is_signed() && draws.integer(1) == 1;
            (operation, if minus { -magnitude } else { magnitude })
        };
        let any = |draws: &mut Draws| CHOICES[draws.integer(CHOICES.len() as u64 - 1) as usize];
        match *self {
            Policy::AutoAugment => {
                let pair = PAIRS[draws.integer(PAIRS.len() as u64 - 1) as usize];
                let mut drawn = Vec::new();
                for (operation, tenths, bin) in pair {
                    if draws.unit() < f64::from(tenths) / 10.0 {
                        let magnitude = operation.magnitude(bin, PAIR_BINS, width, height);
                        drawn.push(signed(operation, magnitude, draws));
                    }
                }
                drawn
            }
            Policy::RandAugment { num_ops, magnitude } => (0..num_ops)
                .map(|_| {
                    let operation = any(draws);
                    signed(operation, operation.magnitude(magnitude, BINS, width, height), draws)
                })
                .collect(),
            Policy::TrivialAugment => {
                let operation = any(draws);
                let magnitude = operation.wide_magnitude(draws.integer(u64::from(BINS) - 1) as u32);
                vec![signed(operation, magnitude, draws)]
            }
        }
    }
}

/// The number of magnitudes in [`PAIRS`].
pub(super) const PAIR_BINS: u32 = 10;

/// `AutoAugmentPolicy.IMAGENET`: operation, probability in tenths, magnitude (0 where there is
/// none).
#[rustfmt::skip]
pub(super) const PAIRS: [[(Operation, u8, u32); 2]; 25] = {
    use Operation::*;
    [
        [(Posterize, 4, 8), (Rotate, 6, 9)],
        [(Solarize, 6, 5), (AutoContrast, 6, 0)],
        [(Equalize, 8, 0), (Equalize, 6, 0)],
        [(Posterize, 6, 7), (Posterize, 6, 6)],
        [(Equalize, 4, 0), (Solarize, 2, 4)],
        [(Equalize, 4, 0), (Rotate, 8, 8)],
        [(Solarize, 6, 3), (Equalize, 6, 0)],
        [(Posterize, 8, 5), (Equalize, 10, 0)],
        [(Rotate, 2, 3), (Solarize, 6, 8)],
        [(Equalize, 6, 0), (Posterize, 4, 6)],
        [(Rotate, 8, 8), (Color, 4, 0)],
        [(Rotate, 4, 9), (Equalize, 6, 0)],
        [(Equalize, 0, 0), (Equalize, 8, 0)],
        [(Invert, 6, 0), (Equalize, 10, 0)],
        [(Color, 6, 4), (Contrast, 10, 8)],
        [(Rotate, 8, 8), (Color, 10, 2)],
        [(Color, 8, 8), (Solarize, 8, 7)],
        [(Sharpness, 4, 7), (Invert, 6, 0)],
        [(ShearX, 6, 5), (Equalize, 10, 0)],
        [(Color, 4, 0), (Equalize, 6, 0)],
        [(Equalize, 4, 0), (Solarize, 2, 4)],
        [(Solarize, 6, 5), (AutoContrast, 6, 0)],
        [(Invert, 6, 0), (Equalize, 10, 0)],
        [(Color, 6, 4), (Contrast, 10, 8)],
        [(Equalize, 8, 0), (Equalize, 6, 0)],
    ]
};
