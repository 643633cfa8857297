//! The container of a file, by its first bytes.

use super::{AGAIN, pickle};
use crate::text::words::counted;

/// Bytes that [`Container::of`] needs: a tar's first header.
pub(super) const HEAD_BYTES: u64 = 512;

/// Containers of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    /// PyTorch 1.6 and later.
    Zip,
    /// PyTorch 0.1.10 to 1.5: pickles and raw storages, one after another. Also any other pickle.
    Legacy,
    /// PyTorch before 0.1.10.
    Tar,
    /// Hugging Face's format: a JSON header and raw bytes.
    Safetensors,
}

impl Container {
    /// The container of a file that begins with `head` (the whole file if it is shorter than
    /// [`HEAD_BYTES`]).
    ///
    /// # Errors
    ///
    /// A description of the file instead, if it can be told.
    pub(super) fn of(head: &[u8]) -> Result<Self, String> {
        if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
            return Ok(Container::Zip);
        }
        if head.get(257..262) == Some(b"ustar") {
            return Ok(Container::Tar);
        }
        // The header's length comes first. No real header reaches 2^40 bytes, so text is not
        // mistaken for one; nor is a pickle, whose first bytes are also those of lengths such as
        // 0x580.
        if head.len() > 8 && head[8] == b'{' && head[5..8] == [0, 0, 0] {
            return Ok(Container::Safetensors);
        }
        // Pickles of protocol 2 and later begin with 0x80 and the protocol; older ones with the
        // magic number as a line of text.
        let beginning = &head[..head.len().min(pickle::MAGIC_AS_TEXT_OPCODE.len())];
        let as_text = head.len() >= 16 && pickle::MAGIC_AS_TEXT_OPCODE.starts_with(beginning);
        if matches!(head, [0x80, 0..=5, ..]) || as_text {
            return Ok(Container::Legacy);
        }
        Err(what_else(head))
    }
}

/// Describes a file that holds no weights.
fn what_else(head: &[u8]) -> String {
    let expected = "expected PyTorch weights (.pth, .pt) or safetensors";
    if head.is_empty() {
        return format!("is empty{AGAIN}");
    }
    let short = format!(
        "is cut short, or no weights file at all ({}); {expected}{AGAIN}",
        counted(head.len(), "byte", "bytes")
    );
    if head.len() < 16 {
        return short;
    }
    let is = |magic: &[u8]| head.starts_with(magic);
    let binary = match () {
        () if is(b"\x1f\x8b") => Some("is compressed with gzip; unpack it first (gunzip)"),
        () if is(b"\xfd7zXZ") => Some("is compressed with xz; unpack it first (unxz)"),
        () if is(b"\x28\xb5\x2f\xfd") => Some("is compressed with zstd; unpack it first (unzstd)"),
        () if is(b"BZh") => Some("is compressed with bzip2; unpack it first (bunzip2)"),
        () if is(b"7z\xbc\xaf") => Some("is a 7-zip archive; unpack it first"),
        () if is(b"Rar!") => Some("is a RAR archive; unpack it first"),
        () if is(b"\x89HDF") => Some("is an HDF5 file (Keras, perhaps), not PyTorch weights"),
        () if is(b"GGUF") => Some("is a GGUF file, not PyTorch weights"),
        () if is(b"\x93NUMPY") => Some("is a NumPy array, not PyTorch weights"),
        () if is(b"\x89PNG") || is(b"\xff\xd8\xff") || is(b"GIF8") => Some("is an image, not a weights file"),
        () if is(b"%PDF") => Some("is a PDF document, not a weights file"),
        () if is(b"\x7fELF") || is(b"MZ") => Some("is a program, not a weights file"),
        () => None,
    };
    if let Some(message) = binary {
        return message.into();
    }
    if is(b"version https://git-lfs") {
        return "is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`".into();
    }
    if head.iter().all(|&byte| byte == 0) {
        return format!("holds zeros only: a download that did not finish, perhaps{AGAIN}");
    }
    if let Some(text) = as_text(head) {
        let text = text.trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
        if ["<!doctype html", "<html", "<head", "<body", "<!--"].iter().any(|start| text.starts_with(start)) {
            return "is a web page (HTML), not a weights file: the download was answered with an error or a \
                    log-in page; download it again"
                .into();
        }
        if text.starts_with("<?xml") || text.starts_with("<error") {
            return "is an XML document (a storage service's error, perhaps), not a weights file; download it again"
                .into();
        }
        return format!("is a text file, not a weights file; {expected}");
    }
    // A tar is recognised only by the end of its first header.
    if (head.len() as u64) < HEAD_BYTES {
        return short;
    }
    format!("is no weights file that is known here; {expected}")
}

/// The bytes as text if they are printable UTF-8, up to a character cut off by the head's end.
fn as_text(head: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let printable = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t' | '\u{c}');
    text.chars().all(printable).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_told_by_content() {
        let mut tar = vec![b'x'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(Container::of(&tar), Ok(Container::Tar));
        assert_eq!(Container::of(b"PK\x03\x04 and so on"), Ok(Container::Zip));
        assert_eq!(Container::of(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."), Ok(Container::Legacy));
        assert_eq!(Container::of(b"L119547037146038801333356L\n."), Ok(Container::Legacy));
        assert_eq!(Container::of(b"\x02\0\0\0\0\0\0\0{}"), Ok(Container::Safetensors));
        // A header of 1408 bytes: its length starts with the same bytes as a pickle of protocol 5.
        assert_eq!(Container::of(b"\x80\x05\0\0\0\0\0\0{\"a"), Ok(Container::Safetensors));
        assert_eq!(Container::of(b"\x80\x04\x95{\0\0\0\0\0\0\0}"), Ok(Container::Legacy));
    }

    #[test]
    fn what_is_no_checkpoint_is_named() {
        let cases: [(&[u8], &str); 9] = [
            (b"", "is empty"),
            (b"PK", "is cut short"),
            (b"\n <!DOCTYPE html><html><title>Sign in</title>", "is a web page (HTML)"),
            (b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code>", "is an XML document"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "is a Git LFS pointer"),
            (b"\x1f\x8b\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "is compressed with gzip"),
            (b"conv1.weight: [1, 2, 3]\n", "is a text file"),
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is an image"),
            (
                b"\xfe\xed\xfa\xcf\0\0\0\0\0\0\0\0\0\0\0\0\0",
                "is cut short, or no weights file at all (17 bytes)",
            ),
        ];
        for (head, expected) in cases {
            let message = Container::of(head).unwrap_err();
            assert!(message.starts_with(expected), "{message}");
        }
        assert!(Container::of(&[0; 512]).unwrap_err().starts_with("holds zeros only"));
        assert!(Container::of(&[0xfe; 512]).unwrap_err().starts_with("is no weights file that is known"));
    }
}
