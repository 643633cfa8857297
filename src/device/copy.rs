//! Copies between the CPU's memory and the device's.
//!
//! A GPU computes asynchronously, and a plain copy would make the CPU wait for it. Here copies go
//! through pinned memory; the device waits for uploads, and the CPU for downloads, as late as
//! possible. On the CPU all of this does nothing.

use std::collections::VecDeque;

use tch::{Device, Kind, Tensor};

use crate::device::torch;
use crate::error::{Error, Result};

/// A CPU tensor on `device`. On a GPU the copy overlaps with computation; only work that uses the
/// copy waits for it.
pub fn upload(values: &Tensor, device: Device) -> Result<Tensor> {
    match device {
        Device::Cuda(index) if values.device() == Device::Cpu => {
            torch::upload(values, index).map_err(Error::torch("copy to the GPU"))
        }
        _ => Ok(values.f_to_device(device)?),
    }
}

/// A copy to the CPU under way.
pub struct Download(Way);

enum Way {
    There(Tensor),
    Coming(torch::Download),
}

impl Download {
    /// Begins to copy values of any device to the CPU, as float32.
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

    /// Waits for the values.
    pub fn wait(self) -> Result<Tensor> {
        match self.0 {
            Way::There(values) => Ok(values),
            Way::Coming(download) => download.wait().map_err(Error::torch("copy from the GPU")),
        }
    }
}

/// Delays results by one batch on a GPU, so that the next batch is computed while this one's
/// results arrive and are written. No delay on the CPU.
pub struct Behind<T> {
    most: usize,
    waiting: VecDeque<T>,
}

impl<T> Behind<T> {
    /// For results of `device`.
    pub fn new(device: Device) -> Self {
        Behind { most: usize::from(device.is_cuda()), waiting: VecDeque::new() }
    }

    /// Takes a batch, and returns the oldest if due.
    pub fn push(&mut self, batch: T) -> Option<T> {
        self.waiting.push_back(batch);
        if self.waiting.len() > self.most { self.pop() } else { None }
    }

    /// The oldest remaining batch, after the last push.
    pub fn pop(&mut self) -> Option<T> {
        self.waiting.pop_front()
    }
}

/// Returns unused cached memory to the driver of `device`, before a retry.
pub fn release_memory(device: Device) {
    if device.is_cuda() {
        // A failure here shows up, with a message, at the next allocation.
        let _ = torch::empty_cache();
    }
}

/// Peak bytes of tensors on a GPU since the last call; `None` on the CPU.
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
