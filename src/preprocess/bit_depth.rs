//! Images of 16 bits a sample: their conversion to 8, and how many of their bits they use. Cameras,
//! microscopes and scanners of 10, 12 or 14 bits write files of 16, whose brightest sample is then
//! far from white.

use std::path::Path;

use super::decode::{DecodeLimits, decode_file};
use super::header::has_16_bits;

/// Number of images of a list to look at, evenly spaced; those of 16 bits among them are decoded.
const LOOKED_AT: usize = 64;

/// Converts a 16-bit sample to 8: the high byte of the bits that count. `white_level` and all
/// values above it become 255; 65535 where absent.
pub(super) fn narrow(sample: u16, white_level: Option<u16>) -> u8 {
    match white_level {
        None => (sample >> 8) as u8,
        Some(white) => (u32::from(sample) * 256 / (u32::from(white) + 1)).min(255) as u8,
    }
}

/// Brightness of images of 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brightness {
    /// Number of decoded images.
    images: usize,
    /// The brightest sample of them is at least this...
    least: u16,
    /// ...and at most this.
    most: u16,
}

impl Brightness {
    /// Examines some of a list of images; `None` if none of these has 16 bits or can be decoded.
    /// Stops at the first one that uses all 16.
    pub fn of<'a>(images: impl ExactSizeIterator<Item = &'a Path>, limits: DecodeLimits) -> Option<Self> {
        let step = images.len().div_ceil(LOOKED_AT).max(1);
        let mut found: Option<Brightness> = None;
        for path in images.step_by(step).filter(|path| has_16_bits(path)) {
            let Some((least, most)) = brightest(path, limits) else { continue };
            let so_far = found.unwrap_or(Brightness { images: 0, least, most });
            let brighter = Brightness {
                images: so_far.images + 1,
                least: so_far.least.max(least),
                most: so_far.most.max(most),
            };
            found = Some(brighter);
            if brighter.bits() == u16::BITS {
                break;
            }
        }
        found
    }

    /// Bits of the brightest sample.
    fn bits(&self) -> u32 {
        u16::BITS - self.most.leading_zeros()
    }

    /// A warning if `white_level` does not suit them: less than half of it is used, or more than
    /// all of it. `images`: their name; `advice`: the remedy, given the proposed white value.
    pub fn note(
        &self,
        images: &str,
        white_level: Option<u16>,
        advice: impl FnOnce(u16) -> String,
    ) -> Option<String> {
        let white = white_level.unwrap_or(u16::MAX);
        let own = ((1u32 << self.bits()) - 1) as u16;
        let looked_at = match self.images {
            1 => format!("one {images} of 16 bits a sample was looked at"),
            count => format!("{count} {images}s of 16 bits a sample were looked at"),
        };
        if self.least > white {
            let said = format!("{looked_at}, and some samples are above `white_level: {white}`, up to");
            return Some(format!("{said} {} or more: they become white; {}", self.least, advice(own)));
        }
        (own > 0 && 2 * u32::from(self.most) < u32::from(white)).then(|| {
            let share = 100. * f64::from(own) / f64::from(white);
            format!(
                "{looked_at}, and no sample uses more than {} of them (values up to {own}): with {white} for white the \
                 brightest is at {share:.1} % of it, nearly black to the network; {}",
                self.bits(),
                advice(own)
            )
        })
    }
}

