//! Where to compute: CPU threads, and CUDA loaded at run time.
//!
//! The linker drops `libtorch_cuda.so` because nothing refers to it, and a program without it says that
//! there is no CUDA on a machine that has it. So it is loaded here, before libtorch is first asked about
//! CUDA (it remembers the answer), and only where there is a driver: loading costs 0.15 s.

pub mod probe;

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tch::{Cuda, Device};

use crate::error::{Error, Result};
use crate::recipe::DeviceChoice;
use crate::wording::counted;

/// Starts the program anew with OpenMP threads that soon go to sleep while they wait, unless the user has
/// said how they should.
///
/// libtorch's OpenMP threads wait for each other by spinning, for milliseconds. Where another program, or
/// only our own decoding, takes one of the cores, they spin out their time slices, and training is up to a
/// hundred times slower. Sleeping at once is no answer: waking up takes so long that a small network trains
/// four times slower on an idle machine. A thousand rounds cost a fifth there, and keep the pace on a busy
/// one. libgomp reads the variable when it is loaded, before `main`, so nothing less than a new start will
/// do; it takes as long as loading libtorch, a tenth of a second or two.
pub fn spin_briefly() {
    const SPINS: &str = "GOMP_SPINCOUNT";
    if [SPINS, "OMP_WAIT_POLICY"].iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // Returns only if it fails, and then the program runs as it is.
    let _ = command.args(arguments).env(SPINS, "1000").exec();
}

/// Cores that this process may use.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |threads| threads.get())
}

/// What to say of more threads than cores: they wait for each other.
pub fn too_many_threads(threads: usize) -> Option<String> {
    let cores = default_threads();
    (threads > cores).then(|| {
        format!(
            "{threads} threads were asked for, and {} may be used here: more threads than cores make it slower",
            counted(cores, "core", "cores")
        )
    })
}

/// Tells libtorch how many threads an operation may use. Before the first operation.
pub fn set_threads(threads: usize) {
    tch::set_num_threads(threads.clamp(1, 1024) as i32);
}

/// The device of a choice; CUDA that was asked for by name and is not there is an error.
pub fn choose(choice: DeviceChoice) -> Result<Device> {
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto => Ok(if count_cuda() > 0 { Device::Cuda(0) } else { Device::Cpu }),
        DeviceChoice::Cuda(index) => match count_cuda() {
            0 => Err(Error::usage(format!(
                "the device {choice} was asked for, and there is no CUDA: {}. Use cpu or auto; `tl doctor` says what was found",
                why_no_cuda()
            ))),
            count if index < count => Ok(Device::Cuda(index)),
            count => Err(Error::usage(format!(
                "the device {choice} was asked for, and the last of {count} is cuda:{}",
                count - 1
            ))),
        },
    }
}

/// Why [`count_cuda`] found none.
pub fn why_no_cuda() -> String {
    match load_cuda() {
        Err(reason) => match probe::obstacle(probe::driver().as_ref(), probe::libtorch().as_ref()) {
            Some((why, _)) => why,
            None => reason.clone(),
        },
        Ok(()) => match probe::obstacle(probe::driver().as_ref(), probe::libtorch().as_ref()) {
            Some((why, _)) => why,
            None => "libtorch sees no NVIDIA device".into(),
        },
    }
}

/// CUDA devices that libtorch can use.
pub fn count_cuda() -> usize {
    match load_cuda() {
        Ok(()) if Cuda::is_available() => usize::try_from(Cuda::device_count()).unwrap_or(0),
        _ => 0,
    }
}

/// Loads libtorch's CUDA half once, where there is a driver for it.
fn load_cuda() -> &'static Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED.get_or_init(|| {
        open("libcuda.so.1").map_err(|_| "no NVIDIA driver was found (libcuda.so.1)".to_string())?;
        open("libtorch_cuda.so").map_err(|error| format!("libtorch's CUDA half cannot be loaded ({error})"))
    })
}

/// Loads a library for good, its symbols visible to all others.
fn open(name: &str) -> Result<(), libloading::Error> {
    // SAFETY: the initialisers of the NVIDIA driver and of libtorch's CUDA half are those that every
    // PyTorch program runs; the library is never unloaded, so no symbol can dangle.
    let library = unsafe { Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL)? };
    std::mem::forget(library);
    Ok(())
}
