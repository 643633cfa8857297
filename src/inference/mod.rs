//! Networks on many images: on a CPU each core runs alone, on a device the whole network runs at
//! once.
//!
//! With all cores on one operation, a convolutional network makes them wait for each other several
//! hundred times an image, and nobody decodes meanwhile. So each core decodes a few images and runs
//! them through the network alone, with libtorch's own threads off; results are returned in the
//! order of the list. The weights exist once: see [`InferenceNetwork`].
//!
//! The number of images that go through together depends only on their number and size
//! ([`micro_batch`]), never on the threads, and so the results do not either. Milliseconds an image
//! on one core (AMD EPYC 9005, AVX-512, 224×224 pixels), by the size of the micro-batch:
//!
//! | | 1 | 2 | 4 | 8 | 16 | 32 |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | ResNet-18 | 20.7 | 19.1 | 18.1 | 17.2 | 18.1 | 19.2 |
//! | ResNet-50 | 54.9 | 46.0 | 47.0 | 42.0 | 49.2 | 51.2 |
//! | MobileNet v2 | 4.0 | 6.0 | 5.0 | 5.0 | 9.3 | 11.7 |
//! | ViT-B/16 | 240 | 200 | 178 | 173 | 194 | 195 |
//!
//! Few images pay for reordering the weights in each operation, many leave the cache, and memory of
//! more than 32 MiB is returned to the system and fetched again each time. For small images an
//! operation's overhead exceeds its arithmetic: at 64×64 pixels ShuffleNetV2 ×0.5 takes 1.7 ms an
//! image one by one, 0.34 in eights and 0.2 in thirty-twos.

pub mod ensemble;
pub mod explain;
pub mod features;
pub mod measure;
pub mod readings;

use std::cell::Cell;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tch::{Device, Tensor};

use crate::data::loader::{Batching, Layout, for_each_ordered};
use crate::device::copy::Behind;
use crate::error::{Error, Result};
use crate::models::{Folding, InferenceNetwork, Network};
use crate::preprocess::{Input, Preprocessing};

/// Images of [`SIDE`] pixels a side in a micro-batch on one core, at most.
const MICRO_BATCH: usize = 8;
/// Fewer of larger images, for the cache's sake, and more of smaller ones: as many pixels.
const SIDE: usize = 224;
/// Limit for small images: beyond it an operation's overhead hardly matters.
const MOST: usize = 32;
/// No core gets fewer micro-batches of a longer list than this while the others work.
const SHARES: usize = 32;
/// This few images go one by one through the original network: preparing a copy would take longer
/// than it saves.
const FEW: usize = 2;

/// The environment variable that requests the original networks.
const UNFOLDED: &str = "TL_UNFOLDED";

/// The number of images, of `images` with `side` pixels a side, that go through a network together
/// on one core.
pub fn micro_batch(images: usize, side: u32) -> usize {
    let pixels = (side as usize).pow(2).max(1);
    // The work of one image of `SIDE` is never divided.
    let least = (SIDE * SIDE / pixels).clamp(1, MOST);
    let most = (MICRO_BATCH * SIDE * SIDE / pixels).clamp(1, MOST);
    (images.saturating_mul(least) / SHARES).clamp(least, most.max(least))
}

/// Networks, and the threads that run them.
pub struct Inference<'a> {
    networks: Vec<&'a Network>,
    /// For each worker its copies of the networks; empty if the calling thread computes.
    idle: Mutex<Vec<Vec<Network>>>,
    workers: usize,
    threads: usize,
    images: usize,
}

