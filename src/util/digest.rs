//! The sha256 of a weight file, and its digits in torchvision's file names.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Fewer digits than this are a word that happens to be hexadecimal (`vgg-bad.pth`), not a digest.
/// torchvision writes 8 or 10.
const MIN_DIGITS: usize = 6;

/// An incremental sha256.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// The digest of no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds the rest of `reader`, and returns its length in bytes.
    pub fn update_from(&mut self, mut reader: impl Read) -> std::io::Result<u64> {
        let mut buffer = vec![0; 1 << 17];
        let mut total = 0;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(total),
                Ok(read) => {
                    self.update(&buffer[..read]);
                    total += read as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The sha256 of the bytes so far: 64 lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(64);
        for byte in self.0.clone().finalize() {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

/// The sha256 of a file as 64 lower-case hexadecimal digits.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read.
pub fn sha256_of_file(path: &Path) -> Result<String> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let mut hasher = Hasher::new();
    hasher.update_from(file).map_err(Error::io("read", path))?;
    Ok(hasher.hex())
}

/// The leading sha256 digits in a file name, between its last `-` and the `.` after it: `f37072fd`
/// in `resnet18-f37072fd.pth`. `None` if there are none.
pub fn digits_in_name(file_name: &str) -> Option<&str> {
    let (_, tail) = file_name.rsplit_once('-')?;
    let (digits, _) = tail.split_once('.')?;
    let hexadecimal = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (hexadecimal && (MIN_DIGITS..=64).contains(&digits.len())).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_after_the_last_dash() {
        assert_eq!(digits_in_name("resnet18-f37072fd.pth"), Some("f37072fd"));
        assert_eq!(digits_in_name("alexnet-owt-7be5be79.pth"), Some("7be5be79"));
        assert_eq!(digits_in_name("shufflenetv2_x0.5-f707e7126e.pth"), Some("f707e7126e"));
        assert_eq!(digits_in_name("vgg-bad.pth"), None);
        assert_eq!(digits_in_name("resnet18.pth"), None);
        assert_eq!(digits_in_name("resnet18-f37072fd"), None);
        assert_eq!(digits_in_name("resnet18-F37072FD.pth"), None);
    }

    #[test]
    fn the_digest_is_sha256() {
        let mut hasher = Hasher::new();
        hasher.update(b"a");
        hasher.update_from(&b"bc"[..]).unwrap();
        // FIPS 180-2, appendix B.1.
        assert_eq!(hasher.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
