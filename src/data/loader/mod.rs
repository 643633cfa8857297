//! Images to batches: decoded in parallel, in the order that was asked for.

mod ordered;
mod slab;

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

pub use self::ordered::for_each_ordered;

use self::slab::{Slab, Slabs, gather};
use crate::device::copy::upload;
use crate::error::{Error, Result};
use crate::preprocess::{Input, Preprocessing};

/// Images ready for a network, in the requested order.
pub struct Batch {
    /// Their indices in the caller's list.
    pub indices: Vec<usize>,
    /// `[N, 3, crop_size, crop_size]`, normalised; on the CPU with the given [`Layout`], unless
    /// [`Batching::run_on`] has moved it.
    pub images: Tensor,
}

/// Memory layout of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A plane a channel, torch's default.
    Planes,
    /// The channels of a pixel together, torch's channels-last: convolutions keep it, and are
    /// faster.
    ChannelsLast,
}

/// Images as pixels, to be normalised on the network's device: a quarter of the bytes of a
/// [`Batch`] to copy.
pub struct PixelBatch {
    /// Their indices in the caller's list.
    pub indices: Vec<usize>,
    /// uint8 `[N, crop_size, crop_size, 3]` on the CPU.
    pub pixels: Tensor,
    /// Offset of each image's channels: [`Input::shift`].
    pub shifts: Vec<[f32; 3]>,
}

impl PixelBatch {
    /// The network's input on `device`, `[N, 3, crop_size, crop_size]` in channels-last memory: the
    /// same numbers as [`Preprocessing::normalise_into`], computed there.
    pub fn normalised(&self, preprocessing: &Preprocessing, device: Device) -> Result<Tensor> {
        let pixels = upload(&self.pixels, device)?;
        let row = |values: &[f32]| upload(&Tensor::f_from_slice(values)?.f_reshape([-1, 3, 1, 1])?, device);
        let normalised = || -> Result<Tensor> {
            let mut images = pixels.f_permute([0, 3, 1, 2])?.f_to_kind(Kind::Float)?;
            // By tensors: CUDA multiplies by the inverse of a scalar, which rounds differently.
            let _ = images.f_div_(&row(&[255.; 3])?)?;
            if self.shifts.iter().any(|shift| *shift != [0.; 3]) {
                let _ = images.f_add_(&row(self.shifts.as_flattened())?)?;
            }
            let _ = images.f_sub_(&row(&preprocessing.mean)?)?;
            Ok(images.f_div_(&row(&preprocessing.std)?)?)
        };
        normalised()
    }
}

/// The maximum of numbers decoded ahead of their batch: a gigabyte.
pub const READ_AHEAD: usize = 1 << 28;

/// The error for a batch with too many numbers.
pub fn too_large(numbers: usize) -> Error {
    let gigabytes = numbers as f64 * 4e-9;
    Error::run(format!("a batch would take {gigabytes:.1} GB of memory: choose a smaller batch size"))
}

/// How images become batches.
#[derive(Clone, Copy)]
pub struct Batching<'a> {
    /// Crop size, mean and deviation.
    pub preprocessing: &'a Preprocessing,
    /// Images in a batch; the last batch may have fewer.
    pub batch_size: usize,
    /// Whether a single last image joins the previous batch: BatchNorm cannot normalise a single
    /// image.
    pub join_single: bool,
    /// Threads that decode.
    pub threads: usize,
}

/// Number of batches of `size` that `count` images make; `join_single` as in [`Batching`].
pub fn batch_count(count: usize, size: usize, join_single: bool) -> usize {
    let size = size.max(1);
    let single = join_single && size > 1 && count > 1 && count % size == 1;
    count.div_ceil(size) - usize::from(single)
}

