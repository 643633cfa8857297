//! Safe interface to mozjpeg's copy of the libjpeg-turbo decoder, as far as reading lines needs it.
//!
//! libjpeg reports errors by calling a function that must not return; here it unwinds, with a
//! `String` that begins with `libjpeg fatal error: `, with [`Truncated`] or with [`TooMuch`]. Every
//! method may do so.

use std::marker::PhantomData;
use std::mem;
use std::ops::Range;
use std::os::raw::{c_int, c_long};
use std::panic::resume_unwind;
use std::ptr::{self, NonNull};

use mozjpeg_sys as ffi;

use crate::util::budget::Budget;

pub(super) use ffi::J_COLOR_SPACE as Space;

/// Thrown if the data ends before the image. libjpeg would continue with grey pixels.
pub(super) struct Truncated;

/// Thrown if a file makes more work than its size explains: what is wrong with it.
pub(super) struct TooMuch(pub String);

/// `JMSG_LENGTH_MAX` of `jpeglib.h`: the array that libjpeg formats a message into.
const LONGEST_MESSAGE: usize = 200;

/// The EXIF and XMP marker, APP1.
const APP1: c_int = 0xE1;

/// Maximum number of scans. Real files have a dozen at most; a small file with thousands of scans
/// over a large image would decode for hours.
const MAX_SCANS: c_int = 500;

/// Scans that an image of any size may have, as rows of blocks are counted. An empty scan takes ten
/// bytes, and half a nanosecond a pixel.
const SCANS: u64 = 64;

/// The pixels of further scans, for small images.
pub(super) const MORE_SCANS: u64 = 1 << 29;

/// What libjpeg keeps pointers to, from one part to another.
struct Parts<'a> {
    info: ffi::jpeg_decompress_struct,
    error: ffi::jpeg_error_mgr,
    source: ffi::jpeg_source_mgr,
    progress: ffi::jpeg_progress_mgr,
    watch: Watch<'a>,
}

/// What our functions that libjpeg calls need, beside what it gives them.
struct Watch<'a> {
    /// The data of the APP1 markers. libjpeg itself would keep them in a list, and walk it for each.
    kept: Vec<&'a [u8]>,
    rows: Budget,
}

/// A JPEG whose header has been read.
pub(super) struct Decoder<'a> {
    /// From [`Box::into_raw`]: a `Box` claims to be the only pointer to its content, which libjpeg's
    /// own pointers contradict.
    parts: NonNull<Parts<'a>>,
    bytes: PhantomData<&'a [u8]>,
}

