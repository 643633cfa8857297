//! Tensors that the copies of a network for inference share.

use std::cell::RefCell;
use std::collections::HashMap;

use tch::Tensor;

use crate::error::Result;

/// Whether BatchNorm is folded into the convolution before it, and which library computes
/// convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folding {
    /// Folded where it directly follows a convolution.
    Folded,
    /// Not folded, so that the input of each BatchNorm can be observed.
    Unfolded,
    /// Not folded, and all operations are PyTorch's own: autocast does not know oneDNN's.
    Plain,
}

/// An inference network's tensors by key. Folded ones replace the convolution's own.
#[derive(Debug)]
pub(super) struct Prepared {
    pub folding: Folding,
    /// Whether convolutions call oneDNN directly.
    pub direct: bool,
    tensors: RefCell<HashMap<String, Tensor>>,
}

impl Prepared {
    /// The values of a network by key.
    pub fn new(folding: Folding, direct: bool, tensors: HashMap<String, Tensor>) -> Self {
        Prepared { folding, direct, tensors: RefCell::new(tensors) }
    }

    /// The tensor under a key; its memory is shared.
    pub fn get(&self, key: &str) -> Option<Tensor> {
        self.tensors.borrow().get(key).map(Tensor::shallow_clone)
    }

    /// The result of `make`, made once for all networks built over this.
    pub fn once(&self, key: String, make: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
        if let Some(made) = self.get(&key) {
            return Ok(made);
        }
        let made = make()?;
        self.tensors.borrow_mut().insert(key, made.shallow_clone());
        Ok(made)
    }
}
