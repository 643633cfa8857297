//! Shears, translations and rotations: torchvision's `affine` and `rotate` on a Pillow image, byte
//! for byte.
//!
//! Nearest neighbour, black outside, the size unchanged: the defaults of torchvision's policies.
//! The matrices are those of `functional.py` (`_get_inverse_affine_matrix`) and of Pillow's
//! `Image.rotate`, in double precision. Pillow's `src/libImaging/Geometry.c` determines the bytes:
//! 16.16 fixed point, or double precision where the matrix only moves and scales. Its third way,
//! for coordinates from 32768 up, is not reached by images of at most
//! [`Preprocessing::MAX_SIZE`](super::Preprocessing::MAX_SIZE).

use super::RgbImage;

/// Maps an output pixel to its position in the input: `x' = m0 x + m1 y + m2`, `y' = m3 x + m4 y +
/// m5`, with pixel centres at one half.
type Matrix = [f64; 6];

/// Shifts each row by `level` times its distance from the top; positive shifts upper rows to the
/// right of lower ones.
pub(super) fn shear_x(image: &RgbImage, level: f64) -> RgbImage {
    transform(image, inverse([0.0; 2], [0.0; 2], [level.atan().to_degrees(), 0.0]))
}

/// As [`shear_x`], of columns.
pub(super) fn shear_y(image: &RgbImage, level: f64) -> RgbImage {
    transform(image, inverse([0.0; 2], [0.0; 2], [0.0, level.atan().to_degrees()]))
}

/// Shifts the image by whole pixels, to the right and down.
pub(super) fn translate(image: &RgbImage, right: f64, down: f64) -> RgbImage {
    transform(image, inverse(centre(image), [right, down], [0.0; 2]))
}

/// Rotates the image counterclockwise around its centre.
pub(super) fn rotate(image: &RgbImage, degrees: f64) -> RgbImage {
    let degrees = degrees.rem_euclid(360.0);
    let (width, height) = (image.width as usize, image.height as usize);
    let square = width == height;
    // Pillow rotates by right angles without a matrix.
    match degrees {
        0.0 => return image.clone(),
        180.0 => return gather(image, |x, y| Some((width - 1 - x, height - 1 - y))),
        90.0 if square => return gather(image, |x, y| Some((width - 1 - y, x))),
        270.0 if square => return gather(image, |x, y| Some((y, height - 1 - x))),
        _ => {}
    }
    let angle = -degrees.to_radians();
    let (cos, sin, minus_sin) = (round_15(angle.cos()), round_15(angle.sin()), round_15(-angle.sin()));
    let [x, y] = centre(image);
    let (to_x, to_y) = (cos * -x + sin * -y + 0.0, minus_sin * -x + cos * -y + 0.0);
    transform(image, [cos, sin, to_x + x, minus_sin, cos, to_y + y])
}

fn centre(image: &RgbImage) -> [f64; 2] {
    [f64::from(image.width) * 0.5, f64::from(image.height) * 0.5]
}

/// Python's `round(x, 15)`.
fn round_15(x: f64) -> f64 {
    format!("{x:.15}").parse().unwrap_or(x)
}

/// torchvision's `_get_inverse_affine_matrix` at an angle of 0 and a scale of 1; the shear in
/// degrees.
fn inverse([cx, cy]: [f64; 2], [tx, ty]: [f64; 2], shear: [f64; 2]) -> Matrix {
    let [sx, sy] = shear.map(f64::to_radians);
    let rotation = 0.0f64;
    let a = (rotation - sy).cos() / sy.cos();
    let b = -(rotation - sy).cos() * sx.tan() / sy.cos() - rotation.sin();
    let c = (rotation - sy).sin() / sy.cos();
    let d = -(rotation - sy).sin() * sx.tan() / sy.cos() + rotation.cos();
    let mut matrix = [d, -b, 0.0, -c, a, 0.0];
    matrix[2] += matrix[0] * (-cx - tx) + matrix[1] * (-cy - ty);
    matrix[5] += matrix[3] * (-cx - tx) + matrix[4] * (-cy - ty);
    matrix[2] += cx;
    matrix[5] += cy;
    matrix
}

/// `ImagingTransformAffine` without a filter.
fn transform(image: &RgbImage, matrix: Matrix) -> RgbImage {
    if matrix[1] == 0.0 && matrix[3] == 0.0 { scale(image, matrix) } else { fixed(image, matrix) }
}

/// `ImagingScaleAffine`: positions accumulate in double precision.
fn scale(image: &RgbImage, matrix: Matrix) -> RgbImage {
    let positions = |start: f64, step: f64, count: u32| -> Vec<Option<usize>> {
        let mut at = start + step * 0.5;
        let mut positions = Vec::with_capacity(count as usize);
        for _ in 0..count {
            positions.push((at >= 0.0 && at < f64::from(count)).then_some(at as usize));
            at += step;
        }
        positions
    };
    let columns = positions(matrix[2], matrix[0], image.width);
    let rows = positions(matrix[5], matrix[4], image.height);
    gather(image, |x, y| columns[x].zip(rows[y]))
}

/// `affine_fixed`: 16 fractional bits.
fn fixed(image: &RgbImage, m: Matrix) -> RgbImage {
    let fix = |number: f64| (number * 65536.0 + 0.5).floor() as i64;
    let [a0, a1, a3, a4] = [m[0], m[1], m[3], m[4]].map(fix);
    let a2 = fix(m[2] + m[0] * 0.5 + m[1] * 0.5);
    let a5 = fix(m[5] + m[3] * 0.5 + m[4] * 0.5);
    let inside = |position: i64, size: u32| {
        let position = position >> 16;
        (0..i64::from(size)).contains(&position).then_some(position as usize)
    };
    gather(image, |x, y| {
        let (x, y) = (x as i64, y as i64);
        inside(a2 + a0 * x + a1 * y, image.width).zip(inside(a5 + a3 * x + a4 * y, image.height))
    })
}

/// An image of the same size whose pixel (x, y) is the one at `from(x, y)`, or black.
fn gather(image: &RgbImage, from: impl Fn(usize, usize) -> Option<(usize, usize)>) -> RgbImage {
    let mut out = RgbImage::black(image.width, image.height);
    let width = image.width as usize;
    for (index, pixel) in out.data.chunks_exact_mut(3).enumerate() {
        if let Some((x, y)) = from(index % width, index / width) {
            pixel.copy_from_slice(&image.data[(y * width + x) * 3..][..3]);
        }
    }
    out
}
