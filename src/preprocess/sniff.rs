//! Recognises file formats by their first bytes.

/// Number of bytes that [`format`] examines.
pub(super) const ENOUGH: u64 = 4096;

/// The formats that can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Jpeg,
    Png,
    Gif,
    WebP,
    Bmp,
    Tiff,
    Jpeg2000,
    Pnm,
}

impl Format {
    pub(super) fn name(self) -> &'static str {
        match self {
            Format::Jpeg => "JPEG",
            Format::Png => "PNG",
            Format::Gif => "GIF",
            Format::WebP => "WebP",
            Format::Bmp => "BMP",
            Format::Tiff => "TIFF",
            Format::Jpeg2000 => "JPEG 2000",
            Format::Pnm => "PNM",
        }
    }
}

/// The format, or a description of what the bytes are instead, with a remedy.
pub(super) fn format(bytes: &[u8]) -> Result<Format, String> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    let at = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    if starts(b"\xFF\xD8\xFF") {
        Ok(Format::Jpeg)
    } else if starts(b"\x89PNG\r\n\x1A\n") {
        Ok(Format::Png)
    } else if starts(b"GIF87a") || starts(b"GIF89a") {
        Ok(Format::Gif)
    } else if starts(b"RIFF") && at(8, b"WEBP") {
        Ok(Format::WebP)
    } else if starts(b"BM") {
        Ok(Format::Bmp)
    } else if starts(b"II*\0") || starts(b"MM\0*") || starts(b"II+\0") || starts(b"MM\0+") {
        Ok(Format::Tiff)
    } else if starts(b"\0\0\0\x0CjP  ") || starts(b"\xFF\x4F\xFF\x51") {
        Ok(Format::Jpeg2000)
    } else if is_pnm(bytes) {
        Ok(Format::Pnm)
    } else {
        Err(not_an_image(bytes))
    }
}

/// `P1` to `P6`, a blank, and then numbers or a comment: two letters alone begin many texts.
fn is_pnm(bytes: &[u8]) -> bool {
    match bytes {
        [b'P', b'1'..=b'6', blank, rest @ ..] if blank.is_ascii_whitespace() => {
            let next = rest.iter().find(|byte| !byte.is_ascii_whitespace());
            next.is_some_and(|byte| byte.is_ascii_digit() || *byte == b'#')
        }
        _ => false,
    }
}

/// Formats that are not supported: offset of the magic, the magic, the name.
const UNREAD: [(usize, &[u8], &str); 15] = [
    (4, b"ftypavif", "an AVIF image"),
    (4, b"ftypavis", "an AVIF image"),
    (4, b"ftyphei", "a HEIC image"),
    (4, b"ftyphev", "a HEIC image"),
    (4, b"ftypmif1", "a HEIF image"),
    (4, b"ftypmsf1", "a HEIF image"),
    (4, b"ftyp", "a video"),
    (0, b"\0\0\0\x0CJXL ", "a JPEG XL image"),
    (0, b"\xFF\x0A", "a JPEG XL image"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"%PDF", "a PDF document"),
    (0, b"v/1\x01", "an OpenEXR image"),
    (0, b"\0\0\x01\0", "a Windows icon"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1F\x8B", "a gzip archive"),
];

fn not_an_image(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "the file is empty; copy or download it again".to_string();
    }
    if bytes.iter().take(ENOUGH as usize).all(|&byte| byte == 0) {
        return "holds only zero bytes, as a broken copy does; copy or download it again".to_string();
    }
    for (offset, magic, name) in UNREAD {
        if bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic)) {
            return format!("is {name}, which is not read; convert it to JPEG or PNG");
        }
    }
    if let Some(text) = leading_text(bytes) {
        let text = text.trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
        return if text.starts_with("<!doctype html") || text.starts_with("<html") || text.starts_with("<head")
        {
            "is a web page, not an image, as a failed download is; download it again".to_string()
        } else if text.starts_with("<svg") || (text.starts_with("<?xml") && text.contains("<svg")) {
            "is an SVG drawing, which is not read; convert it to PNG".to_string()
        } else if text.starts_with("version https://git-lfs") {
            "is a Git LFS pointer, not the image itself; run `git lfs pull`".to_string()
        } else {
            "is a text file, not an image".to_string()
        };
    }
    let start: Vec<String> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!(
        "is no image that is known: it begins with the bytes {}; convert it to JPEG or PNG",
        start.join(" ")
    )
}

/// The file's beginning, if it is text.
fn leading_text(bytes: &[u8]) -> Option<&str> {
    let start = &bytes[..bytes.len().min(512)];
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        // The cut may fall inside a character.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t' | '\u{c}')).then_some(text)
}
