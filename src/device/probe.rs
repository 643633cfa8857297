//! What there is of CUDA, and why it is not used where it is not: asked of the NVIDIA driver itself, because libtorch
//! says only yes or no.

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::path::{Path, PathBuf};
use std::{env, fs};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

/// The libtorch that this process runs on.
#[derive(Clone, Debug)]
pub struct Libtorch {
    /// The folder of its libraries.
    pub folder: PathBuf,
    /// As its package says: `2.11.0+cu130`.
    pub version: Option<String>,
    /// Whether its CUDA half is there.
    pub with_cuda: bool,
    /// The version of CUDA that it was built for, `13.0`, whether or not that half is there.
    pub cuda: Option<String>,
}

/// An NVIDIA device, as its driver describes it.
#[derive(Clone, Debug)]
pub struct Gpu {
    /// `NVIDIA H100 80GB HBM3`
    pub name: String,
    /// Bytes.
    pub memory: u64,
}

/// The NVIDIA driver.
#[derive(Clone, Debug, Default)]
pub struct Driver {
    /// The newest CUDA that it serves: 13.0 is 13000. 0 if it did not say.
    pub version: i32,
    /// The devices that this process may see.
    pub gpus: Vec<Gpu>,
    /// What it answered where it could not start.
    pub refusal: Option<String>,
}

/// The libtorch that was loaded; `None` where the system does not tell.
pub fn libtorch() -> Option<Libtorch> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let library = maps.lines().find_map(|line| {
        let path = &line[line.find('/')?..];
        path.ends_with("/libtorch_cpu.so").then(|| PathBuf::from(path))
    })?;
    let folder = library.parent()?.to_path_buf();
    let package = folder.parent().unwrap_or(Path::new("/"));
    let python = fs::read_to_string(package.join("version.py")).unwrap_or_default();
    let quoted = |name: &str| {
        let line = python.lines().find(|line| line.starts_with(name))?;
        Some(line.split(['\'', '"']).nth(1)?.to_string())
    };
    let archive = fs::read_to_string(package.join("build-version")).ok().map(|text| text.trim().to_string());
    let with_cuda = folder.join("libtorch_cuda.so").exists();
    Some(Libtorch {
        with_cuda,
        version: archive.or_else(|| quoted("__version__")),
        cuda: quoted("cuda"),
        folder,
    })
}

/// The driver, if there is one on this machine.
pub fn driver() -> Option<Driver> {
    type Init = unsafe extern "C" fn(c_uint) -> c_int;
    type Number = unsafe extern "C" fn(*mut c_int) -> c_int;
    type Get = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
    type Name = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
    type Memory = unsafe extern "C" fn(*mut usize, c_int) -> c_int;

    // SAFETY: the driver's own initialisers, which every CUDA program runs.
    let library = unsafe { Library::open(Some("libcuda.so.1"), RTLD_NOW | RTLD_LOCAL).ok()? };
    let mut driver = Driver::default();
    // SAFETY: the signatures are those of NVIDIA's driver API (cuda.h); each function writes no more than it is given
    // room for, and the library is not unloaded, as threads of the driver may go on running in it.
    unsafe {
        let (Ok(init), Ok(version), Ok(count), Ok(get), Ok(name), Ok(memory)) = (
            library.get::<Init>(b"cuInit"),
            library.get::<Number>(b"cuDriverGetVersion"),
            library.get::<Number>(b"cuDeviceGetCount"),
            library.get::<Get>(b"cuDeviceGet"),
            library.get::<Name>(b"cuDeviceGetName"),
            library.get::<Memory>(b"cuDeviceTotalMem_v2"),
        ) else {
            driver.refusal = Some("it lacks functions that CUDA needs".into());
            std::mem::forget(library);
            return Some(driver);
        };
        // Answers before `cuInit`, and where that fails.
        version(&mut driver.version);
        let code = init(0);
        let mut devices = 0;
        if code != 0 {
            driver.refusal = Some(refusal(code));
        } else if count(&mut devices) == 0 {
            for index in 0..devices {
                let (mut device, mut bytes, mut text) = (0, 0, [0; 256]);
                if get(&mut device, index) != 0
                    || name(text.as_mut_ptr(), text.len() as c_int - 1, device) != 0
                {
                    continue;
                }
                memory(&mut bytes, device);
                let name = CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned();
                driver.gpus.push(Gpu { name, memory: bytes as u64 });
            }
        }
    }
    std::mem::forget(library);
    Some(driver)
}

