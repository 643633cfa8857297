//! The random numbers of one image in one epoch.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rand_distr::{Distribution, StandardNormal};

use super::DrawKey;

/// Purposes of random numbers. Each has its own stream, so that enabling one change leaves the
/// draws of the others unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The horizontal flip, then the crop.
    Crop,
    VerticalFlip,
    Policy,
    ColorJitter,
    PcaColor,
}

impl Purpose {
    fn tag(self) -> &'static [u8; 8] {
        match self {
            Purpose::Crop => b"augment\0",
            Purpose::VerticalFlip => b"vertical",
            Purpose::Policy => b"policy\0\0",
            Purpose::ColorJitter => b"jitter\0\0",
            Purpose::PcaColor => b"pca\0\0\0\0\0",
        }
    }
}

/// A stream of random numbers.
pub(super) struct Draws(ChaCha8Rng);

impl Draws {
    /// The key is used directly as the cipher's key: streams of different keys are independent.
    pub(super) fn new(key: DrawKey, purpose: Purpose) -> Self {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&key.seed.to_le_bytes());
        seed[8..16].copy_from_slice(&key.epoch.to_le_bytes());
        seed[16..24].copy_from_slice(&key.image.to_le_bytes());
        seed[24..].copy_from_slice(purpose.tag());
        Draws(ChaCha8Rng::from_seed(seed))
    }

    /// Uniform in [0, 1), with 53 bits.
    pub(super) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub(super) fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform in 0..=most. The bias of the multiplication is below `most` / 2^64.
    pub(super) fn integer(&mut self, most: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * (u128::from(most) + 1)) >> 64) as u64
    }

    /// From the normal distribution with mean 0 and standard deviation 1.
    pub(super) fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.0)
    }
}
