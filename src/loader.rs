//! Parallel work on images, bounded and in order.
//!
//! Threads claim one image at a time, so that a batch of large images does not wait for a single thread;
//! results are handed over in the order of their index, so that nothing downstream depends on how many
//! threads there are. At most `window` images are claimed and not yet handed over, which bounds memory.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tch::Tensor;

use crate::error::{Error, Result};
use crate::preprocess::{Input, Preprocessing};

struct State<T> {
    /// The next index to be claimed.
    next: usize,
    /// The next index to be handed over.
    wanted: usize,
    done: BTreeMap<usize, T>,
    stopped: bool,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// Something was finished.
    finished: Condvar,
    /// Room was made, or the work has stopped.
    room: Condvar,
}

impl<T> Shared<T> {
    /// A thread that panicked leaves a state that is still whole: every change is one assignment.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the threads to stop when the consumer leaves, by whatever way.
struct StopOnDrop<'a, T>(&'a Shared<T>);

impl<T> Drop for StopOnDrop<'_, T> {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.room.notify_all();
    }
}

/// Calls `produce(i)` for `i` in `0..count` on `threads` threads and `consume(i, result)` on the calling
/// thread in ascending order. An error of `consume` stops the work and is returned.
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
                // A thread ends when all images are claimed. One that ended before, or all of them while
                // an image is wanted, have panicked.
                let mut ended = workers.iter().map(|worker| worker.is_finished());
                let early =
                    if state.next < count { ended.any(|ended| ended) } else { ended.all(|ended| ended) };
                if early {
                    drop(state);
                    drop(stop);
                    // Joined here, because the scope passes on the panics of threads that nobody joined.
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

/// Images ready for a network, in the order asked for.
pub struct Batch {
    /// Which of the asked-for images these are: indices into the caller's list.
    pub indices: Vec<usize>,
    /// `[N, 3, crop_size, crop_size]`, normalised, on the CPU.
    pub images: Tensor,
}

/// The most numbers that are decoded ahead of their batch: a gigabyte.
pub const READ_AHEAD: usize = 1 << 28;

/// Why a batch of so many numbers cannot be made.
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
    /// Whether a single last image joins the batch before it: BatchNorm cannot normalise one by itself.
    pub join_single: bool,
    /// Threads that decode.
    pub threads: usize,
}

impl Batching<'_> {
    /// Number of batches that `count` images make, if none fails.
    pub fn batches(&self, count: usize) -> usize {
        let single = self.joins() && count > 1 && count % self.batch_size == 1;
        count.div_ceil(self.batch_size) - usize::from(single)
    }

    /// The images of each batch, if none fails: what [`Batching::run`] would put together.
    pub fn spans(&self, count: usize) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let (size, batches) = (self.batch_size, self.batches(count));
        (0..batches)
            .map(move |batch| batch * size..if batch + 1 == batches { count } else { (batch + 1) * size })
    }

    /// Batches of one image are what was asked for if they are all that small.
    fn joins(&self) -> bool {
        self.join_single && self.batch_size > 1
    }

    /// Calls `pixels(i)` for `i` in `0..count` in parallel and `each` with batches in order. An image that
    /// fails goes to `failed`, in order too; the batch is filled up with the next.
    pub fn run<P: Into<Input>>(
        &self,
        count: usize,
        pixels: impl Fn(usize) -> Result<P> + Sync,
        mut failed: impl FnMut(usize, Error) -> Result<()>,
        mut each: impl FnMut(Batch) -> Result<()>,
    ) -> Result<()> {
        let length = 3 * (self.preprocessing.crop_size as usize).pow(2);
        let mut indices = Vec::new();
        let mut values: Vec<f32> = Vec::new();
        let room = (self.batch_size.min(count) + 1).saturating_mul(length);
        values.try_reserve_exact(room).map_err(|_| too_large(room))?;
        let window = (2 * self.batch_size).min((READ_AHEAD / length).max(4 * self.threads));
        let normalised = |index| {
            pixels(index).map(|image| {
                let mut values = vec![0.; length];
                self.preprocessing.normalise_into(&image.into(), &mut values);
                values
            })
        };
        for_each_ordered(count, self.threads, window, normalised, |index, result| {
            match result {
                Ok(image) => {
                    indices.push(index);
                    values.extend_from_slice(&image);
                }
                Err(error) => failed(index, error)?,
            }
            let left = count - index - 1;
            let full = indices.len() >= self.batch_size && !(self.joins() && left == 1);
            if full || (left == 0 && !indices.is_empty()) {
                let images = self.tensor(indices.len(), &values)?;
                values.clear();
                each(Batch { indices: std::mem::take(&mut indices), images })?;
            }
            Ok(())
        })
    }

    fn tensor(&self, images: usize, values: &[f32]) -> Result<Tensor> {
        let side = self.preprocessing.crop_size as i64;
        Tensor::f_from_slice(values)
            .and_then(|tensor| tensor.f_reshape([images as i64, 3, side, side]))
            .map_err(Error::torch("make a batch"))
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
        // The one that is being handed over has made room already.
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
        for count in 1..=9 {
            for batch_size in 1..=4 {
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
                    let spans: Vec<usize> = batching.spans(count).map(|span| span.len()).collect();
                    assert_eq!(sizes, spans, "{case}");
                    assert_eq!(order, (0..count).collect::<Vec<_>>(), "{case}");
                    let single = join_single && batch_size > 1 && count > 1 && sizes.last() == Some(&1);
                    assert!(!single, "{case}");
                }
            }
        }
    }
}
