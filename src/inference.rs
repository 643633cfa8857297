//! Networks at work on many images: on a CPU each core by itself, on a device the whole network at once.
//!
//! All cores on one operation of a convolutional network wait for each other several hundred times an image, and
//! while they do, nobody decodes. So each core decodes a few images and runs them through the network by itself, with
//! libtorch's own threads off; results are handed over in the order of the list. The weights are there once: see
//! [`InferenceNetwork`].
//!
//! How many images go through together is a function of their number and size alone ([`micro_batch`]), never of the
//! threads, so that neither are the results. Milliseconds an image on one core (AMD EPYC 9005, AVX-512, 224×224
//! pixels), by the size of the micro-batch:
//!
//! | | 1 | 2 | 4 | 8 | 16 | 32 |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | ResNet-18 | 20.7 | 19.1 | 18.1 | 17.2 | 18.1 | 19.2 |
//! | ResNet-50 | 54.9 | 46.0 | 47.0 | 42.0 | 49.2 | 51.2 |
//! | MobileNet v2 | 4.0 | 6.0 | 5.0 | 5.0 | 9.3 | 11.7 |
//! | ViT-B/16 | 240 | 200 | 178 | 173 | 194 | 195 |
//!
//! Few images pay for laying out the weights anew in each operation, many leave the cache, and memory of more than
//! 32 MiB is given back to the system and fetched again each time.

use std::cell::Cell;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tch::{Device, Tensor};

use crate::error::{Error, Result};
use crate::loader::{Batching, for_each_ordered};
use crate::models::{Folding, InferenceNetwork, Network};
use crate::preprocess::{Input, Preprocessing};

/// Images that go through a network together on one core, at most.
const MICRO_BATCH: usize = 8;
/// The side of images in pixels up to which that many do; of larger ones fewer, for the cache's sake.
const SIDE: usize = 224;
/// No core gets fewer than so many micro-batches of a longer list while the others work.
const SHARES: usize = 32;
/// So few images go one after the other through the network as it is, on all cores: preparing another one would take
/// longer than it saves.
const FEW: usize = 2;

/// How many of `images` images of `side` pixels a side go through a network together on one core.
pub fn micro_batch(images: usize, side: u32) -> usize {
    let side = (side as usize).max(1);
    let most = (MICRO_BATCH * SIDE * SIDE / (side * side)).clamp(1, MICRO_BATCH);
    (images / SHARES).clamp(1, most)
}

/// Networks, and the threads that run them.
pub struct Inference<'a> {
    networks: Vec<&'a Network>,
    /// For each worker the same networks once more; none where the calling thread computes.
    crew: Mutex<Vec<Vec<Network>>>,
    workers: usize,
    threads: usize,
    images: usize,
}