impl Batching<'_> {
    /// Number of batches that `count` images make, if none fails.
    pub fn batches(&self, count: usize) -> usize {
        batch_count(count, self.batch_size, self.join_single)
    }

    /// The images of each batch of [`Batching::run`], if none fails.
    pub fn spans(&self, count: usize) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let (size, batches) = (self.batch_size, self.batches(count));
        (0..batches)
            .map(move |batch| batch * size..if batch + 1 == batches { count } else { (batch + 1) * size })
    }

    /// Batches of one image are intended if all are that small.
    fn joins(&self) -> bool {
        self.join_single && self.batch_size > 1
    }

    /// Calls `pixels(i)` for `i` in `0..count` in parallel and `each` with batches in order. An
    /// image that fails goes to `failed`, also in order; the next one takes its place in the batch.
    pub fn run<P: Into<Input>>(
        &self,
        count: usize,
        pixels: impl Fn(usize) -> Result<P> + Sync,
        failed: impl FnMut(usize, Error) -> Result<()>,
        each: impl FnMut(Batch) -> Result<()>,
    ) -> Result<()> {
        self.run_as(Layout::Planes, count, pixels, failed, each)
    }

    /// As [`Batching::run`], in memory layout `layout`.
    pub fn run_as<P: Into<Input>>(
        &self,
        layout: Layout,
        count: usize,
        pixels: impl Fn(usize) -> Result<P> + Sync,
        failed: impl FnMut(usize, Error) -> Result<()>,
        mut each: impl FnMut(Batch) -> Result<()>,
    ) -> Result<()> {
        let side = i64::from(self.preprocessing.crop_size);
        let shape = match layout {
            Layout::Planes => [3, side, side],
            Layout::ChannelsLast => [side, side, 3],
        };
        let fill = |index, slot: &mut [f32]| {
            let input: Input = pixels(index)?.into();
            match layout {
                Layout::Planes => self.preprocessing.normalise_into(&input, slot),
                Layout::ChannelsLast => self.preprocessing.normalise_pixels_into(&input, slot),
            }
            Ok(())
        };
        self.run_slots(count, shape, fill, failed, |indices, _, images| {
            let images = match layout {
                Layout::Planes => images,
                Layout::ChannelsLast => {
                    images.f_permute([0, 3, 1, 2]).map_err(Error::torch("make a batch"))?
                }
            };
            each(Batch { indices, images })
        })
    }

    /// As [`Batching::run`], with pixels that are not normalised yet.
    pub fn run_pixels<P: Into<Input>>(
        &self,
        count: usize,
        pixels: impl Fn(usize) -> Result<P> + Sync,
        failed: impl FnMut(usize, Error) -> Result<()>,
        mut each: impl FnMut(PixelBatch) -> Result<()>,
    ) -> Result<()> {
        let side = i64::from(self.preprocessing.crop_size);
        let fill = |index, slot: &mut [u8]| {
            let input: Input = pixels(index)?.into();
            assert_eq!(slot.len(), input.pixels.data.len(), "a crop is as large as the preprocessing says");
            slot.copy_from_slice(&input.pixels.data);
            Ok(input.shift)
        };
        self.run_slots(count, [side, side, 3], fill, failed, |indices, shifts, pixels| {
            each(PixelBatch { indices, pixels, shifts })
        })
    }

    /// As [`Batching::run`], with batches on `device`, in memory layout `layout`. A GPU gets pixels
    /// and normalises them, to the same numbers, always channels-last.
    pub fn run_on<P: Into<Input>>(
        &self,
        device: Device,
        layout: Layout,
        count: usize,
        pixels: impl Fn(usize) -> Result<P> + Sync,
        failed: impl FnMut(usize, Error) -> Result<()>,
        mut each: impl FnMut(Batch) -> Result<()>,
    ) -> Result<()> {
        if !device.is_cuda() {
            return self.run_as(layout, count, pixels, failed, each);
        }
        self.run_pixels(count, pixels, failed, |batch| {
            let images = batch.normalised(self.preprocessing, device)?;
            each(Batch { indices: batch.indices, images })
        })
    }

    /// Batches of images of `shape`, each written by `fill` into its slot. `each` gets the images'
    /// indices, the results of `fill`, and the batch.
    fn run_slots<E: tch::kind::Element + Send, R: Send>(
        &self,
        count: usize,
        shape: [i64; 3],
        fill: impl Fn(usize, &mut [E]) -> Result<R> + Sync,
        mut failed: impl FnMut(usize, Error) -> Result<()>,
        mut each: impl FnMut(Vec<usize>, Vec<R>, Tensor) -> Result<()>,
    ) -> Result<()> {
        let length = 3 * (self.preprocessing.crop_size as usize).pow(2);
        let window = (2 * self.batch_size).min((READ_AHEAD / length).max(4 * self.threads));
        let slabs = Slabs::new(self.spans(count).collect(), shape);
        // Checked before any image is read.
        if let Some(span) = slabs.spans.first() {
            slabs.slab(0, span.len())?;
        }
        let produce = |index| {
            let (slab, slot) = slabs.place(index)?;
            // SAFETY: an index is claimed once, by one thread, so nothing else refers to its slot
            // until the result has been handed over.
            let result = fill(index, unsafe { slab.slot(slot) })?;
            Ok((result, slab, slot))
        };
        let (mut indices, mut results) = (Vec::new(), Vec::new());
        let mut places: Vec<(Arc<Slab<E>>, usize)> = Vec::new();
        for_each_ordered(count, self.threads, window, produce, |index, result: Result<_>| {
            match result {
                Ok((result, slab, slot)) => {
                    indices.push(index);
                    results.push(result);
                    places.push((slab, slot));
                }
                Err(error) => failed(index, error)?,
            }
            slabs.done(index);
            let left = count - index - 1;
            let full = indices.len() >= self.batch_size && !(self.joins() && left == 1);
            if full || (left == 0 && !indices.is_empty()) {
                let images = gather(&places).map_err(Error::torch("make a batch"))?;
                places.clear();
                each(std::mem::take(&mut indices), std::mem::take(&mut results), images)?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::RgbImage;

    #[test]
    fn batches_are_as_many_as_they_are_said_to_be() {
        let preprocessing = crate::models::find("alexnet").unwrap().weights()[0].preprocessing.clone();
        let preprocessing = Preprocessing { crop_size: 1, ..preprocessing };
        for count in 1..=34 {
            for batch_size in [1, 2, 3, 4, 7, 11, 16, 32, 33, 40] {
                for join_single in [false, true] {
                    let batching =
                        Batching { preprocessing: &preprocessing, batch_size, join_single, threads: 2 };
                    let (mut sizes, mut order) = (Vec::new(), Vec::new());
                    let pixels = |_| Ok(RgbImage::black(1, 1));
                    batching
                        .run(
                            count,
                            pixels,
                            |_, error| Err(error),
                            |batch| {
                                assert_eq!(batch.images.size(), [batch.indices.len() as i64, 3, 1, 1]);
                                sizes.push(batch.indices.len());
                                order.extend(batch.indices);
                                Ok(())
                            },
                        )
                        .unwrap();
                    let case = format!("{count} by {batch_size}, join {join_single}: {sizes:?}");
                    assert_eq!(sizes.len(), batching.batches(count), "{case}");
                    // As in the plan.
                    assert_eq!(sizes.len(), batch_count(count, batch_size, join_single), "{case}");
                    let spans: Vec<usize> = batching.spans(count).map(|span| span.len()).collect();
                    assert_eq!(sizes, spans, "{case}");
                    assert_eq!(order, (0..count).collect::<Vec<_>>(), "{case}");
                    let single = join_single && batch_size > 1 && count > 1 && sizes.last() == Some(&1);
                    assert!(!single, "{case}");
                }
            }
        }
    }

    /// A preset for pictures of 5 × 5 pixels, a few threads, and different pictures.
    fn small() -> Preprocessing {
        let preprocessing = crate::models::find("alexnet").unwrap().weights()[0].preprocessing.clone();
        Preprocessing { crop_size: 5, ..preprocessing }
    }

    fn picture(index: usize) -> Input {
        let data = (0..75).map(|byte| (byte * 37 + index * 11) as u8).collect();
        let shift = if index.is_multiple_of(2) { [0.; 3] } else { [0.1, -0.2, index as f32 / 100.] };
        Input { pixels: RgbImage { width: 5, height: 5, data }, shift }
    }

    #[test]
    fn batches_close_up_where_images_fail_and_every_layout_has_the_same_numbers() {
        let preprocessing = small();
        let batching =
            Batching { preprocessing: &preprocessing, batch_size: 4, join_single: true, threads: 3 };
        let bad_ones: [&[usize]; 6] = [&[], &[0], &[3, 4], &[5], &[20], &(0..21).collect::<Vec<_>>()];
        for bad in bad_ones {
            let pixels =
                |index| if bad.contains(&index) { Err(Error::run("bad")) } else { Ok(picture(index)) };
            let numbers = |tensor: &Tensor| Vec::<f32>::try_from(tensor.contiguous().flatten(0, -1)).unwrap();
            let check = |indices: &[usize], images: &Tensor| {
                assert_eq!(images.size(), [indices.len() as i64, 3, 5, 5]);
                for (index, found) in indices.iter().zip(numbers(images).chunks(75)) {
                    let mut expected = vec![0.; 75];
                    preprocessing.normalise_into(&picture(*index), &mut expected);
                    assert_eq!(found, expected, "image {index}");
                }
            };
            let good: Vec<usize> = (0..21).filter(|index| !bad.contains(index)).collect();
            for layout in [Layout::Planes, Layout::ChannelsLast] {
                let (mut seen, mut failed, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
                batching
                    .run_as(
                        layout,
                        21,
                        pixels,
                        |index, _| {
                            failed.push(index);
                            Ok(())
                        },
                        |batch| {
                            check(&batch.indices, &batch.images);
                            sizes.push(batch.indices.len());
                            seen.extend(batch.indices);
                            Ok(())
                        },
                    )
                    .unwrap();
                assert_eq!((&seen, &failed[..]), (&good, bad));
                // Only the last batch may have another size; all before it are full.
                assert!(sizes.iter().rev().skip(1).all(|&size| size == 4), "{sizes:?}");
            }
            let mut seen = Vec::new();
            batching
                .run_pixels(
                    21,
                    pixels,
                    |_, _| Ok(()),
                    |batch| {
                        assert_eq!(batch.pixels.size(), [batch.indices.len() as i64, 5, 5, 3]);
                        check(&batch.indices, &batch.normalised(&preprocessing, Device::Cpu)?);
                        seen.extend(batch.indices);
                        Ok(())
                    },
                )
                .unwrap();
            assert_eq!(seen, good);
        }
    }
}
