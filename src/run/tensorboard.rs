//! TensorBoard's event file of a run: its scalars epoch by epoch, and pictures at the end.
//!
//! The file is a sequence of records (TensorFlow's `tensorflow/core/lib/io/record_writer.h`), each a
//! protocol buffer `Event` (`tensorflow/core/util/event.proto`, `framework/summary.proto`), of which
//! a few fields are written, by hand. Its times are those of the clock; nothing else of a run
//! depends on them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::history::EpochRow;
use crate::error::{Error, Result};
use crate::preprocess::{RgbImage, encode_png};
use crate::util::atomic::AtomicFile;
use crate::util::files;

/// The folder in a run folder, for `tensorboard --logdir`.
pub const FOLDER: &str = "tensorboard";
/// One name for the whole of a run, so that a resumed one goes on in the same file: TensorBoard looks
/// for `tfevents`.
const FILE: &str = "events.out.tfevents.0000000000.tl";
/// The value of the first event.
const VERSION: &str = "brain.Event:2";

/// The path of a run folder's event file.
pub fn file_in(run: &Path) -> PathBuf {
    run.join(FOLDER).join(FILE)
}

/// Replaces the file at `path` by the events of these epochs, the last of which has just ended.
pub fn rewrite(path: &Path, rows: &[EpochRow]) -> Result<()> {
    let now = now();
    let mut bytes = record(&event(now, 0, &[text(3, VERSION.as_bytes())]));
    let mut since: f64 = rows.iter().map(|row| row.seconds).sum();
    for row in rows {
        since -= row.seconds;
        bytes.extend(record(&of_row(now - since, row)));
    }
    AtomicFile::write(path, &bytes)
}

/// Adds the events of an epoch that has just ended.
pub fn append(path: &Path, row: &EpochRow) -> Result<()> {
    append_event(path, &of_row(now(), row))
}

/// Adds a picture of this epoch.
pub fn append_picture(path: &Path, tag: &str, epoch: usize, picture: &RgbImage) -> Result<()> {
    const RGB: u64 = 3;
    let png = encode_png(picture)?;
    let (height, width) = (u64::from(picture.height), u64::from(picture.width));
    let image = [number(1, height), number(2, width), number(3, RGB), text(4, &png)].concat();
    let value = [text(1, tag.as_bytes()), text(4, &image)].concat();
    append_event(path, &event(now(), epoch, &[text(5, &text(1, &value))]))
}

fn append_event(path: &Path, event: &[u8]) -> Result<()> {
    let append = || -> io::Result<()> {
        let mut file = files::append(path)?;
        file.write_all(&record(event))?;
        file.sync()
    };
    append().map_err(Error::io("write", path))
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0., |time| time.as_secs_f64())
}

/// The scalars of an epoch, with TensorBoard's usual tags: it groups them by what stands before the
/// `/`.
fn of_row(time: f64, row: &EpochRow) -> Vec<u8> {
    let scalars = [
        ("loss/train", row.train_loss),
        ("loss/val", row.val_loss),
        ("accuracy/train", row.train_accuracy),
        ("accuracy/val", row.val_accuracy),
        ("lr", row.lr),
        ("images_per_second", row.images_per_second),
    ];
    let values: Vec<u8> = scalars
        .iter()
        .flat_map(|&(tag, value)| text(1, &[text(1, tag.as_bytes()), float(2, value as f32)].concat()))
        .collect();
    event(time, row.epoch, &[text(5, &values)])
}

/// An `Event` of a time, in seconds since 1970, and a step.
fn event(time: f64, step: usize, fields: &[Vec<u8>]) -> Vec<u8> {
    let mut event = vec![1 << 3 | 1];
    event.extend(time.to_le_bytes());
    event.extend(number(2, step as u64));
    event.extend(fields.concat());
    event
}

/// A field of bytes or of a message.
fn text(field: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![field << 3 | 2];
    out.extend(varint(bytes.len() as u64));
    out.extend(bytes);
    out
}

/// A field of an integer.
fn number(field: u8, value: u64) -> Vec<u8> {
    let mut out = vec![field << 3];
    out.extend(varint(value));
    out
}

/// A field of a float.
fn float(field: u8, value: f32) -> Vec<u8> {
    let mut out = vec![field << 3 | 5];
    out.extend(value.to_le_bytes());
    out
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A record: its length, the bytes, and a checksum of each.
fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    [&length, &masked(&length)[..], bytes, &masked(bytes)].concat()
}

/// CRC-32C, rotated and shifted: a checksum of bytes that hold checksums would be weak.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// CRC-32C (Castagnoli; RFC 3720, B.4), bit by bit: a run writes a few kilobytes.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let fold = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 })
    };
    !bytes.iter().fold(!0, fold)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, B.4: 32 bytes of zeros, of ones, ascending.
    #[test]
    fn checksums_are_those_of_the_standard() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
    }

    /// As `google.protobuf` writes `Event(wall_time=1.5, step=300, summary=…)`.
    #[test]
    fn an_event_is_a_protocol_buffer() {
        let value = [text(1, b"lr"), float(2, 0.5)].concat();
        let event = event(1.5, 300, &[text(5, &text(1, &value))]);
        let expected: [u8; 25] = [
            0x09, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0x10, 0xac, 0x02, 0x2a, 0x0b, 0x0a, 0x09, 0x0a, 0x02, b'l',
            b'r', 0x15, 0, 0, 0, 0x3f,
        ];
        assert_eq!(event, expected);
        assert_eq!(&record(&event)[..8], &25u64.to_le_bytes());
    }
}
