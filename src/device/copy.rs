//! Between the CPU's memory and the device's.
//!
//! A GPU computes while the CPU goes on, and a plain copy would make the CPU wait until all is done. Here copies
//! go through pinned memory and are waited for on the device (up) or as late as can be (down). On the CPU all of
//! this is nothing at all.

use std::collections::VecDeque;

use tch::{Device, Kind, Tensor};

use crate::device::torch;
use crate::error::{Error, Result};

/// A CPU tensor on `device`. On a GPU the copy overlaps with what is computed there; nothing waits for it but
/// what is computed from it.
pub fn upload(values: &Tensor, device: Device) -> Result<Tensor> {
    match device {
        Device::Cuda(index) if values.device() == Device::Cpu => {
            torch::upload(values, index).map_err(Error::torch("copy to the GPU"))
        }
        _ => Ok(values.f_to_device(device)?),
    }
}

/// Values on their way to the CPU.
pub struct Download(Way);

enum Way {
    There(Tensor),
    Coming(torch::Download),
}

impl Download {
    /// Begins to bring values of any device to the CPU, as float32.
    pub fn begin(values: &Tensor) -> Result<Download> {
        let begin = || {
            let values = values.f_to_kind(Kind::Float)?;
            Ok(Download(match values.device() {
                Device::Cuda(_) => Way::Coming(torch::Download::begin(&values)?),
                _ => Way::There(values),
            }))
        };
        begin().map_err(Error::torch("copy from the device"))
    }

    /// The values, when they are there.
    pub fn wait(self) -> Result<Tensor> {
        match self.0 {
            Way::There(values) => Ok(values),
            Way::Coming(download) => download.wait().map_err(Error::torch("copy from the GPU")),
        }
    }
}

/// What is held back by one batch on a GPU, so that the next batch is computed while this one's results arrive and are
/// written. On the CPU nothing is.
pub struct Behind<T> {
    most: usize,
    waiting: VecDeque<T>,
}

impl<T> Behind<T> {
    /// For results of `device`.
    pub fn new(device: Device) -> Self {
        Behind { most: usize::from(device.is_cuda()), waiting: VecDeque::new() }
    }

    /// Takes a batch, and gives back the oldest whose turn it is.
    pub fn push(&mut self, batch: T) -> Option<T> {
        self.waiting.push_back(batch);
        if self.waiting.len() > self.most { self.pop() } else { None }
    }

    /// The oldest that is left, after the last batch.
    pub fn pop(&mut self) -> Option<T> {
        self.waiting.pop_front()
    }
}

/// Gives memory that no tensor holds back to the driver of `device`, before something is tried again.
pub fn release_memory(device: Device) {
    if device.is_cuda() {
        // What cannot be given back now is missing when it is asked for, and said then.
        let _ = torch::empty_cache();
    }
}

/// The most bytes that tensors have taken of a GPU at once since the last call; `None` on the CPU.
pub fn peak_memory(device: Device) -> Result<Option<u64>> {
    match device {
        Device::Cuda(index) => {
            torch::peak_memory(index).map(Some).map_err(Error::torch("ask for the GPU's memory"))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_come_in_order_and_on_the_cpu_at_once() {
        let mut now = Behind::new(Device::Cpu);
        assert_eq!((now.push('a'), now.pop()), (Some('a'), None));
        let mut later = Behind::new(Device::Cuda(0));
        assert_eq!((later.push('a'), later.push('b'), later.push('c')), (None, Some('a'), Some('b')));
        assert_eq!((later.pop(), later.pop()), (Some('c'), None));
    }

    #[test]
    fn values_arrive_in_single_precision() {
        let values = Tensor::from_slice(&[1f32, 2.5]).to_kind(Kind::BFloat16);
        let found = Download::begin(&values).unwrap().wait().unwrap();
        assert_eq!(found, Tensor::from_slice(&[1f32, 2.5]));
    }
}
