//! Back-off where memory runs out: the work is split into parts, which are halved until they fit.

use std::sync::atomic::{AtomicUsize, Ordering};

use tch::{Device, Tensor};

use crate::device::copy::release_memory;
use crate::error::{Error, Result};

/// Runs `attempt(most)` for the images of a batch in parts of `most`, halved each time memory runs
/// out. `most` keeps the size that worked. If the smallest part fails too, its error is returned
/// with a remedy.
pub fn with_back_off<T>(
    most: &mut usize,
    images: usize,
    least: usize,
    device: Device,
    mut attempt: impl FnMut(usize) -> Result<T>,
) -> Result<T> {
    loop {
        match attempt(*most) {
            Err(error) if error.is_out_of_memory() => {
                let tried = (*most).min(images.max(1));
                if tried / 2 < least.max(1) {
                    return Err(Error::run(format!(
                        "there is no memory for {} at once ({error}): close what else uses {}, or take smaller \
                         images",
                        crate::text::words::counted(tried, "image", "images"),
                        place(device)
                    )));
                }
                *most = tried / 2;
                drop(error);
                release_memory(device);
            }
            done => return done,
        }
    }
}

/// The device that ran out of memory, in words.
pub fn place(device: Device) -> &'static str {
    if device.is_cuda() { "the GPU" } else { "this machine's memory" }
}

/// The sizes of the parts of a batch, `most` images each at most, as even as possible, and none
/// below `least`.
pub fn sizes(images: usize, most: usize, least: usize) -> Vec<usize> {
    let count = images.div_ceil(most.max(1)).clamp(1, (images / least.max(1)).max(1));
    (0..count).map(|part| images * (part + 1) / count - images * part / count).collect()
}

/// Batches of a network in inference: whole while memory allows, in parts after.
///
/// Threads may share it: a size found by one of them holds for all.
#[derive(Debug)]
pub struct BackOff {
    device: Device,
    most: AtomicUsize,
    said: AtomicUsize,
}

impl BackOff {
    /// For a network on `device`.
    pub fn new(device: Device) -> BackOff {
        BackOff { device, most: AtomicUsize::new(usize::MAX), said: AtomicUsize::new(usize::MAX) }
    }

    /// `compute(images)` for images `[N, …]`. Each of its outputs has a row an image, and is
    /// returned whole.
    pub fn run(
        &self,
        images: &Tensor,
        mut compute: impl FnMut(&Tensor) -> Result<Vec<Tensor>>,
    ) -> Result<Vec<Tensor>> {
        let count = images.size().first().map_or(0, |&count| count as usize);
        let mut most = self.most.load(Ordering::Relaxed);
        let done = with_back_off(&mut most, count, 1, self.device, |most| {
            if count <= most {
                return compute(images);
            }
            let (mut start, mut outputs) = (0, Vec::<Vec<Tensor>>::new());
            for part in sizes(count, most, 1) {
                let part = part as i64;
                for (place, output) in compute(&images.f_narrow(0, start, part)?)?.into_iter().enumerate() {
                    match outputs.get_mut(place) {
                        Some(rows) => rows.push(output),
                        None => outputs.push(vec![output]),
                    }
                }
                start += part;
            }
            outputs.iter().map(|rows| Ok(Tensor::f_cat(rows, 0)?)).collect()
        });
        self.most.fetch_min(most, Ordering::Relaxed);
        done
    }

    /// The same for one output.
    pub fn run_one(
        &self,
        images: &Tensor,
        mut compute: impl FnMut(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let mut outputs = self.run(images, |images| Ok(vec![compute(images)?]))?;
        outputs.pop().ok_or_else(|| Error::run("a batch without an output"))
    }

    /// A note if memory has run out since the last call.
    pub fn note(&self) -> Option<String> {
        let most = self.most.load(Ordering::Relaxed);
        (self.said.swap(most, Ordering::Relaxed) != most).then(|| {
            format!(
                "{} has no room for a whole batch: the network sees {} at once from here, with the same results",
                place(self.device),
                crate::text::words::counted(most, "image", "images")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, TchError};

    fn full() -> Error {
        Error::from(TchError::Torch("CUDA out of memory. Tried to allocate 20.00 MiB.\nmore".into()))
    }

    #[test]
    fn parts_are_even_and_none_is_too_small() {
        assert_eq!(sizes(16, 4, 1), [4, 4, 4, 4]);
        assert_eq!(sizes(33, 16, 2), [11, 11, 11]);
        assert_eq!(sizes(5, 2, 2), [2, 3]);
        assert_eq!(sizes(3, 2, 2), [3]);
        assert_eq!(sizes(3, 1, 1), [1, 1, 1]);
        assert_eq!(sizes(1, 8, 2), [1]);
    }

    #[test]
    fn memory_that_runs_out_halves_the_parts_and_other_errors_do_not() {
        let (mut most, mut tried) = (usize::MAX, Vec::new());
        let done = with_back_off(&mut most, 20, 1, Device::Cpu, |most| {
            tried.push(most);
            if most > 4 { Err(full()) } else { Ok(most) }
        });
        // 20, 10, 5, 2: from a whole batch of 20.
        assert_eq!((done.unwrap(), most, tried), (2, 2, vec![usize::MAX, 10, 5, 2]));
        let mut tries = 0;
        let error = with_back_off(&mut most, 20, 1, Device::Cpu, |_| -> Result<()> {
            tries += 1;
            Err(Error::run("something else"))
        });
        assert_eq!((error.unwrap_err().to_string().as_str(), tries), ("something else", 1));
        let error =
            with_back_off(&mut 8, 8, 2, Device::Cuda(0), |_| -> Result<()> { Err(full()) }).unwrap_err();
        assert!(
            error.to_string().starts_with("there is no memory for 2 images at once (libtorch"),
            "{error}"
        );
        insta::assert_snapshot!(error.to_string(), @"there is no memory for 2 images at once (libtorch failed to run the network: Internal torch error: CUDA out of memory. Tried to allocate 20.00 MiB.): close what else uses the GPU, or take smaller images");
    }

    #[test]
    fn outputs_of_parts_come_whole_and_in_order_and_the_halving_is_said_once() {
        let parts = BackOff::new(Device::Cpu);
        let images = Tensor::arange(10, (Kind::Float, Device::Cpu)).reshape([10, 1]);
        let seen = std::cell::RefCell::new(Vec::new());
        let compute = |images: &Tensor| {
            let count = images.size()[0];
            seen.borrow_mut().push(count);
            if count > 3 { Err(full()) } else { Ok(vec![images * 2., images + 1.]) }
        };
        let outputs = parts.run(&images, compute).unwrap();
        assert_eq!(outputs, [&images * 2., &images + 1.]);
        assert_eq!(seen.take(), [10, 5, 2, 2, 2, 2, 2]);
        let note = parts.note().unwrap();
        insta::assert_snapshot!(note, @"this machine's memory has no room for a whole batch: the network sees 2 images at once from here, with the same results");
        parts.run(&images, compute).unwrap();
        assert_eq!((seen.take(), parts.note()), (vec![2; 5], None));
        assert_eq!(parts.run(&images.narrow(0, 0, 1), compute).unwrap()[0].size(), [1, 1]);
    }
}
