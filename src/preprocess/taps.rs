//! The weights of Pillow's resize along one axis, and the two loops that apply them.
//!
//! The numbers are those of `src/libImaging/Resample.c`: weights in double precision, normalised,
//! then rounded to 22-bit fixed point. The sums are of integers, so their order does not matter,
//! and vector code gives the same bytes as plain loops.

use std::ops::Range;

use super::Interpolation;

/// Pillow's `PRECISION_BITS`: 32 bits, less 8 for a pixel's value, less 2 for the filter's
/// overshoot.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// One half in fixed point: sums start with it, so that the shift rounds.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// The weight of a copied pixel.
const ONE: i32 = 1 << PRECISION_BITS;

/// Taps in a vector. Weights are padded with zeros to a multiple of it.
const GROUP: usize = 4;

/// For each output position of one axis: the first input position, and the weights from there on.
#[derive(Debug)]
pub(super) struct Taps {
    starts: Vec<usize>,
    counts: Vec<usize>,
    /// The groups `groups[i]..groups[i + 1]` belong to output `i`.
    groups: Vec<usize>,
    /// The input positions that any output reads.
    inputs: Range<usize>,
    weights: Vec<[i32; GROUP]>,
    /// The same weights as `high × 2¹⁶ + low`, for instructions that multiply 16-bit numbers.
    #[cfg(target_arch = "x86_64")]
    halves: Vec<([i16; GROUP], [i16; GROUP])>,
}

impl Taps {
    /// `precompute_coeffs` and `normalize_coeffs_8bpc` for the outputs in `wanted` only, of
    /// `out_size` outputs that cover `extent` of the `in_size` input positions.
    pub(super) fn new(
        in_size: usize,
        extent: Range<f64>,
        out_size: u64,
        wanted: Range<u64>,
        interpolation: Interpolation,
    ) -> Self {
        let mut taps = Taps::empty();
        // Pillow keeps the box in single precision.
        let (from, to) = (f64::from(extent.start as f32), f64::from(extent.end as f32));
        if from == 0.0 && to == in_size as f64 && out_size == in_size as u64 {
            wanted.for_each(|position| taps.push(position as usize, &[ONE]));
            return taps;
        }
        let scale = (to - from) / out_size as f64;
        let filter_scale = scale.max(1.0);
        let support = interpolation.support() * filter_scale;
        let (mut exact, mut rounded) = (Vec::new(), Vec::new());
        for position in wanted {
            let center = from + (position as f64 + 0.5) * scale;
            // Casts truncate and saturate: a negative start becomes 0, as in Pillow.
            let start = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(in_size);
            let start = start.min(end);
            exact.clear();
            exact.extend(
                (start..end).map(|x| interpolation.weight((x as f64 - center + 0.5) * (1.0 / filter_scale))),
            );
            let total: f64 = exact.iter().sum();
            rounded.clear();
            rounded.extend(exact.iter().map(|weight| {
                let normalised = if total != 0.0 { weight / total } else { *weight };
                let scaled = normalised * f64::from(1u32 << PRECISION_BITS);
                if scaled < 0.0 { (scaled - 0.5) as i32 } else { (scaled + 0.5) as i32 }
            }));
            taps.push(start, &rounded);
        }
        taps
    }

    fn empty() -> Self {
        Taps {
            starts: Vec::new(),
            counts: Vec::new(),
            groups: vec![0],
            inputs: 0..0,
            weights: Vec::new(),
            #[cfg(target_arch = "x86_64")]
            halves: Vec::new(),
        }
    }

    fn push(&mut self, start: usize, weights: &[i32]) {
        let end = start + weights.len();
        self.inputs = match self.starts.is_empty() {
            true => start..end,
            false => self.inputs.start.min(start)..self.inputs.end.max(end),
        };
        self.starts.push(start);
        self.counts.push(weights.len());
        for part in weights.chunks(GROUP) {
            let mut group = [0; GROUP];
            group[..part.len()].copy_from_slice(part);
            self.weights.push(group);
            #[cfg(target_arch = "x86_64")]
            self.halves.push((
                group.map(|weight| weight as i16),
                group.map(|weight| ((weight - i32::from(weight as i16)) >> 16) as i16),
            ));
        }
        self.groups.push(self.weights.len());
    }

    /// The same taps for an input that starts at position `offset`, or is reversed: `mirrored` is
    /// then the number that its positions are subtracted from.
    pub(super) fn moved(self, offset: usize, mirrored: Option<usize>) -> Self {
        let mut moved = Taps::empty();
        let mut weights: Vec<i32> = Vec::new();
        for output in 0..self.len() {
            let inputs = self.inputs_of(output);
            weights.clear();
            weights.extend(self.weights_of(output));
            match mirrored {
                None => moved.push(inputs.start + offset, &weights),
                Some(end) => {
                    weights.reverse();
                    moved.push(offset + end - inputs.end, &weights);
                }
            }
        }
        moved
    }

    /// The outputs in reverse order.
    pub(super) fn reversed(self) -> Self {
        let mut reversed = Taps::empty();
        for output in (0..self.len()).rev() {
            let weights: Vec<i32> = self.weights_of(output).collect();
            reversed.push(self.starts[output], &weights);
        }
        reversed
    }

