//! Parallel work on images, bounded and in order.
//!
//! Threads claim one image at a time, so that a batch of large images does not wait for a single
//! thread. Results are handed over in the order of their index, so that nothing downstream depends
//! on the number of threads. At most `window` images are claimed and not yet handed over, which
//! bounds memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tch::{Device, Kind, Tensor};

use crate::device::copy::upload;
use crate::error::{Error, Result};
use crate::preprocess::{Input, Preprocessing};

struct State<T> {
    /// The next index to claim.
    next: usize,
    /// The next index to hand over.
    wanted: usize,
    done: BTreeMap<usize, T>,
    stopped: bool,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// Something was finished.
    finished: Condvar,
    /// There is room, or the work has stopped.
    room: Condvar,
}

impl<T> Shared<T> {
    /// A thread that panicked leaves the state valid: every change is one assignment.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the threads to stop when the consumer leaves, in any way.
struct StopOnDrop<'a, T>(&'a Shared<T>);

impl<T> Drop for StopOnDrop<'_, T> {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.room.notify_all();
    }
}

/// Calls `produce(i)` for `i` in `0..count` on `threads` threads and `consume(i, result)` on the
/// calling thread in ascending order. An error of `consume` stops the work and is returned.
pub fn for_each_ordered<T: Send>(
    count: usize,
    threads: usize,
    window: usize,
    produce: impl Fn(usize) -> T + Sync,
    mut consume: impl FnMut(usize, T) -> Result<()>,
) -> Result<()> {
    let window = window.max(1);
    let state = State { next: 0, wanted: 0, done: BTreeMap::new(), stopped: false };
    let shared = Shared { state: Mutex::new(state), finished: Condvar::new(), room: Condvar::new() };
    let work = || {
        loop {
            let mut state = shared.lock();
            while !state.stopped && state.next < count && state.next >= state.wanted + window {
                state = shared.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.stopped || state.next >= count {
                return;
            }
            let index = state.next;
            state.next += 1;
            drop(state);
            let result = produce(index);
            shared.lock().done.insert(index, result);
            shared.finished.notify_one();
        }
    };
    std::thread::scope(|scope| {
        let stop = StopOnDrop(&shared);
        let workers: Vec<_> = (0..threads.clamp(1, count.max(1)))
            .map(|number| {
                std::thread::Builder::new().name(format!("loader {number}")).spawn_scoped(scope, work)
            })
            .collect::<Result<_, _>>()
            .map_err(|error| Error::run(format!("cannot start a loader thread: {error}")))?;
        for index in 0..count {
            let mut state = shared.lock();
            let result = loop {
                if let Some(result) = state.done.remove(&index) {
                    break result;
                }
                // A thread ends when all images are claimed. One that ended before, or all of them
                // while an image is wanted, panicked.
                let mut ended = workers.iter().map(|worker| worker.is_finished());
                let early =
                    if state.next < count { ended.any(|ended| ended) } else { ended.all(|ended| ended) };
                if early {
                    drop(state);
                    drop(stop);
                    // Joined here: the scope propagates the panics of threads that are not joined.
                    workers.into_iter().for_each(|worker| drop(worker.join()));
                    return Err(Error::run("a thread that reads images has failed: see the message above"));
                }
                let patience = std::time::Duration::from_millis(200);
                let (guard, _) =
                    shared.finished.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner);
                state = guard;
            };
            state.wanted = index + 1;
            drop(state);
            shared.room.notify_all();
            consume(index, result)?;
        }
        Ok(())
    })
}

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

/// The memory of a batch, with a slot for each image.
struct Slab<E> {
    tensor: Tensor,
    start: *mut E,
    slots: usize,
    length: usize,
}

// SAFETY: threads write to slots, each to its own; only the calling thread uses the tensor.
unsafe impl<E: Send> Send for Slab<E> {}
unsafe impl<E: Send> Sync for Slab<E> {}

impl<E> Slab<E> {
    /// # Safety
    /// Nothing else may refer to the same slot.
    #[allow(clippy::mut_from_ref)]
    unsafe fn slot(&self, slot: usize) -> &mut [E] {
        assert!(slot < self.slots, "a batch has a slot for each of its images");
        // SAFETY: the tensor is contiguous, has this many numbers, and lives as long as the slab.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(slot * self.length), self.length) }
    }
}

