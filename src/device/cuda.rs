//! CUDA, found and loaded at run time: one program serves machines with and without a GPU.
//!
//! The linker drops `libtorch_cuda.so` because nothing refers to it, and a program without it
//! reports no CUDA on a machine that has it. So it is loaded here, before libtorch is first asked
//! about CUDA (it remembers the answer), from the folder of the libtorch in use, and only where a
//! driver sees a device: loading takes 0.15 s.

use std::ffi::{CStr, c_char, c_int};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tch::Cuda;

use super::libtorch::{Installed, loaded_folder};
use crate::text::path_text::path_text;

/// libtorch's library with all of CUDA.
pub(super) const CUDA_HALF: &str = "libtorch_cuda.so";

/// CUDA on this machine.
#[derive(Clone, Debug)]
pub struct CudaFacts {
    /// The NVIDIA driver, or why it cannot be used.
    pub driver: Result<Driver, NoCuda>,
    /// The folder of the libtorch in use, if known.
    pub libtorch: Option<PathBuf>,
    /// The number of devices that libtorch can use, or why it can use none.
    pub devices: Result<usize, NoCuda>,
}

/// The driver's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    /// The newest CUDA that it can run.
    pub cuda: Version,
    /// The devices visible to this process.
    pub gpus: Vec<Gpu>,
}

/// A device, as the driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Such as `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Bytes.
    pub memory: u64,
    /// The compute capability.
    pub capability: Version,
}

/// A major and a minor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// Why CUDA cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoCuda {
    /// `libcuda.so.1` does not open.
    NoDriver,
    /// The driver does not start; CUDA's error number.
    DriverFails(i32),
    /// No device is visible to this process.
    NoDevice,
    /// The libtorch in this folder is the CPU-only build.
    CpuLibtorch(Option<PathBuf>),
    /// libtorch's CUDA library does not load; the loader's message.
    NotLoaded(String),
    /// The driver is for an older CUDA than libtorch.
    OldDriver {
        /// The newest CUDA that the driver can run.
        driver: Version,
        /// The CUDA that libtorch was built with.
        libtorch: Version,
    },
    /// Everything is loaded, but libtorch sees no device.
    NotSeen,
}

impl NoCuda {
    /// In place of CUDA's error number: the driver is too old to have all functions.
    const LACKING: i32 = -1;
}

impl fmt::Display for NoCuda {
    /// A clause, and the remedy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoCuda::NoDriver => write!(f, "no NVIDIA driver was found (libcuda.so.1)"),
            NoCuda::DriverFails(Self::LACKING) => {
                write!(f, "the NVIDIA driver lacks functions that CUDA needs; update it")
            }
            NoCuda::DriverFails(code) => {
                write!(f, "the NVIDIA driver does not start (CUDA error {code}); ")?;
                match code {
                    803 => write!(
                        f,
                        "its library and its kernel module are of different versions: start the machine anew"
                    ),
                    _ => write!(f, "see what `nvidia-smi` says, and whether its kernel module is loaded"),
                }
            }
            NoCuda::NoDevice => {
                write!(f, "the NVIDIA driver shows no device to this process")?;
                match std::env::var("CUDA_VISIBLE_DEVICES") {
                    Ok(value) => write!(
                        f,
                        " (CUDA_VISIBLE_DEVICES is `{value}`); unset that, or name a device there: 0 is the first"
                    ),
                    Err(_) => write!(f, "; see what `nvidia-smi` says"),
                }
            }
            NoCuda::CpuLibtorch(folder) => {
                write!(f, "this libtorch is the one for the CPU alone")?;
                if let Some(folder) = folder {
                    write!(f, " ({} has no libtorch_cuda.so)", path_text(folder))?;
                }
                write!(f, "; {}", with_cuda())
            }
            NoCuda::NotLoaded(words) => {
                write!(f, "libtorch's CUDA half cannot be loaded ({words}); {}", with_cuda())
            }
            NoCuda::OldDriver { driver, libtorch } => write!(
                f,
                "the NVIDIA driver is for CUDA {driver} at most, and libtorch needs {libtorch}: update the driver"
            ),
            NoCuda::NotSeen => write!(f, "libtorch sees no NVIDIA device"),
        }
    }
}

