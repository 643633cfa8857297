//! Truncated and hostile files, and files that are no images.

use super::*;

#[test]
fn the_limit_is_checked_before_pixels_are_decoded() {
    for row in rows("expected.csv") {
        let bytes = fs::read(fixtures().join(&row[0])).unwrap();
        let pixels = row[1].parse::<u64>().unwrap() * row[2].parse::<u64>().unwrap();
        assert!(
            decode_bytes(
                &bytes,
                DecodeLimits { max_pixels: pixels, decode: Decode::Exact, white_level: None }
            )
            .is_ok(),
            "{}",
            row[0]
        );
        let message = decode_bytes(
            &bytes,
            DecodeLimits { max_pixels: pixels - 1, decode: Decode::Exact, white_level: None },
        )
        .unwrap_err();
        assert!(
            message.contains("over the limit of") && message.contains("max_pixels"),
            "{}: {message}",
            row[0]
        );
    }
    // A bitmap, a PNG and a JPEG that claim far more than they contain.
    let mut bmp = fs::read(fixtures().join("rgb24.bmp")).unwrap();
    bmp[18..22].copy_from_slice(&60_000u32.to_le_bytes());
    bmp[22..26].copy_from_slice(&50_000u32.to_le_bytes());
    let mut jpeg = fs::read(fixtures().join("s0-0.jpg")).unwrap();
    let frame = jpeg.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xEA, 0x60, 0xC3, 0x50]);
    for bytes in [bmp, jpeg] {
        let message = decode_bytes(&bytes, DecodeLimits::default()).unwrap_err();
        assert!(message.contains("= 3000 megapixels, over the limit of 179"), "{message}");
    }
}

#[test]
fn truncated_files_are_refused() {
    for (name, cuts) in [
        ("s2-0.jpg", 2..40),
        ("s2p-0.jpg", 2..40),
        ("rgb8.png", 13..60),
        ("lossy0.webp", 1..60),
        ("lossless0.webp", 1..60),
        ("plain0.gif", 6..40),
        ("rgb24.bmp", 4..60),
        ("rgb-raw.tif", 1..40),
        ("rgb.ppm", 1..60),
        ("rgb.jp2", 1..60),
        ("rgb.j2k", 1..60),
        ("jpeg60.tif", 1..40),
    ] {
        let bytes = fs::read(fixtures().join(name)).unwrap();
        for cut in cuts {
            let message = decode_bytes(&bytes[..bytes.len() - cut], LIMITS).expect_err(name);
            assert!(!message.is_empty(), "{name} less {cut} bytes");
        }
        let message = decode_bytes(&bytes[..bytes.len() / 2], LIMITS).expect_err(name);
        assert!(message.contains("truncated"), "{name}: {message}");
    }
}

/// Every fixture, cut and corrupted at many places, gives an image or a message, never a panic, and
/// soon.
#[test]
fn hostile_bytes_give_an_image_or_a_message() {
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below.max(1)
    };
    let mut tried = 0;
    for row in rows("expected.csv") {
        let whole = fs::read(fixtures().join(&row[0])).unwrap();
        for round in 0..24 {
            let mut bytes = whole.clone();
            // Headers are the critical part: every other change is among the first bytes.
            let reach = if round % 2 == 0 { bytes.len().min(64) } else { bytes.len() };
            for _ in 0..=random(3) {
                let at = random(reach);
                match random(4) {
                    0 => bytes[at] ^= 1 << random(8),
                    1 => bytes[at] = [0, 0x7F, 0x80, 0xFF][random(4)],
                    2 => bytes[at] = random(256) as u8,
                    _ if round % 3 == 0 => bytes.truncate(at.max(16).min(bytes.len())),
                    _ => bytes[at] = bytes[at].wrapping_add(1),
                }
                if bytes.len() < reach {
                    break;
                }
            }
            match decode_bytes(&bytes, LIMITS) {
                Ok(image) => assert_eq!(image.data.len(), image.width as usize * image.height as usize * 3),
                Err(message) => assert!(!message.contains("the decoder failed"), "{}: {message}", row[0]),
            }
            tried += 1;
        }
    }
    assert!(tried > 4000);
}

#[test]
fn what_is_no_image_is_named() {
    for (bytes, expected) in [
        (&b""[..], "empty"),
        (&[0; 100], "zero bytes"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\xEF\xBB\xBF \n<HTML>", "a web page"),
        (b"<?xml version=\"1.0\"?><svg xmlns=\"x\">", "SVG"),
        (b"\0\0\0\x1Cftypavif", "AVIF"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x0CjP  \r\n", "JPEG 2000"),
        (b"\xFF\x4F\xFF\x51", "JPEG 2000"),
        (b"%PDF-1.4", "PDF"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"just words", "a text file"),
        (b"\x01\x02\x03\xFF", "01 02 03 ff"),
        (b"\xFF\xD8\xFF", "JPEG"),
        (b"\x89PNG\r\n\x1A\n", "PNG"),
        (b"GIF89a", "GIF"),
        (b"RIFF\0\0\0\0WEBP", "WebP"),
        (b"BM", "BMP"),
        (b"II*\0", "TIFF"),
    ] {
        let message = decode_bytes(bytes, LIMITS).unwrap_err();
        assert!(message.contains(expected), "{message}, not {expected}");
    }
}

#[test]
fn a_jpeg_with_endless_scans_is_refused() {
    let bytes = fs::read(fixtures().join("s2p-0.jpg")).unwrap();
    let start = bytes.windows(2).position(|pair| pair == [0xFF, 0xDA]).unwrap();
    let end =
        start + 2 + bytes[start + 2..].windows(2).position(|pair| pair[0] == 0xFF && pair[1] > 0xBF).unwrap();
    let mut many = bytes[..start].to_vec();
    for _ in 0..600 {
        many.extend_from_slice(&bytes[start..end]);
    }
    many.extend_from_slice(&bytes[end..]);
    let message = decode_bytes(&many, LIMITS).unwrap_err();
    insta::assert_snapshot!(message, @"the JPEG has more than 500 scans, as only a malicious file does");
}

#[test]
fn files_are_named_in_errors_and_folders_refused() {
    let folder = decode_file(&fixtures(), LIMITS).unwrap_err().to_string();
    assert!(folder.contains("found a folder"), "{folder}");
    let missing = decode_file(&fixtures().join("missing.png"), LIMITS).unwrap_err().to_string();
    assert!(missing.starts_with("cannot read ") && missing.contains("missing.png"), "{missing}");
    let text = decode_file(&fixtures().join("crops.csv"), LIMITS).unwrap_err().to_string();
    assert!(text.contains("crops.csv: is a text file"), "{text}");
}