/// What the codes of `cuInit` mean that are met in practice.
fn refusal(code: c_int) -> String {
    match code {
        100 => "it sees no device".into(),
        803 => "its library and its kernel module are of different versions: restart the machine".into(),
        999 => "it cannot be reached (unknown error): is the kernel module loaded?".into(),
        code => format!("it does not start (error {code} of cuInit)"),
    }
}

/// Why CUDA cannot be used, and what to do, as far as that can be told without loading libtorch's CUDA half.
pub fn obstacle(driver: Option<&Driver>, libtorch: Option<&Libtorch>) -> Option<(String, String)> {
    let said = |why: &str, advice: &str| Some((why.to_string(), advice.to_string()));
    let Some(driver) = driver else {
        return said(
            "no NVIDIA driver was found (libcuda.so.1 does not open)",
            "with an NVIDIA device: install its driver, and start a container with --gpus all",
        );
    };
    let visible = env::var("CUDA_VISIBLE_DEVICES").ok();
    if let Some(visible) = visible.as_ref().filter(|_| driver.gpus.is_empty()) {
        let why = format!("CUDA_VISIBLE_DEVICES is \"{visible}\", which leaves no device");
        return said(&why, "unset it, or name a device: CUDA_VISIBLE_DEVICES=0");
    }
    if let Some(refusal) = &driver.refusal {
        return said(&format!("the NVIDIA driver is there, and {refusal}"), "see what nvidia-smi says");
    }
    if driver.gpus.is_empty() {
        return said("the NVIDIA driver sees no device", "see what nvidia-smi says");
    }
    let libtorch = libtorch?;
    if !libtorch.with_cuda {
        return said(
            "this libtorch is without CUDA (no libtorch_cuda.so)",
            "`make setup TL_CUDA=1 && cargo build --release` builds with one that has it (5 GB)",
        );
    }
    let wanted = libtorch.cuda.as_deref().and_then(major)?;
    if driver.version > 0 && driver.version / 1000 < wanted {
        let why = format!(
            "the NVIDIA driver is too old: it serves CUDA {}, and libtorch needs {}",
            version_text(driver.version),
            libtorch.cuda.as_deref().unwrap_or_default()
        );
        return said(&why, "install a newer driver");
    }
    None
}

/// 13 of `13.0`.
fn major(version: &str) -> Option<i32> {
    version.split('.').next()?.parse().ok()
}

/// `13.0` of 13000.
pub fn version_text(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn libtorch(with_cuda: bool) -> Libtorch {
        Libtorch { folder: "/t/lib".into(), version: None, with_cuda, cuda: Some("13.0".into()) }
    }

    fn driver(version: i32) -> Driver {
        Driver { version, gpus: vec![Gpu { name: "A".into(), memory: 1 << 30 }], refusal: None }
    }

    #[test]
    fn the_first_obstacle_is_named() {
        let why = |driver: Option<Driver>, with_cuda| {
            obstacle(driver.as_ref(), Some(&libtorch(with_cuda))).map(|(why, _)| why).unwrap_or_default()
        };
        assert!(why(None, false).contains("no NVIDIA driver"));
        assert!(
            why(Some(Driver { refusal: Some(refusal(999)), ..Driver::default() }), true)
                .contains("kernel module")
        );
        assert!(why(Some(driver(13000)), false).contains("without CUDA"));
        assert!(why(Some(driver(12040)), true).contains("serves CUDA 12.4, and libtorch needs 13.0"));
        assert_eq!(why(Some(driver(13010)), true), "");
    }

    #[test]
    fn libtorch_is_found_where_it_was_loaded_from() {
        // Binds libtorch to the test, which the linker would drop otherwise.
        assert!(tch::get_num_threads() > 0);
        let found = super::libtorch().unwrap();
        assert!(found.folder.join("libtorch_cpu.so").exists());
        assert!(found.version.unwrap().starts_with("2.11"));
    }
}