    /// Number of outputs.
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether every output is an input, in order.
    pub(super) fn is_copy(&self) -> bool {
        let one = |output: usize| self.counts[output] == 1 && self.weights[output][0] == ONE;
        (0..self.len()).all(one) && self.starts.windows(2).all(|pair| pair[0] + 1 == pair[1])
    }

    /// The input positions that output `output` reads.
    pub(super) fn inputs_of(&self, output: usize) -> Range<usize> {
        self.starts[output]..self.starts[output] + self.counts[output]
    }

    /// The input positions that any output reads.
    pub(super) fn inputs(&self) -> Range<usize> {
        self.inputs.clone()
    }

    /// The maximum number of inputs of an output.
    pub(super) fn most(&self) -> usize {
        self.counts.iter().copied().max().unwrap_or(0)
    }

    fn weights_of(&self, output: usize) -> impl Iterator<Item = i32> {
        let groups = &self.weights[self.groups[output]..self.groups[output + 1]];
        groups.iter().flatten().copied().take(self.counts[output])
    }

    /// Blends one row horizontally: `to` gets a pixel for each output. `from` starts at input
    /// position `first`.
    pub(super) fn blend_pixels(&self, from: &[u8], first: usize, to: &mut [u8]) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            return unsafe { avx2::blend_pixels(self, from, first, to) };
        }
        self.blend_pixels_plainly(from, first, to);
    }

    fn blend_pixels_plainly(&self, from: &[u8], first: usize, to: &mut [u8]) {
        for (output, pixel) in to.chunks_exact_mut(3).take(self.len()).enumerate() {
            let mut sums = [HALF; 3];
            let inputs = self.inputs_of(output);
            let source = &from[(inputs.start - first) * 3..(inputs.end - first) * 3];
            for (source, weight) in source.chunks_exact(3).zip(self.weights_of(output)) {
                for (sum, &value) in sums.iter_mut().zip(source) {
                    *sum += i32::from(value) * weight;
                }
            }
            for (value, sum) in pixel.iter_mut().zip(sums) {
                *value = clip(sum);
            }
        }
    }

    /// Blends one output row: `to` gets the blend of `row(y)` for the inputs `y` of `output`, each
    /// at least as long as `to`.
    pub(super) fn blend_rows<'r>(&self, output: usize, row: impl Fn(usize) -> &'r [u8], to: &mut [u8]) {
        let rows: Vec<(&[u8], i32)> = self.inputs_of(output).map(row).zip(self.weights_of(output)).collect();
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            return unsafe { avx2::blend_rows(&rows, to) };
        }
        blend_rows(&rows, to);
    }
}

/// In blocks whose sums stay in registers.
#[inline(always)]
fn blend_rows(rows: &[(&[u8], i32)], to: &mut [u8]) {
    const BLOCK: usize = 32;
    let mut blocks = to.chunks_exact_mut(BLOCK);
    let mut at = 0;
    for block in &mut blocks {
        let mut sums = [HALF; BLOCK];
        for (row, weight) in rows {
            for (sum, &value) in sums.iter_mut().zip(&row[at..at + BLOCK]) {
                *sum += i32::from(value) * weight;
            }
        }
        for (value, sum) in block.iter_mut().zip(sums) {
            *value = clip(sum);
        }
        at += BLOCK;
    }
    for (place, value) in blocks.into_remainder().iter_mut().enumerate() {
        let sum: i32 = rows.iter().map(|(row, weight)| i32::from(row[at + place]) * weight).sum();
        *value = clip(sum + HALF);
    }
}

