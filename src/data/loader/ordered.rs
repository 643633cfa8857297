//! Parallel work on images, bounded and in order.
//!
//! Threads claim one image at a time, so that a batch of large images does not wait for a single
//! thread. Results are handed over in the order of their index, so that nothing downstream depends
//! on the number of threads. At most `window` images are claimed and not yet handed over, which
//! bounds memory.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use crate::error::{Error, Result};

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

/// How long the consumer waits before it looks after the threads.
const PATIENCE: Duration = Duration::from_millis(200);

impl<T> Shared<T> {
    fn new() -> Self {
        let state = State { next: 0, wanted: 0, done: BTreeMap::new(), stopped: false };
        Shared { state: Mutex::new(state), finished: Condvar::new(), room: Condvar::new() }
    }

    /// A thread that panicked leaves the state valid: every change is one assignment.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop of a thread.
    fn work(&self, count: usize, window: usize, produce: &impl Fn(usize) -> T) {
        loop {
            let mut state = self.lock();
            while !state.stopped && state.next < count && state.next >= state.wanted + window {
                state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.stopped || state.next >= count {
                return;
            }
            let index = state.next;
            state.next += 1;
            drop(state);
            let result = produce(index);
            self.lock().done.insert(index, result);
            self.finished.notify_one();
        }
    }

    /// Waits for the result of `index`; `None` if a thread has panicked.
    fn take(&self, index: usize, count: usize, workers: &[ScopedJoinHandle<()>]) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(result) = state.done.remove(&index) {
                state.wanted = index + 1;
                drop(state);
                self.room.notify_all();
                return Some(result);
            }
            // A thread ends when all images are claimed. One that ended before, or all of them
            // while an image is wanted, panicked.
            let mut ended = workers.iter().map(|worker| worker.is_finished());
            let early = if state.next < count { ended.any(|ended| ended) } else { ended.all(|ended| ended) };
            if early {
                return None;
            }
            let waited = self.finished.wait_timeout(state, PATIENCE);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
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
    let shared = Shared::new();
    std::thread::scope(|scope| {
        let stop = StopOnDrop(&shared);
        let work = || shared.work(count, window.max(1), &produce);
        let workers: Vec<_> = (0..threads.clamp(1, count.max(1)))
            .map(|number| {
                std::thread::Builder::new().name(format!("loader {number}")).spawn_scoped(scope, work)
            })
            .collect::<Result<_, _>>()
            .map_err(|error| Error::run(format!("cannot start a loader thread: {error}")))?;
        for index in 0..count {
            let Some(result) = shared.take(index, count, &workers) else {
                drop(stop);
                // Joined here: the scope propagates the panics of threads that are not joined.
                workers.into_iter().for_each(|worker| drop(worker.join()));
                return Err(Error::run("a thread that reads images has failed: see the message above"));
            };
            consume(index, result)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
