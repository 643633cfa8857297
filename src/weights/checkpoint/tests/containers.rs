//! Containers that lie or contradict themselves.

use super::make::{Pickler, dict_of, zip, zip64};
use super::{fixture, read, refusal};

#[test]
fn zip_entries_that_lie_are_refused() {
    let pickle = dict_of(1, 0, &[1], &[1]);
    let data = 1.0f32.to_le_bytes();
    let twice = zip(&[("x/data.pkl", &pickle), ("x/data/0", &data), ("x/data/0", &data)]);
    insta::assert_snapshot!(refusal(&twice), @"is damaged: its entry `x/data/0` occurs twice; download or copy it again");
    assert!(refusal(&zip(&[("photo.png", b"...")])).starts_with("is a zip archive, but not one of PyTorch"));
    assert!(refusal(&zip(&[])).starts_with("is an empty zip archive"));
    insta::assert_snapshot!(refusal(&zip(&[("x/data.pkl", &pickle)])), @"the tensor `a` refers to the storage `0`, which the file lacks");
    let big = zip(&[("x/data.pkl", &pickle), ("x/data/0", &data), ("x/byteorder", b"big")]);
    insta::assert_snapshot!(refusal(&big), @"was written on a big-endian machine, which is not supported; load it in PyTorch and save it again");

    let good = zip(&[("x/data.pkl", &pickle), ("x/data/0", &data)]);
    assert!(read(&good).is_ok());
    let second = good.len() - 22 - 46 - "x/data/0".len();
    let change = |offset: usize, value: &[u8]| {
        let mut bytes = good.clone();
        bytes[second + offset..][..value.len()].copy_from_slice(value);
        refusal(&bytes)
    };
    let elsewhere: [(usize, &[u8]); 5] = [
        (42, &[0; 4]),       // the place of another entry
        (42, &[0xfe; 4]),    // beyond the file
        (20, &[0xf0; 8]),    // a size beyond the file
        (10, &[8, 0]),       // another way of compression
        (16, &[1, 2, 3, 4]), // two checksums
    ];
    for (offset, value) in elsewhere {
        insta::allow_duplicates!(
            insta::assert_snapshot!(change(offset, value), @"is damaged: its entry `x/data/0` is not where the directory says; download or copy it again")
        );
    }
    // 64-bit, but no such field.
    insta::assert_snapshot!(change(42, &[0xff; 4]), @"is damaged: its zip directory contradicts itself; download or copy it again");
    insta::assert_snapshot!(change(8, &[1, 0]), @"is a zip archive with a password (its entry `x/data/0`), not one of PyTorch");

    let mut compressed = good.clone();
    compressed[second + 10] = 8;
    let local = compressed.windows(4).rposition(|bytes| bytes == b"PK\x03\x04").unwrap();
    compressed[local + 8] = 8;
    insta::assert_snapshot!(refusal(&compressed), @"is a compressed zip archive (its entry `x/data/0`), which PyTorch does not write; unpack it, and zip it again without compression");

    // One entry whose length overlaps the next.
    let mut overlap = good.clone();
    let size = (pickle.len() as u32 + 10).to_le_bytes();
    for at in [18, 22, second - 46 - "x/data.pkl".len() + 20, second - 46 - "x/data.pkl".len() + 24] {
        overlap[at..at + 4].copy_from_slice(&size);
    }
    insta::assert_snapshot!(refusal(&overlap), @"is damaged: its entries `x/data.pkl` and `x/data/0` overlap; download or copy it again");

    // One bit of the data.
    let mut flipped = good.clone();
    let at = flipped.windows(4).position(|bytes| bytes == data).unwrap();
    flipped[at] ^= 1;
    insta::assert_snapshot!(refusal(&flipped), @"is damaged: the checksum of its entry `x/data/0` does not match; download or copy it again");
}

/// Files beyond 4 GB have lengths and offsets in an extra field; PyTorch's own smaller ones have
/// the rest of zip64.
#[test]
fn sizes_of_64_bits_are_read_and_checked() {
    let (pickle, data) = (dict_of(1, 0, &[1], &[1]), 1.0f32.to_le_bytes());
    let wide = zip64(&[("x/data.pkl", &pickle), ("x/data/0", &data)]);
    assert_eq!(read(&wide).unwrap().tensors[0].1.bytes, data);
    // The last extra field: 8 bytes each of size, packed size and offset, before the end record.
    let field = wide.len() - 22 - 24;
    for (at, value, expected) in [
        (0, u64::MAX, "contradicts itself"),
        (0, 5, "contradicts itself"),
        (16, 0, "is not where the directory says"),
        (16, u64::MAX, "is not where the directory says"),
        (16, u64::MAX - 40, "is not where the directory says"),
    ] {
        let mut bytes = wide.clone();
        bytes[field + at..][..8].copy_from_slice(&value.to_le_bytes());
        assert!(refusal(&bytes).contains(expected), "{at} {value}: {}", refusal(&bytes));
    }
    let mut both = wide.clone();
    both[field..field + 16].fill(0xff);
    insta::assert_snapshot!(refusal(&both), @"is damaged: its entry `x/data/0` is not where the directory says; download or copy it again");
}

