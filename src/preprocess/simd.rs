//! Whether libjpeg was built with its assembly, which needs NASM on x86.

use std::ffi::c_int;

// Links the library, so that its symbol is available.
use mozjpeg_sys as _;

unsafe extern "C" {
    /// libjpeg-turbo's `jsimd.h`: not 0 if the inverse transform of every JPEG has SIMD code for
    /// this processor. Without assembly its `jsimd_none.c` returns 0.
    fn jsimd_can_idct_islow() -> c_int;
}

/// Whether JPEGs are decoded with SIMD.
pub fn jpeg_simd() -> bool {
    // SAFETY: takes no arguments, and only checks the processor's features.
    unsafe { jsimd_can_idct_islow() != 0 }
}
