//! Position embeddings for images of another size than the file's.
//!
//! A vision transformer learns a vector for each patch of its images, so the embedding's shape
//! depends on the image size. torchvision resamples it (`interpolate_embeddings` in
//! `models/vision_transformer.py`): the class token stays, the patches are interpolated as a grid.

use tch::Tensor;

use crate::error::{Error, Result};
use crate::models::Architecture;

/// The side of the grid of an embedding of this shape, `[1, 1 + side², D]`.
pub fn grid_of<T: TryInto<u64> + Copy>(shape: &[T]) -> Option<u32> {
    let &[one, tokens, _] = shape else { return None };
    let patches = tokens.try_into().ok()?.checked_sub(1)?;
    let side = patches.isqrt();
    (one.try_into().ok()? == 1 && side > 0 && side * side == patches).then(|| side.try_into().ok())?
}

/// Whether an embedding of shape `found` can be resampled to shape `expected`.
pub fn can_become(found: &[usize], expected: &[usize]) -> bool {
    grid_of(found).is_some() && grid_of(expected).is_some() && found[2] == expected[2]
}

/// Resamples the `embedding` `[1, 1 + n², D]` of a class token and n × n patches to `side` × `side`
/// patches: `[1, 1 + side², D]`. Bicubic, with aligned corners.
///
/// # Errors
/// If the embedding is not that of a square grid.
pub fn resample(embedding: &Tensor, side: u32) -> Result<Tensor> {
    let shape = embedding.size();
    let old = grid_of(&shape)
        .ok_or_else(|| Error::run(format!("an embedding of shape {shape:?} is not that of a square grid")))?;
    if old == side {
        return Ok(embedding.shallow_clone());
    }
    let (old, side, width) = (i64::from(old), i64::from(side), shape[2]);
    let resampled = || -> Result<Tensor, tch::TchError> {
        let class_token = embedding.f_narrow(1, 0, 1)?;
        let patches = embedding.f_narrow(1, 1, old * old)?.f_permute([0, 2, 1])?;
        let patches = patches.f_reshape([1, width, old, old])?;
        let patches = patches.f_upsample_bicubic2d([side, side], true, None, None)?;
        let patches = patches.f_reshape([1, width, side * side])?.f_permute([0, 2, 1])?;
        Tensor::f_cat(&[class_token, patches], 1)
    };
    resampled().map_err(Error::torch(format!("interpolate positions from {old}×{old} to {side}×{side}")))
}

/// A note for the user on resampling an embedding of `old` × `old` patches for images of `side`
/// pixels; `None` if it stays unchanged.
pub fn note(architecture: &Architecture, old: u32, side: u32) -> Option<String> {
    let new = side / architecture.multiple;
    (old != new).then(|| {
        format!(
            "the weights of {} know positions of {old}×{old} patches: interpolated to {new}×{new}, for images of \
             {side}×{side} pixels",
            architecture.name
        )
    })
}
