//! Between the CPU's memory and the device's.
//!
//! A GPU computes while the CPU goes on, and a plain copy would make the CPU wait until all is done. Here copies
//! go through pinned memory and are waited for on the device (up) or as late as can be (down). On the CPU all of
//! this is nothing at all.

use std::collections::VecDeque;

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::preprocess::Preprocessing;
use crate::torch;

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

/// Images on `device` as a network takes them: float32 `[N, 3, H, W]`, normalised.
///
/// Bytes `[N, H, W, 3]` (red, green, blue) are a quarter of the copy and are normalised on the device with
/// `preprocessing`'s mean and deviation, `(value / 255 - mean) / std`; they come out channels-last, which is how
/// they lie and what tensor cores want. Floats are taken as normalised `[N, 3, H, W]`.
pub fn upload_images(images: &Tensor, preprocessing: &Preprocessing, device: Device) -> Result<Tensor> {
    let there = upload(images, device)?;
    if images.kind() != Kind::Uint8 {
        return Ok(there);
    }
    normalised(&there, preprocessing).map_err(Error::torch("normalise a batch"))
}

fn normalised(bytes: &Tensor, preprocessing: &Preprocessing) -> Result<Tensor, tch::TchError> {
    let channels = |values: [f32; 3]| {
        let values = Tensor::f_from_slice(&values)?.f_reshape([3, 1, 1])?;
        match bytes.device() {
            Device::Cuda(index) => torch::upload(&values, index),
            _ => Ok(values),
        }
    };
    let (mean, std) = (channels(preprocessing.mean)?, channels(preprocessing.std)?);
    bytes.f_permute([0, 3, 1, 2])?.f_to_kind(Kind::Float)?.f_div_scalar_(255.)?.f_sub_(&mean)?.f_div_(&std)
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

/// Results on their way to the CPU while the device computes the next ones: they come out in order, one batch after
/// they went in. On the CPU at once.
pub struct Behind<T> {
    most: usize,
    coming: VecDeque<(T, Download)>,
}

impl<T> Behind<T> {
    /// For results of `device`.
    pub fn new(device: Device) -> Self {
        Behind { most: usize::from(device.is_cuda()), coming: VecDeque::new() }
    }

    /// Takes the values of a batch, and gives back the oldest whose turn it is.
    pub fn push(&mut self, batch: T, values: &Tensor) -> Result<Option<(T, Tensor)>> {
        self.coming.push_back((batch, Download::begin(values)?));
        match self.coming.len() > self.most {
            true => self.pop(),
            false => Ok(None),
        }
    }

    /// The oldest that is left, after the last batch.
    pub fn pop(&mut self) -> Result<Option<(T, Tensor)>> {
        self.coming.pop_front().map(|(batch, download)| Ok((batch, download.wait()?))).transpose()
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
    use crate::preprocess::{Input, Interpolation, RgbImage};

    #[test]
    fn results_come_in_order_and_on_the_cpu_at_once() {
        let mut now = Behind::new(Device::Cpu);
        let values = Tensor::from_slice(&[1f32, 2.]);
        assert_eq!(now.push('a', &values).unwrap().unwrap(), ('a', values.shallow_clone()));
        assert!(now.pop().unwrap().is_none());
        let mut later = Behind { most: 1, coming: VecDeque::new() };
        assert!(later.push('a', &values).unwrap().is_none());
        assert_eq!(later.push('b', &(&values * 2.)).unwrap().unwrap(), ('a', values.shallow_clone()));
        assert_eq!(later.pop().unwrap().unwrap(), ('b', &values * 2.));
        assert!(later.pop().unwrap().is_none());
    }

    /// Bytes normalised here are what the CPU's table says, to the rounding of a division.
    #[test]
    fn bytes_become_the_numbers_that_the_loader_makes_of_them() {
        let preprocessing = Preprocessing {
            resize_size: 8,
            crop_size: 8,
            interpolation: Interpolation::Bilinear,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        };
        let data: Vec<u8> = (0..8 * 8 * 3).map(|byte: u32| (byte * 37 % 256) as u8).collect();
        let bytes = Tensor::from_slice(&data).reshape([1, 8, 8, 3]);
        let found = upload_images(&bytes, &preprocessing, Device::Cpu).unwrap();
        assert_eq!(found.size(), [1, 3, 8, 8]);
        assert_eq!(found.stride()[1], 1, "channels last");
        let mut expected = vec![0.; data.len()];
        let input: Input = RgbImage { width: 8, height: 8, data }.into();
        preprocessing.normalise_into(&input, &mut expected);
        let expected = Tensor::from_slice(&expected).reshape([1, 3, 8, 8]);
        assert_eq!((found - expected).abs().max().double_value(&[]), 0.);
    }
}
