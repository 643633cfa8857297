//! Devices: CPU threads, and CUDA loaded at run time.

pub mod back_off;
mod choice;
pub mod copy;
mod cuda;
mod libtorch;
pub mod memory;
pub mod precision;
pub(crate) mod torch;

use std::os::unix::process::CommandExt;
use std::process::Command;

use tch::Device;

use crate::error::{Error, Result};
use crate::text::words::counted;

pub use choice::DeviceChoice;
pub use cuda::{CudaFacts, Driver, Gpu, NoCuda, Version, probe};
pub use libtorch::{Installed, Libtorch, libtorch};

/// Restarts the program with OpenMP threads that spin only briefly before they sleep, unless the
/// user has set how they wait.
///
/// libtorch's OpenMP threads wait for each other by spinning, for milliseconds. Where another
/// program, or our own decoding, takes one of the cores, they spin out their time slices, and
/// training is up to a hundred times slower. Sleeping at once is no answer: waking up takes so long
/// that a small network trains four times slower on an idle machine. A thousand rounds cost a fifth
/// there, and keep the pace on a busy one. libgomp reads the variable when it is loaded, before
/// `main`, so only a restart will do. It takes as long as loading libtorch, a tenth of a second or
/// two, which is worth it only for training.
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
    // Returns only on failure; then the program goes on as it is.
    let _ = command.args(arguments).env(SPINS, "1000").exec();
}

/// The number of cores that this process may use.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |threads| threads.get())
}

/// A warning about more threads than cores: they wait for each other.
pub fn too_many_threads(threads: usize) -> Option<String> {
    let cores = default_threads();
    (threads > cores).then(|| {
        format!(
            "{threads} threads were asked for, and {} may be used here: more threads than cores make it slower",
            counted(cores, "core", "cores")
        )
    })
}

/// Sets libtorch's number of threads per operation. Call before the first operation.
pub fn set_threads(threads: usize) {
    tch::set_num_threads(threads.clamp(1, 1024) as i32);
}

/// The device of a choice; an error if CUDA was requested by name and is missing.
pub fn choose(choice: DeviceChoice) -> Result<Device> {
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto => Ok(probe().devices.as_ref().map_or(Device::Cpu, |_| Device::Cuda(0))),
        DeviceChoice::Cuda(index) => match &probe().devices {
            Ok(count) => in_range(index, *count),
            Err(reason) => Err(Error::usage(format!(
                "the device {choice} was asked for, and there is no CUDA: {reason}. Use cpu or auto; `tl doctor` says what \
                 was found"
            ))),
        },
    }
}

fn in_range(index: usize, count: usize) -> Result<Device> {
    match count {
        _ if index < count => Ok(Device::Cuda(index)),
        1 => Err(Error::usage(format!(
            "the device cuda:{index} was asked for, and there is one, cuda:0 (they are counted from 0)"
        ))),
        _ => Err(Error::usage(format!(
            "the device cuda:{index} was asked for, and there are {count}, cuda:0 to cuda:{}",
            count - 1
        ))),
    }
}

/// A note if `auto` has fallen back to the CPU on a machine with an NVIDIA driver.
pub fn fallen_back(choice: DeviceChoice) -> Option<String> {
    match (choice, &probe().devices) {
        // Without a driver there is no GPU, and nothing to say; a hidden one was hidden on purpose.
        (DeviceChoice::Auto, Err(NoCuda::NoDriver | NoCuda::NoDevice) | Ok(_)) => None,
        (DeviceChoice::Auto, Err(reason)) => {
            Some(format!("there is an NVIDIA driver, and yet it computes on the CPU: {reason}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_is_refused_with_those_that_are() {
        assert_eq!(in_range(1, 2).unwrap(), Device::Cuda(1));
        let said = |index, count| in_range(index, count).unwrap_err().to_string();
        assert_eq!(said(7, 2), "the device cuda:7 was asked for, and there are 2, cuda:0 to cuda:1");
        assert_eq!(
            said(1, 1),
            "the device cuda:1 was asked for, and there is one, cuda:0 (they are counted from 0)"
        );
    }
}
