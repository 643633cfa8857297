//! Images without files of their own: raw and of one size, many in a file.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::RgbImage;
use super::decode::DecodeLimits;
use crate::error::{Error, Result};
use crate::text::path_text::path_text;

/// Source of an image.
#[derive(Clone, Copy, Debug)]
pub enum ImageAt<'a> {
    /// From a file of its own.
    File(&'a Path),
    /// From among many in a file.
    Record(&'a Record),
}

impl<'a> ImageAt<'a> {
    /// The record, if there is one, else the file at `path`.
    pub fn of(path: &'a Path, record: Option<&'a Record>) -> Self {
        record.map_or(ImageAt::File(path), ImageAt::Record)
    }
}

impl<'a> From<&'a Path> for ImageAt<'a> {
    fn from(path: &'a Path) -> Self {
        ImageAt::File(path)
    }
}

impl<'a> From<&'a PathBuf> for ImageAt<'a> {
    fn from(path: &'a PathBuf) -> Self {
        ImageAt::File(path)
    }
}

/// A file of many raw images.
pub struct Packed {
    /// Its path.
    pub path: PathBuf,
    /// Its contents.
    pub bytes: Bytes,
    /// Offset of the first image's pixels.
    pub start: u64,
    /// Distance between two images' pixels, in bytes.
    pub stride: u64,
    /// Columns and rows of each image.
    pub size: (u32, u32),
    /// Order of the values.
    pub channels: Channels,
}

/// The bytes of a file of images.
pub enum Bytes {
    /// On disk.
    File(File),
    /// In memory, because the file keeps them in another form.
    Memory(Vec<u8>),
}

/// Order of the values of a raw image, a byte each, rows from the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// A byte a pixel.
    Grey,
    /// All of red, then all of green, then all of blue.
    Planes,
}

impl Packed {
    /// Fills `out` with the bytes from `place` on.
    fn read(&self, place: u64, out: &mut [u8]) -> std::io::Result<()> {
        match &self.bytes {
            Bytes::File(file) => file.read_exact_at(out, place),
            Bytes::Memory(bytes) => {
                let start = usize::try_from(place).ok();
                let found = start.and_then(|start| bytes.get(start..)?.get(..out.len()));
                out.copy_from_slice(found.ok_or(std::io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}

/// One of the images of a file.
#[derive(Clone)]
pub struct Record {
    file: Arc<Packed>,
    /// Counted from 0.
    index: usize,
}

impl Record {
    /// Image `index`, counted from 0, of `file`.
    pub fn new(file: &Arc<Packed>, index: usize) -> Self {
        Record { file: Arc::clone(file), index }
    }

    /// The path of its file.
    pub fn file(&self) -> &Path {
        &self.file.path
    }

    /// Its index there, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The file and the number: `data_batch_1.bin#1234`.
    pub fn path(&self) -> PathBuf {
        let mut path = self.file.path.clone().into_os_string();
        path.push(format!("#{}", self.index));
        path.into()
    }

    /// The pixels as stored in the file.
    ///
    /// # Errors
    /// [`Error::Io`] if they cannot be read, or no longer exist.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let (width, height) = self.file.size;
        let values = if self.file.channels == Channels::Grey { 1 } else { 3 };
        let mut bytes = vec![0; width as usize * height as usize * values];
        let place = self.file.start + self.index as u64 * self.file.stride;
        self.file.read(place, &mut bytes).map_err(Error::io("read", self.path()))?;
        Ok(bytes)
    }

    /// The image; a grey one with three equal channels.
    ///
    /// # Errors
    /// Those of [`Record::bytes`], and [`Error::File`] for an image over the limits.
    pub fn image(&self, limits: DecodeLimits) -> Result<RgbImage> {
        let (width, height) = self.file.size;
        limits.check(width, height).map_err(|message| Error::file(self.path(), message))?;
        let bytes = self.bytes()?;
        let mut image = RgbImage::black(width, height);
        let plane = match self.file.channels {
            Channels::Grey => 0,
            Channels::Planes => width as usize * height as usize,
        };
        for (index, pixel) in image.data.chunks_exact_mut(3).enumerate() {
            pixel.copy_from_slice(&[bytes[index], bytes[plane + index], bytes[2 * plane + index]]);
        }
        Ok(image)
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", path_text(&self.path()))
    }
}

/// Records are equal if they are in the same place.
impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index && self.file.path == other.file.path
    }
}

impl Eq for Record {}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(bytes: &[u8], channels: Channels, stride: u64) -> Arc<Packed> {
        let (path, bytes) = ("x.bin".into(), Bytes::Memory(bytes.to_vec()));
        Arc::new(Packed { path, bytes, start: 1, stride, size: (2, 1), channels })
    }

    #[test]
    fn planes_and_grey_become_pixels() {
        let limits = DecodeLimits::default();
        let planes = packed(&[9, 1, 2, 3, 4, 5, 6, 9, 7, 8, 9, 10, 11, 12], Channels::Planes, 7);
        let image = |index| Record::new(&planes, index).image(limits);
        assert_eq!(image(0).unwrap().data, [1, 3, 5, 2, 4, 6]);
        assert_eq!(image(1).unwrap().data, [7, 9, 11, 8, 10, 12]);
        let error = image(2).unwrap_err().to_string();
        assert!(error.starts_with("cannot read x.bin#2: "), "{error}");
        let grey = Record::new(&packed(&[9, 1, 2], Channels::Grey, 2), 0);
        assert_eq!(
            grey.image(limits).unwrap(),
            RgbImage { width: 2, height: 1, data: vec![1, 1, 1, 2, 2, 2] }
        );
        let error = grey.image(DecodeLimits { max_pixels: 1, ..limits }).unwrap_err().to_string();
        assert!(error.starts_with("x.bin#0: is 2x1"), "{error}");
    }
}
