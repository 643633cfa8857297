//! The same problem in better coordinates: exact for an L2 penalty, which no rotation changes.
//!
//! - With fewer images than features the solution lies in the span of the images, so `D` features
//!   become `N` coordinates in an orthonormal basis of that span.
//! - The coordinates are then rotated to the principal axes. There the second derivative of the
//!   loss is close to a known diagonal, and dividing by it takes tens of steps where the features
//!   as they come would need hundreds or thousands.

use tch::Tensor;

use super::stop::{Attempt, Stop, unless_told};
use super::{row_blocks, torch};
use crate::error::Result;

/// From features to coordinates and back.
#[derive(Debug)]
pub(super) struct Basis {
    /// Orthonormal columns `[D, M]`: coordinates are features times this.
    axes: Tensor,
}

impl Basis {
    /// Rotates `features` (float64 or float32 `[N, D]`, centred) into coordinates `[N, M]`, `M =
    /// min(N, D)`, in place where the shape allows it. `None` if told to stop.
    pub(super) fn rotate(
        features: Tensor,
        should_stop: &dyn Fn() -> bool,
    ) -> Result<Option<(Tensor, Basis)>> {
        let stop = Stop(should_stop);
        let (n, d) = features.size2().map_err(torch())?;
        unless_told(if n < d { in_the_span(&features, stop) } else { in_place(features, stop) })
    }

    /// Feature weights `[K, D]` from coordinate weights `[K, M]`.
    pub(super) fn to_features(&self, weights: &Tensor) -> Result<Tensor> {
        let to_features = || weights.f_mm(&self.axes.f_to_kind(weights.kind())?.tr());
        to_features().map_err(torch())
    }
}

fn in_the_span(features: &Tensor, stop: Stop) -> Attempt<(Tensor, Basis)> {
    // features = lᵀ·qᵀ with q orthonormal to rounding at any rank; the eigenvectors of the images'
    // Gram matrix would not be.
    let (q, r) = Tensor::f_linalg_qr(&features.tr(), "reduced")?;
    stop.ask()?;
    let coordinates = r.tr();
    let (_, turn) = r.f_mm(&coordinates)?.f_linalg_eigh("L")?;
    stop.ask()?;
    Ok((coordinates.f_mm(&turn)?, Basis { axes: q.f_mm(&turn)? }))
}

fn in_place(features: Tensor, stop: Stop) -> Attempt<(Tensor, Basis)> {
    let (n, d) = features.size2()?;
    let mut products = Tensor::f_zeros([d, d], (features.kind(), features.device()))?;
    for (start, rows) in row_blocks(n, d) {
        stop.ask()?;
        let block = features.f_narrow(0, start, rows)?;
        let _ = products.f_addmm_(&block.tr(), &block)?;
    }
    let (_, axes) = products.f_linalg_eigh("L")?;
    for (start, rows) in row_blocks(n, d) {
        stop.ask()?;
        let mut block = features.f_narrow(0, start, rows)?;
        block.f_copy_(&block.f_mm(&axes)?)?;
    }
    Ok((features, Basis { axes }))
}
