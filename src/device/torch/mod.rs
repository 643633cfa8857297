//! Functions of libtorch that `tch` lacks, through `shim.cpp`: each function is safe, each error a
//! message.

use std::ffi::{CStr, c_char, c_int};

use tch::{Device, Kind, TchError, Tensor};
use torch_sys::C_tensor;

#[repr(C)]
struct RawDownload {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn tl_free(words: *mut c_char);
    fn tl_autocast_enter(cuda: c_int, dtype: c_int, enabled: *mut c_int, kind: *mut c_int) -> *mut c_char;
    fn tl_autocast_leave(cuda: c_int, enabled: c_int, kind: c_int) -> *mut c_char;
    fn tl_unscale(
        gradients: *const *const C_tensor,
        count: usize,
        found: *mut C_tensor,
        inverse: *const C_tensor,
    ) -> *mut c_char;
    fn tl_upload(host: *const C_tensor, index: c_int, result: *mut *mut C_tensor) -> *mut c_char;
    fn tl_download(
        values: *const C_tensor,
        result: *mut *mut C_tensor,
        download: *mut *mut RawDownload,
    ) -> *mut c_char;
    fn tl_download_wait(download: *mut RawDownload) -> *mut c_char;
    fn tl_download_drop(download: *mut RawDownload);
    fn tl_empty_cache() -> *mut c_char;
    fn tl_peak_memory(index: c_int, bytes: *mut i64) -> *mut c_char;
}

/// Turns an error message of tl's own C++ into an error; null means success.
pub(crate) fn checked(words: *mut c_char) -> Result<(), TchError> {
    if words.is_null() {
        return Ok(());
    }
    // SAFETY: the message is a string that nobody else owns, and tl_free knows how to free.
    let message = unsafe {
        let message = CStr::from_ptr(words).to_string_lossy().into_owned();
        tl_free(words);
        message
    };
    Err(TchError::Torch(message))
}

/// Previous autocast state of a device.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    enabled: c_int,
    kind: c_int,
}

/// libtorch's number of a dtype (`c10/core/ScalarType.h`), for the dtypes of autocast.
fn number(kind: Kind) -> c_int {
    match kind {
        Kind::Half => 5,
        Kind::BFloat16 => 15,
        _ => 6,
    }
}

/// Starts autocast to `kind` on this thread for `device`'s operations, as
/// `torch.autocast.__enter__` does.
pub fn autocast_enter(device: Device, kind: Kind) -> Result<Before, TchError> {
    let mut before = Before { enabled: 0, kind: 0 };
    // SAFETY: both out pointers outlive the call.
    checked(unsafe {
        tl_autocast_enter(c_int::from(device.is_cuda()), number(kind), &mut before.enabled, &mut before.kind)
    })?;
    Ok(before)
}

/// Ends what [`autocast_enter`] started.
pub fn autocast_leave(device: Device, before: Before) -> Result<(), TchError> {
    // SAFETY: plain integers.
    checked(unsafe { tl_autocast_leave(c_int::from(device.is_cuda()), before.enabled, before.kind) })
}

/// Multiplies `gradients` by the float `inverse`, and sets the float `found` to 1 if one of them is
/// not finite.
pub fn unscale(gradients: &[Tensor], found: &mut Tensor, inverse: &Tensor) -> Result<(), TchError> {
    let pointers: Vec<*const C_tensor> = gradients.iter().map(Tensor::as_ptr).collect();
    // SAFETY: all tensors outlive the call; `C_tensor` is `at::Tensor` here.
    checked(unsafe { tl_unscale(pointers.as_ptr(), pointers.len(), found.as_mut_ptr(), inverse.as_ptr()) })
}

/// An asynchronous copy of a CPU tensor on the GPU `index`.
pub fn upload(host: &Tensor, index: usize) -> Result<Tensor, TchError> {
    let mut result = std::ptr::null_mut();
    // SAFETY: `result` outlives the call, and on success is a new tensor that we own.
    unsafe {
        checked(tl_upload(host.as_ptr(), index as c_int, &mut result))?;
        Ok(Tensor::from_ptr(result))
    }
}

/// A copy to the CPU under way.
pub struct Download {
    /// Not to be read before the wait.
    host: Tensor,
    waiting: *mut RawDownload,
}

// SAFETY: any thread may wait for and free an event, and a tensor moves between threads as all of
// tch's do.
unsafe impl Send for Download {}

impl Download {
    /// Begins to copy a GPU's tensor.
    pub fn begin(values: &Tensor) -> Result<Download, TchError> {
        let (mut host, mut waiting) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: both out pointers outlive the call; on success they hold a new tensor and a new
        // download that we own.
        unsafe {
            checked(tl_download(values.as_ptr(), &mut host, &mut waiting))?;
            Ok(Download { host: Tensor::from_ptr(host), waiting })
        }
    }

    /// Waits for the values.
    pub fn wait(mut self) -> Result<Tensor, TchError> {
        let waiting = std::mem::replace(&mut self.waiting, std::ptr::null_mut());
        // SAFETY: the download is ours, and only this call frees it.
        checked(unsafe { tl_download_wait(waiting) })?;
        Ok(self.host.shallow_clone())
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if !self.waiting.is_null() {
            // SAFETY: the download is ours, and was not waited for.
            unsafe { tl_download_drop(self.waiting) }
        }
    }
}

/// Returns unused cached GPU memory to the driver.
pub fn empty_cache() -> Result<(), TchError> {
    // SAFETY: no arguments.
    checked(unsafe { tl_empty_cache() })
}

/// Peak bytes of tensors on the GPU `index` since the last call.
pub fn peak_memory(index: usize) -> Result<u64, TchError> {
    let mut bytes = 0;
    // SAFETY: the out pointer outlives the call.
    checked(unsafe { tl_peak_memory(index as c_int, &mut bytes) })?;
    Ok(bytes.max(0) as u64)
}
