//! Refused files and their messages; `preprocess/tests.rs` compares pixels with Pillow's.

use std::fs;
use std::path::PathBuf;

use crate::preprocess::decode::{Decode, DecodeLimits, decode_bytes};

const LIMITS: DecodeLimits = DecodeLimits { max_pixels: 1_000_000, decode: Decode::Exact, white_level: None };

/// A page of one strip: columns, rows, bits of a sample, data, and tags added to or replacing the
/// usual ones.
fn page(width: u32, height: u32, bits: u32, data: &[u8], tags: &[(u16, u32)]) -> Vec<u8> {
    let usual = [
        (256, width),
        (257, height),
        (258, bits),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, height),
        (279, data.len() as u32),
    ];
    let mut entries: Vec<(u16, u32)> =
        usual.into_iter().filter(|(tag, _)| tags.iter().all(|it| it.0 != *tag)).collect();
    entries.extend(tags);
    entries.sort();
    let mut file = b"II*\0".to_vec();
    file.extend((8 + data.len() as u32).to_le_bytes());
    file.extend(data);
    file.extend((entries.len() as u16).to_le_bytes());
    for (tag, value) in entries {
        file.extend(tag.to_le_bytes());
        file.extend(4u16.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend(value.to_le_bytes());
    }
    file.extend([0; 4]);
    file
}

fn refused(file: &[u8]) -> String {
    decode_bytes(file, LIMITS).expect_err("refused")
}

fn floats(values: [f32; 3]) -> Vec<u8> {
    page(3, 1, 32, &values.map(f32::to_le_bytes).concat(), &[(339, 3)])
}

fn signed(values: [i16; 3]) -> Vec<u8> {
    page(3, 1, 16, &values.map(i16::to_le_bytes).concat(), &[(339, 2)])
}

#[test]
fn numbers_are_levels_where_they_can_be() {
    let grey =
        |file: Vec<u8>| decode_bytes(&file, LIMITS).unwrap().data.into_iter().step_by(3).collect::<Vec<u8>>();
    assert_eq!(grey(floats([0.9, 127.99, 255.])), [0, 127, 255]);
    assert_eq!(grey(floats([0., 0., 0.])), [0, 0, 0], "black is black in any range");
    assert_eq!(grey(signed([0, 1, 255])), [0, 1, 255]);
    let wide = [1.5f64, 2., 3.].map(f64::to_le_bytes).concat();
    assert_eq!(grey(page(3, 1, 64, &wide, &[(339, 3)])), [1, 2, 3]);

    for (file, words) in [
        (floats([0., 0.5, 1.]), "fractions from 0 to 1,"),
        (floats([0., 4095.5, 1.]), "from 0 to 4095.5,"),
        (floats([-0.5, 200., 1.]), "from -0.5 to 200,"),
        (floats([0., f32::NAN, 9.]), "no numbers (NaN)"),
        (floats([0., f32::INFINITY, 9.]), "no numbers (inf)"),
        (signed([-1, 0, 5]), "from -1 to 5,"),
        (signed([0, 0, 256]), "from 0 to 256,"),
    ] {
        let message = refused(&file);
        assert!(message.contains(words) && message.contains("8 or 16 bits a sample"), "{message}");
    }
}