/// Bounds of the brightest sample of an image.
fn brightest(path: &Path, limits: DecodeLimits) -> Option<(u16, u16)> {
    let highest = |white_level| {
        let image = decode_file(path, DecodeLimits { white_level, ..limits }).ok()?;
        image.data.into_iter().max().map(u16::from)
    };
    match highest(Some(u16::MAX))? {
        // Samples that fit in a byte narrow to 0: decode them with their own white level.
        0 => highest(Some(255)).map(|byte| (byte, byte)),
        high => Some((high << 8, high << 8 | 255)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(folder: &Path, name: &str, depth: png::BitDepth, samples: &[u16]) -> std::path::PathBuf {
        let path = folder.join(name);
        let file = std::fs::File::create(&path).unwrap();
        let mut encoder = png::Encoder::new(file, samples.len() as u32, 1);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(depth);
        let bytes: Vec<u8> = match depth {
            png::BitDepth::Sixteen => samples.iter().flat_map(|sample| sample.to_be_bytes()).collect(),
            _ => samples.iter().map(|sample| *sample as u8).collect(),
        };
        encoder.write_header().unwrap().write_image_data(&bytes).unwrap();
        path
    }

    #[test]
    fn the_high_byte_of_the_bits_that_count() {
        let narrowed = |white| [0, 15, 16, 255, 4095, 4096, 65535].map(|sample| narrow(sample, white));
        assert_eq!(narrowed(None), [0, 0, 0, 0, 15, 16, 255]);
        assert_eq!(narrowed(Some(65535)), narrowed(None));
        assert_eq!(narrowed(Some(4095)), [0, 0, 1, 15, 255, 255, 255]);
        assert_eq!(narrowed(Some(255)), [0, 15, 16, 255, 255, 255, 255]);
        assert_eq!(narrowed(Some(1)), [0, 255, 255, 255, 255, 255, 255]);
    }

    #[test]
    fn the_bits_that_images_use_are_found_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let wide = |name, samples: &[u16]| picture(folder.path(), name, png::BitDepth::Sixteen, samples);
        let dark = wide("dark.png", &[0, 700]);
        let twelve = wide("twelve.png", &[0, 4000]);
        let full = wide("full.png", &[0, 40000]);
        let byte = wide("byte.png", &[0, 200]);
        let plain = picture(folder.path(), "plain.png", png::BitDepth::Eight, &[0, 3]);
        let of = |paths: &[&Path]| Brightness::of(paths.iter().copied(), DecodeLimits::default());
        let said = |found: Option<Brightness>, white| {
            found.unwrap().note("image", white, |white| format!("white {white}"))
        };
        assert_eq!(of(&[&plain]), None);
        let found = of(&[&dark, &plain, &twelve]);
        assert_eq!(found.unwrap().bits(), 12);
        assert_eq!(
            said(found, None).unwrap(),
            "2 images of 16 bits a sample were looked at, and no sample uses more than 12 of them (values up to 4095): with \
             65535 for white the brightest is at 6.2 % of it, nearly black to the network; white 4095"
        );
        assert_eq!(said(found, Some(4095)), None);
        let clipped = said(found, Some(1023)).unwrap();
        insta::assert_snapshot!(clipped, @"2 images of 16 bits a sample were looked at, and some samples are above `white_level: 1023`, up to 3840 or more: they become white; white 4095");
        assert_eq!(said(of(&[&full, &dark]), None), None);
        let byte = of(&[&byte]);
        assert_eq!(byte.unwrap().bits(), 8);
        assert!(said(byte, None).unwrap().starts_with("one image of 16 bits"));
        assert_eq!(said(byte, Some(255)), None);
    }

    /// Grey with alpha, whose 255 would be the brightest sample; colour; two more formats.
    #[test]
    fn every_format_of_16_bits_has_a_white_level_and_alpha_is_no_brightness() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: Vec<u8>| {
            std::fs::write(folder.path().join(name), bytes).unwrap();
            folder.path().join(name)
        };
        let png = |color, samples: &[u16]| {
            let mut bytes = Vec::new();
            let mut encoder = png::Encoder::new(&mut bytes, 1, 1);
            encoder.set_color(color);
            encoder.set_depth(png::BitDepth::Sixteen);
            let samples: Vec<u8> = samples.iter().flat_map(|sample| sample.to_be_bytes()).collect();
            encoder.write_header().unwrap().write_image_data(&samples).unwrap();
            bytes
        };
        let mut tiff = std::io::Cursor::new(Vec::new());
        let mut encoder = tiff::encoder::TiffEncoder::new(&mut tiff).unwrap();
        encoder.write_image::<tiff::encoder::colortype::RGB16>(1, 1, &[1600, 800, 4095]).unwrap();
        let pnm = [&b"P6 1 1 65535\n"[..], &[6, 64, 3, 32, 15, 255]].concat();
        let files = [
            (file("a.png", png(png::ColorType::GrayscaleAlpha, &[1600, 65535])), [100, 100, 100]),
            (file("b.png", png(png::ColorType::Rgba, &[1600, 800, 4095, 65535])), [100, 50, 255]),
            (file("c.png", png(png::ColorType::Rgb, &[1600, 800, 4095])), [100, 50, 255]),
            (file("d.tif", tiff.into_inner()), [100, 50, 255]),
            (file("e.ppm", pnm), [100, 50, 255]),
        ];
        let limits = DecodeLimits { white_level: Some(4095), ..DecodeLimits::default() };
        for (path, pixel) in &files {
            assert_eq!(decode_file(path, limits).unwrap().data, pixel, "{path:?}");
            let found = Brightness::of(std::iter::once(&**path), DecodeLimits::default()).unwrap();
            assert!(matches!(found.bits(), 11 | 12), "{path:?}: {found:?}");
        }
    }
}