#[test]
fn a_legacy_stream_that_lies_is_refused() {
    let good = fixture("plain.legacy.pth");
    // The last storage: 8 bytes of length, 2 floats.
    for length in [3u64, u64::MAX, 1 << 62] {
        let mut bytes = good.clone();
        let at = bytes.len() - 16;
        bytes[at..at + 8].copy_from_slice(&length.to_le_bytes());
        assert!(refusal(&bytes).starts_with("is cut short: it holds 5 of 6 storages"));
    }
    let mut shorter = good.clone();
    let at = shorter.len() - 16;
    shorter[at..at + 8].copy_from_slice(&1u64.to_le_bytes());
    insta::assert_snapshot!(refusal(&shorter), @"the tensor `fc.bias` should have a storage of 2 elements of 4 bytes, but it has 4 bytes: the file is damaged");
    let mut longer = good.clone();
    longer.extend(b"more");
    assert!(read(&longer).unwrap().warnings[0].starts_with("4 bytes follow"));
    let big_endian = Pickler::new().op(b"}").text("little_endian").op(b"\x89s").stop();
    let stream =
        [b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".as_slice(), &big_endian].concat();
    insta::assert_snapshot!(refusal(&stream), @"was written on a big-endian machine, which is not supported; load it in PyTorch and save it again");
}

#[test]
fn a_safetensors_header_that_lies_is_refused() {
    let file = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(vec![0; data]);
        bytes
    };
    let a = r#""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    assert!(read(&file(&format!("{{{a}}}"), 4)).is_ok());
    assert_eq!(
        refusal(&file(&format!("{{{a},{a}}}"), 4)),
        "holds the key `a` twice: it is damaged or hostile"
    );
    let cases = [
        (format!("{{{a}}}"), 3, "is cut short: its tensors need 4 bytes and 3 are there"),
        (format!("{{{a}}}"), 5, "is damaged: bytes follow its last tensor"),
        (a.replace("[1]", "[2]"), 4, "is damaged: the place of a tensor does not have"),
        (a.replace("[1]", "[9223372036854775807,4]"), 4, "is damaged: the size of a tensor is beyond"),
        (a.replace("[0,4]", "[4,8]"), 8, "is damaged: the place of its tensor `a` leaves a gap"),
        (a.replace("F32", "C64"), 4, "is damaged: the place of a tensor does not have"),
        (a.replace("F32", "F99"), 4, "is damaged: its header cannot be understood"),
        (a.replace("F32", "U32"), 4, "the tensor `a` holds elements of kind U32"),
        (
            r#""__metadata__":{"k":"1","k":"2"}"#.into(),
            0,
            "is damaged: its header is not valid JSON (the key `k` occurs twice",
        ),
        ("[".repeat(100_000), 0, "is damaged: its header is not valid JSON"),
    ];
    for (header, data, expected) in cases {
        let header = if header.starts_with('{') { header } else { format!("{{{header}}}") };
        let message = refusal(&file(&header, data));
        assert!(message.starts_with(expected), "{header:.80}: {message}");
    }
    let mut long = file(&format!("{{{a}}}"), 4);
    long[..8].copy_from_slice(&(1u64 << 39).to_le_bytes());
    insta::assert_snapshot!(refusal(&long), @"is damaged: it claims a header of 549755813888 bytes, which no model has; download or copy it again");
    long[..8].copy_from_slice(&1000u64.to_le_bytes());
    assert!(refusal(&long).starts_with("is cut short: its header"));
}

#[test]
fn another_tar_is_named() {
    let mut archive = ::tar::Builder::new(Vec::new());
    let mut header = ::tar::Header::new_ustar();
    header.set_size(3);
    header.set_mode(0o644);
    archive.append_data(&mut header, "photo.txt", &b"abc"[..]).unwrap();
    let bytes = archive.into_inner().unwrap();
    assert!(refusal(&bytes).starts_with("is a tar archive, but not one of PyTorch: it holds `photo.txt`"));
}