impl<'a> Decoder<'a> {
    /// Reads the header, and keeps the markers that may contain the orientation.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, String> {
        let source = ffi::jpeg_source_mgr {
            next_input_byte: bytes.as_ptr(),
            bytes_in_buffer: bytes.len(),
            init_source: Some(nothing),
            fill_input_buffer: Some(ended),
            skip_input_data: Some(skip),
            resync_to_restart: Some(ffi::jpeg_resync_to_restart),
            term_source: Some(nothing),
        };
        // SAFETY: both are C structs for which zeros are valid, and libjpeg sets them before it
        // reads them.
        let (info, error) = unsafe { (mem::zeroed(), mem::zeroed()) };
        let progress = ffi::jpeg_progress_mgr {
            progress_monitor: Some(count_scans),
            pass_counter: 0,
            pass_limit: 0,
            completed_passes: 0,
            total_passes: 0,
        };
        let watch = Watch { kept: Vec::new(), rows: Budget::new("rows of blocks", 0) };
        let parts = NonNull::from(Box::leak(Box::new(Parts { info, error, source, progress, watch })));
        let mut decoder = Decoder { parts, bytes: PhantomData };
        // SAFETY: the parts do not move and live as long as the decoder, and so do the bytes.
        unsafe {
            let parts = parts.as_ptr();
            let error = &raw mut (*parts).error;
            ffi::jpeg_std_error(&mut *error);
            (*error).error_exit = Some(throw);
            (*error).emit_message = Some(silence);
            (*parts).info.common.err = error;
            ffi::jpeg_create_decompress(&raw mut (*parts).info);
            (*parts).info.src = &raw mut (*parts).source;
            (*parts).info.common.client_data = (&raw mut (*parts).watch).cast();
            ffi::jpeg_set_marker_processor(decoder.info_mut(), APP1, Some(keep));
            match ffi::jpeg_read_header(decoder.info_mut(), 0) {
                1 => Ok(decoder),
                _ => Err("no image in the JPEG file".to_string()),
            }
        }
    }

    fn info(&self) -> &ffi::jpeg_decompress_struct {
        // SAFETY: the parts live as long as the decoder, and libjpeg changes them only in calls
        // that have the decoder to themselves.
        unsafe { &(*self.parts.as_ptr()).info }
    }

    fn info_mut(&mut self) -> &mut ffi::jpeg_decompress_struct {
        // SAFETY: as above; nothing that libjpeg points to lies in `info` itself.
        unsafe { &mut (*self.parts.as_ptr()).info }
    }

    /// Columns and lines of the header.
    pub(super) fn size(&self) -> (u32, u32) {
        (self.info().image_width, self.info().image_height)
    }

    /// The colour space of the components.
    pub(super) fn space(&self) -> Space {
        self.info().jpeg_color_space
    }

    /// Whether the whole file is read before the first line, as for a progressive one.
    pub(super) fn has_many_scans(&self) -> bool {
        // SAFETY: the header has been read.
        unsafe { ffi::jpeg_has_multiple_scans(self.info()) != 0 }
    }

    /// Columns and lines of the blocks that store components together, and whether each component
    /// has as many samples as the first, or half as many along a side.
    pub(super) fn blocks(&self) -> (u32, u32, bool) {
        if self.info().comp_info.is_null() {
            return (8, 8, false);
        }
        // SAFETY: libjpeg has made this array for the header's components.
        let components =
            unsafe { std::slice::from_raw_parts(self.info().comp_info, self.info().num_components as usize) };
        let most = |factor: fn(&ffi::jpeg_component_info) -> c_int| {
            components.iter().map(factor).max().unwrap_or(1).max(1) as u32
        };
        let (across, down) = (most(|c| c.h_samp_factor), most(|c| c.v_samp_factor));
        let usual = |(place, component): (usize, &ffi::jpeg_component_info)| {
            let wanted = if place == 0 { (across, down) } else { (1, 1) };
            (component.h_samp_factor as u32, component.v_samp_factor as u32) == wanted
        };
        (8 * across, 8 * down, across <= 2 && down <= 2 && components.iter().enumerate().all(usual))
    }

    /// The data of the APP1 markers before the image, in order.
    pub(super) fn markers(&self) -> &[&'a [u8]] {
        // SAFETY: as in `info`.
        unsafe { &(*self.parts.as_ptr()).watch.kept }
    }

    /// Starts decoding to `space`, at this many eighths of the size along each side: slow integer
    /// DCT and smooth chroma upsampling, which are libjpeg's defaults and Pillow's settings. If the
    /// whole file is read first, it may have [`SCANS`] scans, and others of `more` pixels together.
    pub(super) fn start(mut self, space: Space, eighths: u32, more: u64) -> Result<Lines<'a>, String> {
        let high = u64::from(self.blocks().1);
        let info = self.info_mut();
        info.out_color_space = space;
        info.scale_num = eighths;
        info.scale_denom = 8;
        let row = u64::from(info.image_width.max(1)) * high;
        let rows = u64::from(info.image_height).div_ceil(high) + 1;
        let allowed = Budget::new("rows of blocks", SCANS * rows + more / row);
        let parts = self.parts.as_ptr();
        // SAFETY: the parts live as long as the decoder, and the header has been read.
        let started = unsafe {
            (*parts).watch.rows = allowed;
            (*parts).info.common.progress = &raw mut (*parts).progress;
            ffi::jpeg_start_decompress(self.info_mut())
        };
        self.info_mut().common.progress = ptr::null_mut();
        match started {
            0 => Err("the decoder has stopped".to_string()),
            _ => Ok(Lines { decoder: self }),
        }
    }
}

impl Drop for Decoder<'_> {
    fn drop(&mut self) {
        // SAFETY: this frees all that libjpeg has allocated, in any state, and then the parts, which
        // come from a box.
        unsafe {
            ffi::jpeg_destroy_decompress(self.info_mut());
            drop(Box::from_raw(self.parts.as_ptr()));
        }
    }
}

/// A JPEG being decoded, line by line.
pub(super) struct Lines<'a> {
    decoder: Decoder<'a>,
}

impl Lines<'_> {
    /// Columns of a line, and the number of lines.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.decoder.info().output_width as usize, self.decoder.info().output_height as usize)
    }

    /// Bytes of a pixel.
    pub(super) fn channels(&self) -> usize {
        self.decoder.info().output_components as usize
    }

    /// Restricts the lines to `columns`, and some before them; returns the first decoded column.
    /// Call before any line is read. Columns at both ends, whose neighbours libjpeg does not see,
    /// may differ from those of whole lines.
    pub(super) fn crop(&mut self, columns: Range<usize>) -> usize {
        let (mut left, mut width) = (columns.start as u32, columns.len() as u32);
        // SAFETY: decoding has been started. libjpeg refuses missing columns.
        unsafe { ffi::jpeg_crop_scanline(self.decoder.info_mut(), &mut left, &mut width) };
        left as usize
    }

    /// Skips this many lines.
    pub(super) fn skip(&mut self, lines: usize) {
        // SAFETY: decoding has been started.
        unsafe { ffi::jpeg_skip_scanlines(self.decoder.info_mut(), lines as u32) };
    }

    /// Reads the next line.
    ///
    /// # Errors
    /// If there is no next line, or `line` has another length.
    pub(super) fn read(&mut self, line: &mut [u8]) -> Result<(), String> {
        let info = self.decoder.info_mut();
        if line.len() != info.output_width as usize * info.output_components as usize {
            return Err(format!("a line has {} columns", info.output_width));
        }
        let mut line = line.as_mut_ptr();
        // SAFETY: decoding has been started, and the line has the length libjpeg expects.
        match unsafe { ffi::jpeg_read_scanlines(info, ptr::addr_of_mut!(line), 1) } {
            1 => Ok(()),
            _ => Err("there are too few lines".to_string()),
        }
    }
}

