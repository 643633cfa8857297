//! AlexNet's colour shift along the principal components of ImageNet's colours (Krizhevsky et al.
//! 2012, section 4.1).
//!
//! The paper adds to every pixel `[p1, p2, p3] [α1 λ1, α2 λ2, α3 λ3]ᵀ`, where `p` and `λ` are
//! eigenvectors and eigenvalues of the covariance of ImageNet's RGB values, and each `α` is drawn
//! once an image from a normal distribution with mean 0 and standard deviation 0.1. It does not
//! print the numbers; these are those of fb.resnet.torch (`datasets/imagenet.lua`, and `Lighting`
//! in `transforms.lua`), for values in [0, 1], which every later implementation copied. As there,
//! the sum is neither rounded nor clipped to [0, 1], and the mean is subtracted after it.

use super::draws::Draws;

/// The eigenvalues.
const VALUES: [f64; 3] = [0.2175, 0.0188, 0.0045];
/// The eigenvectors are the columns; the rows are red, green and blue.
const VECTORS: [[f64; 3]; 3] =
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]];

/// The offsets of red, green and blue, for values in [0, 1].
pub(super) fn shift(alphas: [f64; 3]) -> [f32; 3] {
    VECTORS.map(|row| (0..3).map(|i| row[i] * alphas[i] * VALUES[i]).sum::<f64>() as f32)
}

/// A random shift, with standard deviation `sigma` of each α.
pub(super) fn draw(sigma: f64, draws: &mut Draws) -> [f32; 3] {
    shift([(); 3].map(|()| sigma * draws.normal()))
}