/// The batches being filled.
struct Slabs<E> {
    /// The images of each batch, if none fails.
    spans: Vec<std::ops::Range<usize>>,
    shape: [i64; 3],
    open: Mutex<BTreeMap<usize, Arc<Slab<E>>>>,
}

impl<E: tch::kind::Element> Slabs<E> {
    fn new(spans: Vec<std::ops::Range<usize>>, shape: [i64; 3]) -> Self {
        Slabs { spans, shape, open: Mutex::new(BTreeMap::new()) }
    }

    /// The slot of an image.
    fn place(&self, index: usize) -> Result<(Arc<Slab<E>>, usize)> {
        let batch = self.spans.partition_point(|span| span.end <= index);
        let span = self.spans.get(batch).ok_or_else(|| Error::run("an image belongs to no batch"))?;
        Ok((self.slab(batch, span.len())?, index - span.start))
    }

    fn slab(&self, batch: usize, slots: usize) -> Result<Arc<Slab<E>>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slab) = open.get(&batch) {
            return Ok(Arc::clone(slab));
        }
        let length = self.shape.iter().product::<i64>() as usize;
        let shape = [slots as i64, self.shape[0], self.shape[1], self.shape[2]];
        let tensor = Tensor::f_empty(shape, (E::KIND, Device::Cpu))
            .map_err(|_| too_large(slots.saturating_mul(length)))?;
        let slab = Arc::new(Slab { start: tensor.data_ptr().cast(), tensor, slots, length });
        open.insert(batch, Arc::clone(&slab));
        Ok(slab)
    }

    /// Image `index` and those before it have arrived: a batch that ends with it is complete.
    fn done(&self, index: usize) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|batch, _| self.spans[*batch].end > index + 1);
    }
}

/// The images at `places` as one tensor: the filled batch itself if none has failed, else a copy.
fn gather<E>(places: &[(Arc<Slab<E>>, usize)]) -> std::result::Result<Tensor, tch::TchError> {
    let together = |(number, (slab, slot)): (usize, &(Arc<Slab<E>>, usize))| {
        number == *slot && Arc::ptr_eq(slab, &places[0].0)
    };
    match places.first() {
        Some((slab, _)) if places.iter().enumerate().all(together) => {
            slab.tensor.f_narrow(0, 0, places.len() as i64)
        }
        _ => {
            let image = |(slab, slot): &(Arc<Slab<E>>, usize)| slab.tensor.f_narrow(0, *slot as i64, 1);
            Tensor::f_cat(&places.iter().map(image).collect::<std::result::Result<Vec<_>, _>>()?, 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::RgbImage;

    #[test]
    fn results_come_in_order_and_at_most_a_window_ahead() {
        let (mut seen, ahead) = (Vec::new(), Mutex::new((0usize, 0usize)));
        let produce = |index: usize| {
            std::thread::sleep(std::time::Duration::from_micros((index as u64 * 7919) % 300));
            let mut ahead = ahead.lock().unwrap();
            ahead.0 = ahead.0.max((index + 1).saturating_sub(ahead.1));
            index * 2
        };
        for_each_ordered(200, 8, 5, produce, |index, result| {
            ahead.lock().unwrap().1 = index + 1;
            seen.push(result);
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, (0..200).map(|index| index * 2).collect::<Vec<_>>());
        // The one being handed over has made room already.
        assert!(ahead.lock().unwrap().0 <= 6, "{ahead:?}");
    }

    #[test]
    fn an_error_of_the_consumer_stops_the_work() {
        let produced = Mutex::new(0);
        let result = for_each_ordered(
            1_000_000,
            4,
            10,
            |_| *produced.lock().unwrap() += 1,
            |index, ()| if index == 3 { Err(Error::run("enough")) } else { Ok(()) },
        );
        assert_eq!(result.unwrap_err().to_string(), "enough");
        assert!(*produced.lock().unwrap() < 30);
    }

    #[test]
    fn a_thread_that_panics_is_an_error_and_no_hang() {
        for (count, bad) in [(1000, 5), (1000, 999), (1, 0)] {
            let produce = |index: usize| assert!(index != bad, "this image breaks its reader");
            let error = for_each_ordered(count, 4, 8, produce, |_, ()| Ok(())).unwrap_err();
            assert!(error.to_string().contains("has failed"), "{error}");
        }
    }

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
