//! How the C library hands out memory.

/// Has the C library keep what is freed, instead of giving it back to the system.
///
/// A training step frees as much as it takes, gigabytes for a common network, in blocks so large that glibc
/// asks the system for each and gives it back at once. The system then hands out the same pages anew, cleared,
/// one fault at a time, in every step. Kept, they cost that once. The process holds what it has taken until it ends, and
/// at most somewhat more than otherwise, for the gaps between kept blocks: with ResNet-18 1697 MB were measured
/// instead of 1515 MB.
///
/// For commands that train, before they do. C libraries other than glibc are left as they are.
pub fn keep_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: two numbers in glibc's allocator, which any thread may set at any time; a refused one changes nothing.
    unsafe {
        // Negative is "never": the number is compared as an unsigned one.
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, libc::c_int::MAX);
    }
}
