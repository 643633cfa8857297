//! The memory of batches, which threads fill.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tch::{Device, Tensor};

use super::too_large;
use crate::error::{Error, Result};

/// The memory of a batch, with a slot for each image.
pub(super) struct Slab<E> {
    tensor: Tensor,
    slots: Slots<E>,
}

// SAFETY: only the calling thread uses the tensor.
unsafe impl<E: Send> Send for Slab<E> {}
unsafe impl<E: Send> Sync for Slab<E> {}

impl<E> Slab<E> {
    /// # Safety
    /// Nothing else may refer to the same slot.
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn slot(&self, slot: usize) -> &mut [E] {
        // SAFETY: the caller's promise; the tensor lives as long as the slab.
        unsafe { self.slots.get(slot) }
    }
}

/// Memory in slots of the same length, which threads fill, each its own.
struct Slots<E> {
    start: *mut E,
    count: usize,
    length: usize,
}

// SAFETY: threads refer to different slots.
unsafe impl<E: Send> Send for Slots<E> {}
unsafe impl<E: Send> Sync for Slots<E> {}

impl<E> Slots<E> {
    /// # Safety
    /// The memory, `count` × `length` initialised elements, must live on, and nothing else may refer
    /// to the same slot.
    #[allow(clippy::mut_from_ref)]
    unsafe fn get(&self, slot: usize) -> &mut [E] {
        assert!(slot < self.count, "a batch has a slot for each of its images");
        // SAFETY: the caller's promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(slot * self.length), self.length) }
    }
}

/// The batches being filled.
pub(super) struct Slabs<E> {
    /// The images of each batch, if none fails.
    pub(super) spans: Vec<std::ops::Range<usize>>,
    shape: [i64; 3],
    open: Mutex<BTreeMap<usize, Arc<Slab<E>>>>,
}

impl<E: tch::kind::Element> Slabs<E> {
    pub(super) fn new(spans: Vec<std::ops::Range<usize>>, shape: [i64; 3]) -> Self {
        Slabs { spans, shape, open: Mutex::new(BTreeMap::new()) }
    }

    /// The slot of an image.
    pub(super) fn place(&self, index: usize) -> Result<(Arc<Slab<E>>, usize)> {
        let batch = self.spans.partition_point(|span| span.end <= index);
        let span = self.spans.get(batch).ok_or_else(|| Error::run("an image belongs to no batch"))?;
        Ok((self.slab(batch, span.len())?, index - span.start))
    }

    pub(super) fn slab(&self, batch: usize, slots: usize) -> Result<Arc<Slab<E>>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slab) = open.get(&batch) {
            return Ok(Arc::clone(slab));
        }
        let length = self.shape.iter().product::<i64>() as usize;
        let shape = [slots as i64, self.shape[0], self.shape[1], self.shape[2]];
        // Zeros: a reference to memory that nobody has written to is undefined behaviour, even
        // where it is only written through.
        let tensor = Tensor::f_zeros(shape, (E::KIND, Device::Cpu))
            .map_err(|_| too_large(slots.saturating_mul(length)))?;
        let slots = Slots { start: tensor.data_ptr().cast(), count: slots, length };
        let slab = Arc::new(Slab { tensor, slots });
        open.insert(batch, Arc::clone(&slab));
        Ok(slab)
    }

    /// Image `index` and those before it have arrived: a batch that ends with it is complete.
    pub(super) fn done(&self, index: usize) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|batch, _| self.spans[*batch].end > index + 1);
    }
}

/// The images at `places` as one tensor: the filled batch itself if none has failed, else a copy.
pub(super) fn gather<E>(places: &[(Arc<Slab<E>>, usize)]) -> std::result::Result<Tensor, tch::TchError> {
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

    /// Without libtorch, so that Miri can run it.
    #[test]
    fn threads_fill_slots_of_the_same_memory() {
        let mut memory = vec![0u8; 4 * 3];
        let slots = Slots { start: memory.as_mut_ptr(), count: 4, length: 3 };
        std::thread::scope(|scope| {
            for slot in 0..4 {
                let slots = &slots;
                // SAFETY: the memory outlives the threads, and each has its own slot.
                scope.spawn(move || unsafe { slots.get(slot) }.fill(slot as u8 + 1));
            }
        });
        assert_eq!(memory, [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]);
    }
}