impl<'a> Inference<'a> {
    /// For a list of `images` images on at most `threads` cores. The networks, which share a device, are as they are
    /// now: later changes to them are not seen.
    pub fn new(networks: &[&'a Network], images: usize, threads: usize, folding: Folding) -> Result<Self> {
        let on_cpu = networks.iter().all(|network| network.device() == Device::Cpu);
        let workers = if on_cpu && images > FEW { threads.clamp(1, images) } else { 0 };
        let mut crew = Vec::new();
        if workers > 0 {
            let prepared = networks.iter().map(|network| InferenceNetwork::of(network, folding));
            let prepared = prepared.collect::<Result<Vec<_>>>()?;
            for _ in 0..workers {
                crew.push(prepared.iter().map(InferenceNetwork::network).collect::<Result<_>>()?);
            }
        }
        Ok(Inference { networks: networks.to_vec(), crew: Mutex::new(crew), workers, threads, images })
    }

    /// Cuts a list, of which the items before `start` are done, into parts of `size`: the same parts wherever it is
    /// taken up, if that is between two of them.
    fn parts(start: usize, end: usize, size: usize) -> impl Fn(usize) -> Range<usize> {
        move |part| (start + part * size).min(end)..(start + (part + 1) * size).min(end)
    }

    /// For each part, `size` items of `range` (the last may have fewer): `prepare` on any thread, then `compute`
    /// with the networks, then `each` on the calling thread and in order. An error of any of them ends the work.
    pub fn run<A: Send, B: Send>(
        &self,
        range: Range<usize>,
        size: usize,
        prepare: impl Fn(Range<usize>) -> Result<A> + Sync,
        compute: impl Fn(&[&Network], A) -> Result<B> + Sync,
        mut each: impl FnMut(Range<usize>, B) -> Result<()>,
    ) -> Result<()> {
        let size = size.max(1);
        let count = range.len().div_ceil(size);
        let span = Self::parts(range.start, range.end, size);
        if self.workers == 0 {
            let threads = self.threads.clamp(1, count.max(1));
            return for_each_ordered(count, threads, 2 * threads, |part| prepare(span(part)), |part, made| {
                each(span(part), compute(&self.networks, made?)?)
            });
        }
        let _threads = KeepThreads::new();
        // What the threads share is this alone: a network belongs to one thread at a time.
        let crew = &self.crew;
        let work = |part| {
            compute_alone();
            let networks = lock(crew).pop().ok_or_else(|| Error::run("there are more threads than networks"))?;
            let made = prepare(span(part)).and_then(|made| {
                compute(&networks.iter().collect::<Vec<_>>(), made)
            });
            lock(crew).push(networks);
            made
        };
        for_each_ordered(count, self.workers, 3 * self.workers, work, |part, made| each(span(part), made?))
    }

    /// Calls `pixels(i)` for the images of `range`, `compute` with their batches `[N, 3, H, W]` and indices, and
    /// `each` with the indices and what came of it, in order. An image that fails goes to `failed`, in order too.
    pub fn images<P: Into<Input>, T: Send>(
        &self,
        batching: &Batching,
        range: Range<usize>,
        pixels: impl Fn(usize) -> Result<P> + Sync,
        compute: impl Fn(&Network, &Tensor, &[usize]) -> Result<T> + Sync,
        mut failed: impl FnMut(usize, Error) -> Result<()>,
        mut each: impl FnMut(&[usize], T) -> Result<()>,
    ) -> Result<()> {
        let Some(&network) = self.networks.first() else { return Ok(()) };
        let start = range.start;
        if self.workers == 0 {
            let pixels = |index| pixels(start + index);
            return batching.run(range.len(), pixels, |index, error| failed(start + index, error), |batch| {
                let indices: Vec<usize> = batch.indices.iter().map(|index| start + index).collect();
                let images = batch.images.f_to_device(network.device())?;
                each(&indices, compute(network, &images, &indices)?)
            });
        }
        let preprocessing = batching.preprocessing;
        let prepare = |span: Range<usize>| {
            let (mut indices, mut inputs, mut failures) = (Vec::new(), Vec::new(), Vec::new());
            for index in span {
                match pixels(index) {
                    Ok(image) => {
                        indices.push(index);
                        inputs.push(image.into());
                    }
                    Err(error) => failures.push((index, error)),
                }
            }
            Ok((indices, inputs, failures))
        };
        let compute = |networks: &[&Network], (indices, inputs, failures): (Vec<usize>, Vec<Input>, _)| {
            let made = match indices.is_empty() {
                true => None,
                false => Some(compute(networks[0], &batch(preprocessing, &inputs)?, &indices)?),
            };
            Ok((indices, made, failures))
        };
        let size = self.size(batching.batch_size, preprocessing.crop_size);
        self.run(range, size, prepare, compute, |_, (indices, made, failures)| {
            for (index, error) in failures {
                failed(index, error)?;
            }
            made.map_or(Ok(()), |made| each(&indices, made))
        })
    }

    /// Images of `side` pixels a side in a part, where a batch has `batch_size`.
    pub fn size(&self, batch_size: usize, side: u32) -> usize {
        match self.workers {
            0 => batch_size,
            _ => micro_batch(self.images, side).min(batch_size),
        }
    }
}

/// A thread that panicked took its networks with it, and the work has ended.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Images as a batch, channels-last, as [`Preprocessing::normalise_into`] computes the numbers.
fn batch(preprocessing: &Preprocessing, inputs: &[Input]) -> Result<Tensor> {
    let side = preprocessing.crop_size as usize;
    let mut values = Vec::with_capacity(inputs.len() * side * side * 3);
    for Input { pixels, shift } in inputs {
        let tables: [[f32; 256]; 3] = std::array::from_fn(|channel| {
            let (mean, std) = (preprocessing.mean[channel], preprocessing.std[channel]);
            std::array::from_fn(|value| (value as f32 / 255.0 + shift[channel] - mean) / std)
        });
        let [red, green, blue] = &tables;
        values.extend(pixels.data.as_chunks::<3>().0.iter().flat_map(|&[r, g, b]| {
            [red[usize::from(r)], green[usize::from(g)], blue[usize::from(b)]]
        }));
    }
    let side = side as i64;
    Tensor::f_from_slice(&values)
        .and_then(|values| values.f_reshape([inputs.len() as i64, side, side, 3])?.f_permute([0, 3, 1, 2]))
        .map_err(Error::torch("make a batch"))
}

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// From now on, this thread runs its operations by itself.
fn compute_alone() {
    // OpenMP and MKL keep the number of threads for each thread that asks.
    ALONE.with(|alone| if !alone.replace(true) { tch::set_num_threads(1) });
}

/// libtorch also takes the last number set, by whatever thread, for threads that are yet to come: set it back.
struct KeepThreads(i32);

impl KeepThreads {
    fn new() -> Self {
        KeepThreads(tch::get_num_threads())
    }
}

impl Drop for KeepThreads {
    fn drop(&mut self) {
        tch::set_num_threads(self.0);
    }
}