/// Keeps the data of a marker, which follow their length.
extern "C-unwind" fn keep(info: &mut ffi::jpeg_decompress_struct) -> ffi::boolean {
    // SAFETY: the source and the data set by `Decoder::new`, which nothing else uses meanwhile.
    let (Some(source), Some(watch)) =
        (unsafe { info.src.as_mut() }, unsafe { info.common.client_data.cast::<Watch<'_>>().as_mut() })
    else {
        return 1;
    };
    // SAFETY: these bytes are left, of those that the decoder borrows.
    let rest = unsafe { std::slice::from_raw_parts(source.next_input_byte, source.bytes_in_buffer) };
    let Some(length) = rest.first_chunk().map(|length| usize::from(u16::from_be_bytes(*length)).max(2))
    else {
        resume_unwind(Box::new(Truncated))
    };
    let Some((marker, rest)) = rest.split_at_checked(length) else { resume_unwind(Box::new(Truncated)) };
    if length > 2 {
        watch.kept.push(&marker[2..]);
    }
    source.next_input_byte = rest.as_ptr();
    source.bytes_in_buffer = rest.len();
    1
}

/// Called for every row of blocks of every scan that is read before the first line.
extern "C-unwind" fn count_scans(info: &mut ffi::jpeg_common_struct) {
    // SAFETY: `Decoder::start` has set this function, with the data set by `Decoder::new`; the
    // common fields are the first of a decompressor's.
    let (info, watch) = unsafe {
        let watch = info.client_data.cast::<Watch<'_>>().as_mut();
        (&*ptr::from_mut(info).cast::<ffi::jpeg_decompress_struct>(), watch)
    };
    if info.input_scan_number > MAX_SCANS {
        let message = format!("the JPEG has more than {MAX_SCANS} scans, as only a malicious file does");
        resume_unwind(Box::new(TooMuch(message)));
    }
    if let Some(Err(message)) = watch.map(|watch| watch.rows.spend(1)) {
        resume_unwind(Box::new(TooMuch(format!("the JPEG {message}"))));
    }
}

extern "C-unwind" fn nothing(_: &mut ffi::jpeg_decompress_struct) {}

#[cold]
extern "C-unwind" fn ended(_: &mut ffi::jpeg_decompress_struct) -> ffi::boolean {
    resume_unwind(Box::new(Truncated))
}

extern "C-unwind" fn skip(info: &mut ffi::jpeg_decompress_struct, count: c_long) {
    // SAFETY: the source set by `Decoder::new`.
    let Some(source) = (unsafe { info.src.as_mut() }) else { return };
    match usize::try_from(count) {
        Ok(count) if count <= source.bytes_in_buffer => {
            // SAFETY: this many bytes are left.
            source.next_input_byte = unsafe { source.next_input_byte.add(count) };
            source.bytes_in_buffer -= count;
        }
        Ok(_) => resume_unwind(Box::new(Truncated)),
        // libjpeg says to ignore it.
        Err(_) => (),
    }
}

#[cold]
extern "C-unwind" fn silence(_: &mut ffi::jpeg_common_struct, _: c_int) {}

#[cold]
extern "C-unwind" fn throw(info: &mut ffi::jpeg_common_struct) {
    // SAFETY: the error manager set by `Decoder::new`.
    let error = unsafe { info.err.as_ref() };
    let code = error.map_or(0, |error| error.msg_code);
    let mut text = [0u8; LONGEST_MESSAGE];
    if let Some(format) = error.and_then(|error| error.format_message) {
        // SAFETY: the function takes an array of this length, which the binding does not tell.
        unsafe {
            let format: unsafe extern "C-unwind" fn(&mut ffi::jpeg_common_struct, *mut u8) =
                mem::transmute(format);
            format(info, text.as_mut_ptr());
        }
    }
    let words = text.split(|&byte| byte == 0).next().map(String::from_utf8_lossy).unwrap_or_default();
    let words = if words.is_empty() { format!("code {code}").into() } else { words };
    resume_unwind(Box::new(format!("libjpeg fatal error: {words}")))
}