/// How this program comes to a libtorch with CUDA.
fn with_cuda() -> &'static str {
    match Installed::here() {
        Installed::FromSource => "`TL_CUDA=1 make setup build` installs the one with CUDA and builds with it",
        Installed::AsWheel => {
            "`pip install --force-reinstall torch==2.11.0` in this environment installs the one with CUDA"
        }
        Installed::AsFolder => "the one with CUDA comes with tl's wheel: `pip install transferkit`",
    }
}

/// Looks for CUDA, and loads libtorch's CUDA library where there is a device. The answer is cached.
pub fn probe() -> &'static CudaFacts {
    static FACTS: OnceLock<CudaFacts> = OnceLock::new();
    FACTS.get_or_init(|| {
        let libtorch = loaded_folder("libtorch_cpu.so");
        let driver = Driver::ask();
        let devices =
            driver.as_ref().map_err(Clone::clone).and_then(|driver| devices(driver, libtorch.as_deref()));
        CudaFacts { driver, libtorch, devices }
    })
}

fn devices(driver: &Driver, folder: Option<&Path>) -> Result<usize, NoCuda> {
    if driver.gpus.is_empty() {
        return Err(NoCuda::NoDevice);
    }
    load(folder)?;
    // A driver runs everything built for its own major version, and nothing newer; libtorch would
    // say so in a three-line warning.
    if let Some(libtorch) = runtime_version().filter(|libtorch| libtorch.0 > driver.cuda.0) {
        return Err(NoCuda::OldDriver { driver: driver.cuda, libtorch });
    }
    // libtorch's first look at CUDA.
    match Cuda::is_available().then(Cuda::device_count).map(usize::try_from) {
        Some(Ok(seen @ 1..)) => Ok(seen),
        _ => Err(NoCuda::NotSeen),
    }
}

/// Loads libtorch's CUDA library from the folder of its CPU library: one from another build would
/// not fit.
pub(super) fn load(folder: Option<&Path>) -> Result<(), NoCuda> {
    let path = match folder.map(|folder| folder.join(CUDA_HALF)) {
        Some(path) if !path.exists() => return Err(NoCuda::CpuLibtorch(folder.map(Path::to_path_buf))),
        Some(path) => path,
        None => CUDA_HALF.into(),
    };
    open(&path).map_err(|error| NoCuda::NotLoaded(reason(&error)))
}

/// Loads a library for good, its symbols visible to all others.
fn open(path: &Path) -> Result<(), libloading::Error> {
    // SAFETY: the initialisers of libtorch's CUDA library are those that every PyTorch program
    // runs; the library is never unloaded, so no symbol can dangle.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL)? };
    std::mem::forget(library);
    Ok(())
}

/// The loader's own message: `libcudart.so.13: cannot open shared object file`.
fn reason(error: &libloading::Error) -> String {
    use std::error::Error;
    error.source().map_or_else(|| error.to_string(), |source| source.to_string())
}

/// The CUDA that libtorch was built with.
fn runtime_version() -> Option<Version> {
    let library = Library::this();
    let mut number: c_int = 0;
    // SAFETY: the function of this name has this signature in every CUDA, and the out pointer
    // outlives the call.
    let code = unsafe {
        let ask =
            library.get::<unsafe extern "C" fn(*mut c_int) -> c_int>(b"cudaRuntimeGetVersion\0").ok()?;
        ask(&mut number)
    };
    (code == 0 && number > 0).then(|| version(number))
}

/// CUDA writes 13.1 as 13010.
fn version(number: c_int) -> Version {
    let number = number.max(0) as u32;
    Version(number / 1000, number % 1000 / 10)
}

type Init = unsafe extern "C" fn(flags: u32) -> c_int;
type GetNumber = unsafe extern "C" fn(number: *mut c_int) -> c_int;
type GetDevice = unsafe extern "C" fn(device: *mut c_int, index: c_int) -> c_int;
type GetName = unsafe extern "C" fn(name: *mut c_char, length: c_int, device: c_int) -> c_int;
type GetMemory = unsafe extern "C" fn(bytes: *mut usize, device: c_int) -> c_int;
type GetAttribute = unsafe extern "C" fn(value: *mut c_int, attribute: c_int, device: c_int) -> c_int;