impl<'a> Inference<'a> {
    /// For a list of `images` images on at most `threads` cores. The networks, which share a
    /// device, are copied as they are now: later changes have no effect.
    pub fn new(networks: &[&'a Network], images: usize, threads: usize, folding: Folding) -> Result<Self> {
        let on_cpu = networks.iter().all(|network| network.device() == Device::Cpu);
        let workers = if on_cpu && images > FEW && !as_they_are() { threads.clamp(1, images) } else { 0 };
        let mut idle = Vec::new();
        if workers > 0 {
            let prepared = networks.iter().map(|network| InferenceNetwork::of(network, folding));
            let prepared = prepared.collect::<Result<Vec<_>>>()?;
            for _ in 0..workers {
                idle.push(prepared.iter().map(InferenceNetwork::network).collect::<Result<_>>()?);
            }
        }
        Ok(Inference { networks: networks.to_vec(), idle: Mutex::new(idle), workers, threads, images })
    }

    fn device(&self) -> Device {
        self.networks.first().map_or(Device::Cpu, |network| network.device())
    }

    /// Cuts a list, of which the items before `start` are done, into parts of `size`: the same
    /// parts wherever it resumes, if that is between two of them.
    fn parts(start: usize, end: usize, size: usize) -> impl Fn(usize) -> Range<usize> {
        move |part| (start + part * size).min(end)..(start + (part + 1) * size).min(end)
    }

    /// For each part, `size` items of `range` (the last may have fewer): `prepare` on any thread,
    /// then `compute` with the networks, then `each` on the calling thread and in order; on a GPU,
    /// once the next part is under way. An error of any of them ends the work.
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
            let mut behind = Behind::new(self.device());
            for_each_ordered(
                count,
                threads,
                2 * threads,
                |part| prepare(span(part)),
                |part, made| {
                    let made = compute(&self.networks, made?)?;
                    behind.push((part, made)).map_or(Ok(()), |(part, made)| each(span(part), made))
                },
            )?;
            return behind.pop().map_or(Ok(()), |(part, made)| each(span(part), made));
        }
        let _threads = KeepThreads::new();
        // The threads share only this: a network belongs to one thread at a time.
        let idle = &self.idle;
        let work = |part| {
            compute_alone();
            let networks =
                lock(idle).pop().ok_or_else(|| Error::run("there are more threads than networks"))?;
            let made =
                prepare(span(part)).and_then(|made| compute(&networks.iter().collect::<Vec<_>>(), made));
            lock(idle).push(networks);
            made
        };
        for_each_ordered(count, self.workers, 3 * self.workers, work, |part, made| each(span(part), made?))
    }

    /// Calls `pixels(i)` for the images of `range`, `compute` with their batches `[N, 3, H, W]` and
    /// indices, and `each` with the indices and the results, in order. An image that fails goes to
    /// `failed`, in order too.
    ///
    /// On a GPU, `each` gets a batch after the next one has started: let `compute` begin a
    /// [`Download`](crate::device::copy::Download), and `each` wait for it.
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
            let mut behind = Behind::new(network.device());
            batching.run_on(
                network.device(),
                Layout::Planes,
                range.len(),
                pixels,
                |index, error| failed(start + index, error),
                |batch| {
                    let indices: Vec<usize> = batch.indices.iter().map(|index| start + index).collect();
                    let made = compute(network, &batch.images, &indices)?;
                    behind.push((indices, made)).map_or(Ok(()), |(indices, made)| each(&indices, made))
                },
            )?;
            return behind.pop().map_or(Ok(()), |(indices, made)| each(&indices, made));
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

    /// Images of `side` pixels a side in a part, for batches of `batch_size`.
    pub fn size(&self, batch_size: usize, side: u32) -> usize {
        match self.workers {
            0 => batch_size,
            _ => micro_batch(self.images, side).min(batch_size),
        }
    }
}

/// Whether to run the original networks, all cores on one operation: for comparisons to the last
/// digits.
pub fn as_they_are() -> bool {
    std::env::var_os(UNFOLDED).is_some_and(|value| !value.is_empty())
}

/// A thread that panicked took its networks with it, and the work has ended.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Images as a batch, channels-last.
fn batch(preprocessing: &Preprocessing, inputs: &[Input]) -> Result<Tensor> {
    let side = preprocessing.crop_size as usize;
    let length = side * side * 3;
    let mut values = vec![0.; inputs.len() * length];
    for (input, slot) in inputs.iter().zip(values.chunks_exact_mut(length)) {
        preprocessing.normalise_pixels_into(input, slot);
    }
    let side = side as i64;
    Tensor::f_from_slice(&values)
        .and_then(|values| values.f_reshape([inputs.len() as i64, side, side, 3])?.f_permute([0, 3, 1, 2]))
        .map_err(Error::torch("make a batch"))
}

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Makes this thread run its operations alone from now on.
fn compute_alone() {
    // OpenMP and MKL keep the number of threads per calling thread.
    ALONE.with(|alone| {
        if !alone.replace(true) {
            tch::set_num_threads(1)
        }
    });
}

