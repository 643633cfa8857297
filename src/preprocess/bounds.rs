//! Tests: small files that ask for much work. SECURITY.md lists the bounds.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::RgbImage;
use super::decode::{DecodeLimits, decode_bytes, decode_file};

/// The result of decoding, which must not take long: what is refused here, or once was slow, took
/// minutes.
#[track_caller]
fn read(bytes: &[u8]) -> Result<RgbImage, String> {
    let start = Instant::now();
    let result = decode_bytes(bytes, DecodeLimits::default());
    let took = start.elapsed();
    assert!(took < Duration::from_secs(10), "{} bytes took {took:?}", bytes.len());
    result
}

#[track_caller]
fn refusal(bytes: &[u8], expected: &str) {
    let message = read(bytes).expect_err("refused");
    assert!(message.contains(expected), "{message}");
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pixels").join(name)).unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// `whole` with `more` at `at`.
fn inserted(whole: &[u8], at: usize, more: &[u8]) -> Vec<u8> {
    [&whole[..at], more, &whole[at..]].concat()
}

/// A JPEG marker with its data.
fn segment(marker: u8, data: &[u8]) -> Vec<u8> {
    [&[0xFF, marker], &(data.len() as u16 + 2).to_be_bytes()[..], data].concat()
}

/// A grey progressive JPEG of empty scans. After a wrong restart marker libjpeg looks for the next
/// marker, and does not skip what the bytes after it say.
fn jpeg_of_scans(side: u16, scans: usize, hidden: bool) -> Vec<u8> {
    let mut file = vec![0xFF, 0xD8];
    file.extend(segment(0xDB, &[[0].as_slice(), &[1; 64]].concat()));
    let side = side.to_be_bytes();
    file.extend(segment(0xC2, &[8, side[0], side[1], side[0], side[1], 1, 1, 0x11, 0]));
    for table in [0, 0x10] {
        file.extend(segment(0xC4, &[[table, 0, 2].as_slice(), &[0; 14], &[0, 1]].concat()));
    }
    file.extend(segment(0xDD, &[0, u8::from(hidden)]));
    file.extend(segment(0xDA, &[1, 1, 0, 0, 0, 0]));
    file.push(0);
    if hidden {
        file.extend([0xFF, 0x02, 0xFF, 0xFF]);
    }
    for _ in 0..scans {
        file.extend(segment(0xDA, &[1, 1, 0, 1, 63, 0]));
    }
    file.extend([0xFF, 0xD9]);
    file
}

#[test]
fn scans_of_a_jpeg_are_counted_where_libjpeg_finds_them() {
    // 6,000 scans took 50 seconds.
    refusal(&jpeg_of_scans(4000, 6000, true), "the JPEG takes more than");
    refusal(&jpeg_of_scans(64, 6000, true), "the JPEG has more than 500 scans");
    refusal(&jpeg_of_scans(13_000, 490, false), "rows of blocks to read");
    // As many as a file of this size may have.
    for (side, scans) in [(4000, 60), (64, 490)] {
        let image = read(&jpeg_of_scans(side, scans, false)).unwrap();
        assert_eq!((image.width, image.data[0]), (side.into(), 128));
    }
}

#[test]
fn markers_of_a_jpeg_take_no_longer_than_their_bytes() {
    let (plain, turned) = (fixture("exif1.jpg"), fixture("exif6.jpg"));
    let upright = read(&plain).unwrap();
    // libjpeg's list of 130,000 took a minute.
    for marker in [&b"\xFF\xE1\x00\x02"[..], b"\xFF\xE1\x00\x08Exif\0\0", b"\xFF\xFE\x00\x02", b"\xFF"] {
        assert!(read(&inserted(&plain, 2, &marker.repeat(130_000))).unwrap() == upright);
    }
    // The one that counts is found behind them.
    let behind = inserted(&turned, 2, &b"\xFF\xE1\x00\x02".repeat(130_000));
    assert!(read(&behind).unwrap() == read(&turned).unwrap());
    let cut = inserted(&plain, 2, b"\xFF\xE1\xFF\xFF");
    refusal(&cut[..60], "the JPEG is truncated");
}

#[test]
fn exif_directories_without_end_are_left() {
    let plain = fixture("exif1.jpg");
    let upright = read(&plain).unwrap();
    let entry = |tag: u16, kind: u16, count: u32, at: u32| {
        [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &at.to_le_bytes()].concat()
    };
    let start = b"II*\0\x08\0\0\0".to_vec();
    // Entries that share a long text, entries that lead to the beginning, a chain of directories.
    let shared = [start.clone(), vec![255, 255], entry(0x10E, 2, 700_000, 8).repeat(65_535)].concat();
    let loops =
        [start.clone(), vec![255, 255], entry(0x8769, 4, 1, 8).repeat(65_535), vec![8, 0, 0, 0]].concat();
    let chain: Vec<u8> =
        (1..200_000u32).flat_map(|index| [&[0, 0], &(8 + 6 * index).to_le_bytes()[..]].concat()).collect();
    for block in [shared, loops, [start, chain].concat()] {
        let parts = block.chunks(65_000).map(|part| segment(0xE1, &[b"Exif\0\0", part].concat()));
        assert!(read(&inserted(&plain, 2, &parts.collect::<Vec<_>>().concat())).unwrap() == upright);
    }
}

/// Of 29×12 pixels.
const JPEG: &str = "exif1.jpg";

/// A grey TIFF of eight columns, a line a strip, all of the same bytes, and its shared JPEG tables;
/// JPEG's strips have the size of [`JPEG`].
fn tiff_of_one_strip(coding: u32, strip: &[u8], strips: u32, tables: &[u8]) -> Vec<u8> {
    let mut file = [b"II*\0\0\0\0\0", strip, tables].concat();
    file.resize(file.len().next_multiple_of(4), 0);
    let (offsets, counts) = (file.len() as u32, file.len() as u32 + 4 * strips);
    for _ in 0..strips {
        file.extend(8u32.to_le_bytes());
    }
    for _ in 0..strips {
        file.extend((strip.len() as u32).to_le_bytes());
    }
    let directory = file.len() as u32;
    let (width, lines) = if coding == 7 { (29, 12) } else { (8, 1) };
    file[4..8].copy_from_slice(&directory.to_le_bytes());
    let entries = [
        (256u16, 4u16, 1, width),
        (257, 4, 1, lines * strips),
        (258, 3, 1, if matches!(coding, 2..=4) { 1 } else { 8 }),
        (259, 3, 1, coding),
        (262, 3, 1, 1),
        (273, 4, strips, offsets),
        (277, 3, 1, 1),
        (278, 4, 1, lines),
        (279, 4, strips, counts),
        (347, 7, tables.len() as u32, 8 + strip.len() as u32),
    ];
    let entries = if tables.is_empty() { &entries[..9] } else { &entries };
    file.extend((entries.len() as u16).to_le_bytes());
    for &(tag, kind, count, value) in entries {
        file.extend(tag.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend(count.to_le_bytes());
        file.extend(value.to_le_bytes());
    }
    file.extend([0; 4]);
    file
}

#[test]
fn strips_of_a_tiff_that_share_their_bytes_are_counted() {
    const STRIPS: u32 = 20_000;
    let pixels = zlib(&[7; 8]);
    let nothing = b"\0\0\0\xFF\xFF".repeat(200_000);
    let deflate = [&pixels[..2], &nothing, &pixels[2..]].concat();
    let packed = [b"\x80".repeat(1 << 20), vec![0xF9, 7]].concat();
    // Clear codes of nine bits.
    let lzw = b"\x80\x40\x20\x10\x08\x04\x02\x01\x00".repeat(100_000);
    let fax = [vec![0; 1 << 20], vec![1], vec![0x35; 20]].concat();
    for (coding, strip) in [(8, &deflate), (32_773, &packed), (5, &lzw), (3, &fax), (4, &fax)] {
        let file = tiff_of_one_strip(coding, strip, STRIPS, &[]);
        refusal(&file, "the TIFF takes more than");
    }
    let jpeg = fixture(JPEG);
    let comments = [b"\xFF\xD8".to_vec(), b"\xFF\xFE\0\x02".repeat(250_000), b"\xFF\xD9".to_vec()].concat();
    refusal(
        &tiff_of_one_strip(7, &inserted(&jpeg, 2, &comments[2..comments.len() - 2]), STRIPS, &[]),
        "the TIFF takes more than",
    );
    let tables = tiff_of_one_strip(7, &jpeg, 5000, &comments);
    refusal(&tables, "bytes of tables and strips or tiles to read");
    assert_eq!(read(&tiff_of_one_strip(7, &jpeg, 100, &[])).unwrap().height, 1200);
    // White lines that are stored once, and two such strips, are read.
    for (coding, strip, strips) in [(8, &pixels, STRIPS), (32_773, &vec![0xF9, 7], STRIPS), (8, &deflate, 2)]
    {
        let image = read(&tiff_of_one_strip(coding, strip, strips, &[])).unwrap();
        assert!(image.data.iter().all(|value| *value == 7) && image.height == strips);
    }
}

/// `rgb.j2k`, 61×47, claiming to be a larger image of one tile, with other coding parameters:
/// layers, levels, and the size of all precincts.
fn jpeg2000(side: u32, layers: u16, levels: u8, block: u8, precinct: Option<u8>) -> Vec<u8> {
    let mut file = fixture("rgb.j2k");
    for at in [8, 12, 24, 28] {
        file[at..at + 4].copy_from_slice(&side.to_be_bytes());
    }
    let at = file.windows(2).position(|marker| marker == [0xFF, 0x52]).unwrap();
    let length = usize::from(u16::from_be_bytes([file[at + 2], file[at + 3]]));
    let mut coding = file[at + 4..at + 14].to_vec();
    coding[0] = u8::from(precinct.is_some());
    coding[2..4].copy_from_slice(&layers.to_be_bytes());
    coding[5] = levels;
    (coding[6], coding[7]) = (block, block);
    coding.extend(precinct.into_iter().flat_map(|precinct| vec![precinct; usize::from(levels) + 1]));
    [&file[..at], &segment(0x52, &coding), &file[at + 2 + length..]].concat()
}

#[test]
fn packets_and_blocks_of_a_jpeg2000_are_bounded_by_its_size() {
    // Both took gigabytes.
    refusal(&jpeg2000(8000, 1, 1, 4, Some(0x11)), "packets to read");
    refusal(&jpeg2000(8000, 1, 5, 4, Some(0x11)), "packets to read");
    refusal(&jpeg2000(4000, 65_535, 5, 4, None), "packets to read");
    refusal(&jpeg2000(8000, 1, 5, 0, None), "blocks to read");
    // A large image of usual coding is refused for its missing data.
    refusal(&jpeg2000(4000, 1, 5, 4, None), "damaged or truncated");
    let plain = fixture("rgb.j2k");
    let layered = jpeg2000(64, 200, 5, 4, None);
    let start = layered.windows(2).position(|marker| marker == [0xFF, 0x90]).unwrap();
    // Two hundred thousand changes of the order.
    let change = [0, 0, 0, 1, 6, 3, 0];
    let orders: Vec<u8> = (0..40).flat_map(|_| segment(0x5F, &change.repeat(5000))).collect();
    refusal(&inserted(&layered, start, &orders), "packets in changing orders to read");
    // Empty tile parts are passed over.
    let part = |number: u8| [0xFF, 0x90, 0, 10, 0, 0, 0, 0, 0, 14, number, 0, 0xFF, 0x93];
    let parts: Vec<u8> = (0..100_000u32).flat_map(|index| part(1 + (index % 255) as u8)).collect();
    let end = plain.len() - 2;
    assert!(read(&inserted(&plain, end, &parts)).is_ok_and(|image| image == read(&plain).unwrap()));
}

/// The file has no bytes on disk.
#[test]
fn a_file_too_large_for_an_image_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.jpg");
    fs::File::create(&path).unwrap().set_len((2 << 30) + 1).unwrap();
    let message = decode_file(path.as_path(), DecodeLimits::default()).unwrap_err().to_string();
    assert!(message.contains("has 2.1 GB, too much for an image file"), "{message}");
}

fn chunk(name: &[u8], data: &[u8]) -> Vec<u8> {
    let named = [name, data].concat();
    [&(data.len() as u32).to_be_bytes()[..], &named, &crc32fast::hash(&named).to_be_bytes()].concat()
}

#[test]
fn chunks_of_a_png_take_no_longer_than_their_bytes() {
    const SIDE: u32 = 64;
    let header = [&SIDE.to_be_bytes()[..], &SIDE.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    let png = |chunks: &[Vec<u8>]| {
        let start = b"\x89PNG\r\n\x1a\n".to_vec();
        [&[start, chunk(b"IHDR", &header)], chunks, &[chunk(b"IEND", b"")]].concat().concat()
    };
    let pixels = zlib(&[0; 64 * 65]);
    let data = chunk(b"IDAT", &pixels);
    let bomb = zlib(&vec![0; 64 << 20]);
    let text =
        |name: &[u8], head: &[u8]| [chunk(name, &[head, &bomb].concat()).repeat(20), data.clone()].concat();
    let empty_blocks = [&pixels[..2], &b"\0\0\0\xFF\xFF".repeat(500_000), &pixels[2..]].concat();
    let files = [
        [chunk(b"IDAT", &pixels[..5]), chunk(b"IDAT", b"").repeat(200_000), chunk(b"IDAT", &pixels[5..])]
            .concat(),
        [chunk(b"tEXt", b"a\0b").repeat(200_000), data.clone()].concat(),
        text(b"zTXt", b"Raw profile type exif\0\0"),
        text(b"iTXt", b"XML:com.adobe.xmp\0\x01\0\0\0"),
        text(b"iCCP", b"a\0\0"),
        chunk(b"IDAT", &empty_blocks),
        // Far more than the pixels.
        chunk(b"IDAT", &zlib(&vec![0; 512 << 20])),
    ];
    for file in files {
        let image = read(&png(&[file])).unwrap();
        assert_eq!((image.width, image.height), (SIDE, SIDE));
    }
}

#[test]
fn extensions_of_a_gif_take_no_longer_than_their_bytes() {
    let plain = fixture("animated.gif");
    let frame = 13 + 3 * (2 << (plain[10] & 7)) * usize::from(plain[10] >> 7);
    let image = read(&plain).unwrap();
    let blocks = [b"\x21\xFE".to_vec(), b"\x01a".repeat(1 << 20), vec![0]].concat();
    for more in
        [b"\x21\xFE\0".repeat(500_000), blocks, b"\x21\xFF\x0bNETSCAPE2.0\x03\x01\0\0\0".repeat(100_000)]
    {
        assert!(read(&inserted(&plain, frame, &more)).unwrap() == image);
    }
}

/// Numbers of so many bits, the lowest bit first.
fn bits(fields: &[(u32, u32)], into: &mut Vec<bool>) {
    for &(number, count) in fields {
        into.extend((0..count).map(|bit| number >> bit & 1 == 1));
    }
}

/// A black lossless WebP of 4x4 pixels with so many groups of codes, of which the last is used. Its
/// codes have words of one length: 2048 of green's, and 256 of each other colour's.
fn webp_of_groups(groups: u32) -> Vec<u8> {
    let mut stream = Vec::new();
    bits(&[(0x2F, 8), (3, 14), (3, 14), (0, 4)], &mut stream);
    // No transform, a cache of 2^11 colours, groups for blocks of four pixels: an image of one pixel,
    // whose red and green are the number of its group.
    bits(&[(0, 1), (1, 1), (11, 4), (1, 1), (0, 3), (0, 1)], &mut stream);
    for color in [(groups - 1) & 255, (groups - 1) >> 8, 0, 0, 0] {
        bits(&[(0b101, 3), (color, 8)], &mut stream);
    }
    // Lengths of the words for the lengths, of which the last has no bits.
    let of_length =
        |place: u32| [vec![(0, 1), (place - 3, 4)], vec![(0, 3); place as usize], vec![(1, 3)]].concat();
    let mut group = Vec::new();
    bits(&of_length(14), &mut group);
    bits(&[(1, 1), (5, 3), (2046, 12)], &mut group);
    for _ in 0..3 {
        bits(&of_length(11), &mut group);
        bits(&[(0, 1)], &mut group);
    }
    bits(&[(0b0001, 4)], &mut group);
    stream.extend(group.repeat(groups as usize));
    stream.resize((stream.len() + 16 * (11 + 3 * 8)).next_multiple_of(16), false);
    let byte = |bits: &[bool]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
    let data: Vec<u8> = stream.chunks(8).map(byte).collect();
    let length = data.len() as u32;
    [b"RIFF", &(length + 12).to_le_bytes()[..], b"WEBPVP8L", &length.to_le_bytes(), &data].concat()
}

#[test]
fn tables_of_a_lossless_webp_are_bounded_by_its_size() {
    // All groups took 3.9 GB.
    refusal(&webp_of_groups(65_536), "the WebP takes more than");
    refusal(&webp_of_groups(2600), "bytes of tables to read");
    assert_eq!(read(&webp_of_groups(1500)).unwrap().data, [0; 48]);
    let image = read(&fixture("groups.webp")).unwrap();
    assert!(image == read(&fixture("groups.webp.png")).unwrap());
}

#[test]
fn the_other_formats_take_no_longer_than_their_bytes() {
    let webp = fixture("exif1.webp");
    let mut chunks = inserted(&webp, webp.len(), &b"junk\0\0\0\0".repeat(400_000));
    let length = chunks.len() as u32 - 8;
    chunks[4..8].copy_from_slice(&length.to_le_bytes());
    assert!(read(&chunks).unwrap() == read(&webp).unwrap());

    // Runs of nothing: moves by no column and no line.
    let mut bmp =
        b"BM\0\0\0\0\0\0\0\0\x36\x04\0\0\x28\0\0\0\x40\0\0\0\x40\0\0\0\x01\0\x08\0\x01\0\0\0".to_vec();
    bmp.extend([[0; 12].as_slice(), &[0, 1, 0, 0], &[0; 4], &[0; 1024]].concat());
    bmp.extend(b"\0\x02\0\0".repeat(1 << 20));
    bmp.extend([0, 1]);
    assert_eq!(read(&bmp).unwrap().width, 64);

    let comments = [b"P5\n".to_vec(), b"#\n".repeat(1 << 20), b"8 8 255\n".to_vec(), vec![0; 64]].concat();
    assert_eq!(read(&comments).unwrap().width, 8);
    refusal(b"P5 30000 30000 255\n0", "over the limit");
    refusal(b"P5 13000 13000 255\n0", "truncated");
}