#[test]
fn kinds_that_are_not_read_are_named() {
    for (tags, bits, words) in [
        (vec![(259, 50000)], 8, "compressed with Zstandard"),
        (vec![(259, 34925)], 8, "compressed with LZMA"),
        (vec![(259, 6)], 8, "compressed with JPEG in its old form"),
        (vec![(259, 12345)], 8, "compressed with method 12345"),
        (vec![], 12, "12 bits a sample"),
        (vec![(262, 8), (277, 3)], 8, "in CIE Lab colours"),
        (vec![(259, 3)], 8, "a fax coding with 1 samples of 8 bits"),
    ] {
        let message = refused(&page(4, 1, bits, &[0; 16], &tags));
        assert!(message.contains(words), "{message}, not {words}");
    }
    // Tags 273, 278 and 279 are replaced by those of a tile.
    let tiled = |tags: &[(u16, u32)]| {
        let mut file = page(16, 16, 8, &[7; 256], tags);
        for (from, to) in [(273u16, 324u16), (278, 322), (279, 325)] {
            let entry = [&from.to_le_bytes()[..], &[4, 0]].concat();
            let at = file.windows(4).rposition(|window| window == entry).unwrap();
            file[at..at + 2].copy_from_slice(&to.to_le_bytes());
        }
        file
    };
    let tile = [(278, 16), (323, 16)];
    assert_eq!(decode_bytes(&tiled(&tile), LIMITS).unwrap().data, vec![7; 16 * 16 * 3]);
    let vast = refused(&tiled(&[(278, 1 << 20), (323, 1 << 20)]));
    insta::assert_snapshot!(vast, @"the TIFF is damaged: tiles of 1048576x1048576 for 16x16 pixels");
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pixels").join(name)).unwrap()
}

/// The byte range of the strip in a file of one strip.
fn strip(file: &[u8]) -> (usize, usize) {
    let entry = |tag: u16| {
        let at = file.windows(2).enumerate().find(|(at, window)| {
            *window == tag.to_le_bytes()
                && matches!(file[at + 2], 3 | 4)
                && file[at + 4..at + 8] == [1, 0, 0, 0]
        });
        u32::from_le_bytes(*file[at.unwrap().0 + 8..].first_chunk().unwrap()) as usize
    };
    (entry(273), entry(279))
}

#[test]
fn faxes_that_end_early_or_make_no_sense_are_refused() {
    for name in
        ["fax-lines-group3.tif", "fax-lines-group3-5.tif", "fax-lines-group4.tif", "fax-lines-tiff_ccitt.tif"]
    {
        let whole = fixture(name);
        decode_bytes(&whole, LIMITS).unwrap();
        let (start, length) = strip(&whole);
        // The code is cut, and the rest of the file unchanged: the strip's length is wrong, or
        // zeros follow.
        for kept in 0..length / 2 {
            let mut cut = whole.clone();
            cut[start + kept..start + length].fill(0);
            assert!(decode_bytes(&cut, LIMITS).is_err(), "{name} with {kept} bytes");
        }
        let mut shorter = whole.clone();
        let at = shorter.windows(4).position(|field| field == [0x17, 1, 4, 0]).unwrap();
        shorter[at + 8..at + 12].copy_from_slice(&(length as u32 / 2).to_le_bytes());
        assert!(refused(&shorter).contains("truncated"), "{name}: {}", refused(&shorter));
        let mut longer = whole.clone();
        longer[at + 8..at + 12].fill(0xFF);
        assert!(decode_bytes(&longer, LIMITS).unwrap() == decode_bytes(&whole, LIMITS).unwrap(), "{name}");
    }
    // White runs of 64 and 0, where 4 pixels are expected.
    let message = refused(&page(4, 1, 1, &[0b1101_1001, 0b1010_1000, 0, 0, 0], &[(259, 2)]));
    insta::assert_snapshot!(message, @"the TIFF is damaged: line 1 of a fax strip");
    // A group 4 block that ends after its first line, black: the second is white. Before it there
    // is nothing to see.
    let black = [0b0010_0110, 0b1010_1100, 0, 0b0100_0000, 0b0000_0100];
    let image = decode_bytes(&page(4, 2, 1, &black, &[(259, 4), (262, 0)]), LIMITS).unwrap();
    assert_eq!(image.data, [[0; 12], [255; 12]].concat());
    assert!(decode_bytes(&page(4, 2, 1, &[0, 0x10, 0x01], &[(259, 4)]), LIMITS).is_err());
}

#[test]
fn parts_of_another_size_are_refused() {
    let mut file = fixture("jpeg-strips.tif");
    decode_bytes(&file, LIMITS).unwrap();
    let frame = file.windows(4).position(|window| window == [0xFF, 0xC0, 0, 17]).unwrap();
    file[frame + 6] -= 1;
    let message = refused(&file);
    insta::assert_snapshot!(message, @"the TIFF is damaged: a part of 45x16 pixels has 45x15");
}