/// libtorch also applies the last number set, by any thread, to new threads: restore it.
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

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;
    use crate::models::{Fill, Tap, find};
    use crate::preprocess::{Fit, Interpolation, RgbImage};

    const PRESET: Preprocessing = Preprocessing {
        resize_size: 64,
        crop_size: 64,
        interpolation: Interpolation::Bilinear,
        mean: [0.4, 0.5, 0.6],
        std: [0.2, 0.3, 0.25],
        fit: Fit::Crop,
        pad_color: None,
        white_level: None,
    };

    fn picture(index: usize) -> Result<RgbImage> {
        if index % 7 == 3 {
            return Err(Error::run(format!("image {index} is bad")));
        }
        let bytes = (0..64 * 64 * 3).map(|byte| ((byte * (index + 3) + byte / 97) % 251) as u8);
        Ok(RgbImage { width: 64, height: 64, data: bytes.collect() })
    }

    fn network(name: &str) -> Network {
        Network::sized(find(name).unwrap(), 5, 64, Device::Cpu, Fill::Initial { seed: 1 }).unwrap()
    }

    /// Indices that failed, indices that were computed, and the features.
    fn features(
        network: &Network,
        images: usize,
        start: usize,
        threads: usize,
    ) -> (Vec<usize>, Vec<usize>, Tensor) {
        let batching = Batching { preprocessing: &PRESET, batch_size: 32, join_single: false, threads };
        let inference = Inference::new(&[network], images, threads, Folding::Folded).unwrap();
        let (mut bad, mut good, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        let work = inference.images(
            &batching,
            start..images,
            picture,
            |network, images, indices| {
                assert_eq!(images.size(), [indices.len() as i64, 3, 64, 64]);
                network.read(images, Tap::Features)
            },
            |index, error| {
                assert_eq!(error.to_string(), format!("image {index} is bad"));
                bad.push(index);
                Ok(())
            },
            |indices, features| {
                good.extend_from_slice(indices);
                rows.push(features);
                Ok(())
            },
        );
        work.unwrap();
        (bad, good, Tensor::cat(&rows, 0))
    }

    fn relative_error(a: &Tensor, b: &Tensor) -> f64 {
        let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
        (&a - &b).norm().double_value(&[]) / b.norm().double_value(&[])
    }

    #[test]
    fn results_come_in_order_and_are_the_same_for_any_number_of_threads() {
        let network = network("shufflenet_v2_x0_5");
        let (bad, good, one) = features(&network, 100, 0, 1);
        assert!(bad.iter().copied().eq((0..100).filter(|index| index % 7 == 3)));
        assert!(good.iter().copied().eq((0..100).filter(|index| index % 7 != 3)));
        let threads = tch::get_num_threads();
        for workers in [2, 4] {
            let (_, order, found) = features(&network, 100, 0, workers);
            assert_eq!(order, good);
            assert_eq!(found, one, "{workers} threads");
        }
        assert_eq!(tch::get_num_threads(), threads, "the caller keeps its threads");
        // Resumed in the middle, the rest is the same.
        let (_, rest, found) = features(&network, 100, 51, 3);
        let done = good.iter().filter(|&&index| index < 51).count();
        assert_eq!(rest, good[done..]);
        assert_eq!(found, one.narrow(0, done as i64, rest.len() as i64));
    }

    /// A single image goes through the original network.
    #[test]
    fn alone_or_among_others_an_image_has_the_same_features_but_for_rounding() {
        for name in ["shufflenet_v2_x0_5", "alexnet", "squeezenet1_1"] {
            let network = network(name);
            let (_, _, many) = features(&network, 40, 0, 2);
            let (_, _, alone) = features(&network, 1, 0, 2);
            let error = relative_error(&many.narrow(0, 0, 1), &alone);
            assert!(error < 1e-5, "{name}: {error:e}");
        }
    }

    #[test]
    fn weights_that_have_changed_are_seen_by_the_next_inference() {
        let network = network("shufflenet_v2_x0_5");
        let (_, _, before) = features(&network, 10, 0, 2);
        for var in network.vars().iter().filter(|var| var.key.ends_with("running_var")) {
            let _ = tch::no_grad(|| var.tensor.shallow_clone().f_mul_scalar_(1.5)).unwrap();
        }
        let (_, good, after) = features(&network, 10, 0, 2);
        assert!(relative_error(&after, &before) > 1e-2);
        let inputs: Vec<Input> = good.iter().map(|&index| picture(index).unwrap().into()).collect();
        let images = batch(&PRESET, &inputs).unwrap();
        let error = relative_error(&after, &network.read(&images, Tap::Features).unwrap());
        assert!(error < 1e-5, "{error:e}");
    }

    #[test]
    fn a_batch_holds_the_numbers_that_normalisation_gives() {
        let input: Input = picture(1).unwrap().into();
        let mut planes = vec![0.; 3 * 64 * 64];
        PRESET.normalise_into(&input, &mut planes);
        let found = batch(&PRESET, &[input]).unwrap();
        assert_eq!(found, Tensor::from_slice(&planes).reshape([1, 3, 64, 64]));
    }

    #[test]
    fn micro_batches_follow_from_the_number_of_images_and_their_side() {
        assert_eq!([1, 40, 100, 256, 1_000_000].map(|images| micro_batch(images, 224)), [1, 1, 3, 8, 8]);
        assert_eq!([32, 160, 320, 448, 4096].map(|side| micro_batch(1000, side)), [32, 15, 3, 2, 1]);
        // A few small images are not run one by one.
        assert_eq!([1, 40, 100, 1000].map(|images| micro_batch(images, 64)), [12, 15, 32, 32]);
    }

    #[test]
    fn an_error_ends_the_work() {
        let network = network("alexnet");
        let inference = Inference::new(&[&network], 50, 2, Folding::Folded).unwrap();
        let compute = |_: &[&Network], span: Range<usize>| match span.contains(&20) {
            true => Err(Error::run("enough")),
            false => Ok(span),
        };
        let mut seen = 0;
        let each = |span: Range<usize>, same: Range<usize>| {
            assert_eq!(span, same);
            seen = span.end;
            Ok(())
        };
        let error = inference.run(0..50, 3, Ok, compute, each).unwrap_err();
        assert_eq!((error.to_string().as_str(), seen), ("enough", 18));
    }
}