/// `clip8`.
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{GROUP, HALF, PRECISION_BITS, Taps};

    #[target_feature(enable = "avx2")]
    pub(super) fn blend_rows(rows: &[(&[u8], i32)], to: &mut [u8]) {
        super::blend_rows(rows, to);
    }

    /// Four pixels at a time: the lower half of a vector holds the first two, channel by channel as
    /// pairs of 16-bit numbers, the upper half the other two. The instruction adds products of
    /// pairs; sums of the low and high halves of the weights are separate. They may wrap, but the
    /// total wraps back: it fits into 32 bits, as Pillow's does.
    #[target_feature(enable = "avx2")]
    pub(super) fn blend_pixels(taps: &Taps, from: &[u8], first: usize, to: &mut [u8]) {
        const Z: i8 = -1;
        let pixels = _mm256_setr_epi8(
            0, Z, 3, Z, 1, Z, 4, Z, 2, Z, 5, Z, Z, Z, Z, Z, //
            6, Z, 9, Z, 7, Z, 10, Z, 8, Z, 11, Z, Z, Z, Z, Z,
        );
        let pairs = _mm256_setr_epi8(
            0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, //
            4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7,
        );
        for (output, pixel) in to.chunks_exact_mut(3).take(taps.len()).enumerate() {
            let mut at = (taps.starts[output] - first) * 3;
            let (mut low, mut high) = (_mm256_setzero_si256(), _mm256_setzero_si256());
            for (low_weights, high_weights) in &taps.halves[taps.groups[output]..taps.groups[output + 1]] {
                let four = _mm256_broadcastsi128_si256(load(from, at));
                let four = _mm256_shuffle_epi8(four, pixels);
                let weights = |four: &[i16; GROUP]| {
                    let four = four.map(|weight| u64::from(weight as u16));
                    let bits = four[0] | four[1] << 16 | four[2] << 32 | four[3] << 48;
                    _mm256_shuffle_epi8(_mm256_set1_epi64x(bits as i64), pairs)
                };
                low = _mm256_add_epi32(low, _mm256_madd_epi16(four, weights(low_weights)));
                high = _mm256_add_epi32(high, _mm256_madd_epi16(four, weights(high_weights)));
                at += 3 * GROUP;
            }
            let sums = _mm256_add_epi32(low, _mm256_slli_epi32::<16>(high));
            let sums = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
            let sums = _mm_srai_epi32::<{ PRECISION_BITS as i32 }>(_mm_add_epi32(sums, _mm_set1_epi32(HALF)));
            let bytes = _mm_packus_epi16(_mm_packs_epi32(sums, sums), sums);
            let bytes = (_mm_cvtsi128_si32(bytes) as u32).to_le_bytes();
            pixel.copy_from_slice(&bytes[..3]);
        }
    }

    /// 16 bytes from `at` on; zeros after the end, where weights are zero.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn load(from: &[u8], at: usize) -> __m128i {
        let mut bytes = [0; 16];
        match from.get(at..at + 16) {
            Some(all) => bytes.copy_from_slice(all),
            None => {
                let rest = from.get(at..).unwrap_or_default();
                bytes[..rest.len()].copy_from_slice(rest);
            }
        }
        let bits = u128::from_le_bytes(bytes);
        _mm_set_epi64x((bits >> 64) as i64, bits as i64)
    }
}

impl Interpolation {
    /// The filter's half width in source pixels, at a scale of 1.
    fn support(self) -> f64 {
        match self {
            Interpolation::Bilinear => 1.0,
            Interpolation::Bicubic => 2.0,
        }
    }

    /// The filter: a triangle, or Keys' cubic with a = -0.5.
    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Interpolation::Bilinear if x < 1.0 => 1.0 - x,
            Interpolation::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Interpolation::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_give_the_bytes_of_plain_loops() {
        let bytes = |count: usize| -> Vec<u8> {
            // Runs of black and white as well: they clip, and bicubic overshoots.
            (0..count as u32)
                .map(|i| {
                    if i / 90 % 2 == 0 {
                        (i.wrapping_mul(2_654_435_761) >> 24) as u8
                    } else {
                        255 * (i / 30 % 2) as u8
                    }
                })
                .collect()
        };
        // Miri is slow.
        let sizes = match cfg!(miri) {
            true => [(90, 7), (50, 34), (31, 97), (7, 7), (1, 5), (40, 1)],
            false => [(4000, 37), (500, 341), (31, 97), (7, 7), (1, 5), (2000, 1)],
        };
        for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic] {
            for (in_size, out_size) in sizes {
                let taps = Taps::new(in_size, 0.0..in_size as f64, out_size, 0..out_size, interpolation);
                let row = bytes(in_size * 3);
                let (mut vectors, mut plain) = (vec![0; taps.len() * 3], vec![0; taps.len() * 3]);
                taps.blend_pixels(&row, 0, &mut vectors);
                taps.blend_pixels_plainly(&row, 0, &mut plain);
                assert_eq!(vectors, plain, "{in_size} to {out_size}, {interpolation:?}");
                let rows: Vec<Vec<u8>> = (0..in_size).map(|y| bytes(70 + y)[y..].to_vec()).collect();
                let all = |output: usize| -> Vec<(&[u8], i32)> {
                    taps.inputs_of(output).map(|y| &rows[y][..]).zip(taps.weights_of(output)).collect()
                };
                for output in 0..taps.len() {
                    let (mut vectors, mut plain) = ([0; 70], [0; 70]);
                    taps.blend_rows(output, |y| &rows[y], &mut vectors);
                    blend_rows(&all(output), &mut plain);
                    assert_eq!(vectors, plain, "{in_size} to {out_size}, {interpolation:?}");
                }
            }
        }
    }

    #[test]
    fn a_mirrored_axis_reads_the_same_pixels() {
        let taps = |mirrored| {
            let taps = Taps::new(50, 0.0..50.0, 13, 2..11, Interpolation::Bicubic);
            if mirrored { taps.moved(3, Some(50)) } else { taps.moved(3, None) }
        };
        let row: Vec<u8> = (0..53 * 3u32).map(|i| (i * 97 % 251) as u8).collect();
        let mut mirrored = row.clone();
        mirrored[9..].chunks_exact_mut(3).for_each(|pixel| pixel.reverse());
        mirrored[9..].reverse();
        let (mut one, mut other) = ([0; 27], [0; 27]);
        taps(false).blend_pixels(&row, 0, &mut one);
        taps(true).blend_pixels(&mirrored, 0, &mut other);
        assert_eq!(one, other);
    }
}