impl Driver {
    /// Asks the driver itself, without libtorch: it starts in milliseconds where there is no
    /// device.
    fn ask() -> Result<Driver, NoCuda> {
        const NO_DEVICE: c_int = 100;
        // SAFETY: the initialiser of the NVIDIA driver is the one that every CUDA program runs; as
        // above.
        let library = unsafe { Library::open(Some("libcuda.so.1"), RTLD_NOW | RTLD_GLOBAL) };
        let library: &'static Library = Box::leak(Box::new(library.map_err(|_| NoCuda::NoDriver)?));
        // SAFETY: functions of the driver's API by name, with the signatures of cuda.h; all out
        // pointers outlive the calls, and the driver cuts names off at the given length.
        unsafe {
            let unusable = |_| NoCuda::DriverFails(NoCuda::LACKING);
            let init = library.get::<Init>(b"cuInit\0").map_err(unusable)?;
            let driver_version = library.get::<GetNumber>(b"cuDriverGetVersion\0").map_err(unusable)?;
            let count_devices = library.get::<GetNumber>(b"cuDeviceGetCount\0").map_err(unusable)?;
            let (mut number, mut count) = (0, 0);
            driver_version(&mut number);
            match init(0) {
                0 => {}
                NO_DEVICE => return Ok(Driver { cuda: version(number), gpus: Vec::new() }),
                code => return Err(NoCuda::DriverFails(code)),
            }
            match count_devices(&mut count) {
                0 => {}
                code => return Err(NoCuda::DriverFails(code)),
            }
            let gpus = (0..count).filter_map(|index| Gpu::ask(library, index)).collect();
            Ok(Driver { cuda: version(number), gpus })
        }
    }
}

impl Gpu {
    /// # Safety
    /// `library` is the NVIDIA driver, and has been initialised.
    unsafe fn ask(library: &Library, index: c_int) -> Option<Gpu> {
        const MAJOR: c_int = 75;
        const MINOR: c_int = 76;
        // SAFETY: as in `Driver::ask`.
        unsafe {
            let get_device = library.get::<GetDevice>(b"cuDeviceGet\0").ok()?;
            let get_name = library.get::<GetName>(b"cuDeviceGetName\0").ok()?;
            let get_memory = library.get::<GetMemory>(b"cuDeviceTotalMem_v2\0").ok()?;
            let get_attribute = library.get::<GetAttribute>(b"cuDeviceGetAttribute\0").ok()?;
            let (mut device, mut memory, mut major, mut minor) = (0, 0usize, 0, 0);
            let mut name = [0 as c_char; 256];
            let codes = [
                get_device(&mut device, index),
                get_name(name.as_mut_ptr(), name.len() as c_int - 1, device),
                get_memory(&mut memory, device),
                get_attribute(&mut major, MAJOR, device),
                get_attribute(&mut minor, MINOR, device),
            ];
            codes.iter().all(|&code| code == 0).then(|| Gpu {
                name: CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned(),
                memory: memory as u64,
                capability: Version(major.max(0) as u32, minor.max(0) as u32),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuda_writes_versions_as_one_number() {
        assert_eq!(version(13_010).to_string(), "13.1");
        assert_eq!(version(12_080), Version(12, 8));
        assert!(Version(12, 8) < Version(13, 0));
    }

    #[test]
    fn a_folder_without_the_cuda_half_says_how_to_get_it_and_a_broken_half_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let error = load(Some(folder.path())).unwrap_err();
        assert_eq!(error, NoCuda::CpuLibtorch(Some(folder.path().into())));
        assert!(error.to_string().contains("TL_CUDA=1 make setup build"), "{error}");
        std::fs::write(folder.path().join("libtorch_cuda.so"), "no library").unwrap();
        let error = load(Some(folder.path())).unwrap_err().to_string();
        assert!(error.starts_with("libtorch's CUDA half cannot be loaded ("), "{error}");
    }
}
