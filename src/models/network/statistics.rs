//! The running statistics of BatchNorm: what is to be normalised, as the source data had it or as other images have it.

use tch::Tensor;

use super::Network;
use crate::error::{Error, Result};
use crate::models::Role;
use crate::models::layers::Mode;
use crate::models::layers::moments::{Moments, moments};

impl Network {
    /// What goes into each BatchNorm layer for images `[N, 3, H, W]`, where every layer before it normalises by the batch's own
    /// statistics. The running ones move with it, as in training: keep them first ([`Network::running_statistics`]).
    pub fn batch_moments(&self, images: &Tensor) -> Result<Vec<Moments>> {
        let mode = Mode { dropout: false, batch_statistics: true };
        let (outputs, seen) =
            moments(|| tch::no_grad(|| self.run(0..self.stages.len(), &self.transformed(images)?, mode)));
        outputs.map(|_| seen)
    }

    /// A copy of all running statistics.
    pub fn running_statistics(&self) -> Result<Vec<Tensor>> {
        let copy = |values: &Tensor| {
            let mut copy = values.f_empty_like()?;
            copy.f_copy_(values)?;
            Ok(copy)
        };
        let copies = tch::no_grad(|| self.statistics().map(copy).collect::<Result<_, _>>());
        copies.map_err(Error::torch("copy the running statistics"))
    }

    /// Puts such a copy back.
    pub fn set_running_statistics(&self, copy: &[Tensor]) -> Result<()> {
        let put =
            |(into, from): (&Tensor, &Tensor)| tch::no_grad(|| into.shallow_clone().f_copy_(from).map(drop));
        let put = self.statistics().zip(copy).try_for_each(put);
        put.map_err(Error::torch("set the running statistics"))
    }

    /// Makes what the layers have seen their running statistics; a layer that has seen nothing keeps its own.
    pub fn adopt_moments(&self, seen: &[Moments]) -> Result<()> {
        let key = |layer: &str| layer.to_string() + "running_var";
        for mean in self.vars().iter().filter(|var| var.role == Role::RunningStatistic) {
            let Some(layer) = mean.key.strip_suffix("running_mean") else { continue };
            let var = self.vars().iter().find(|var| var.key == key(layer));
            let Some((var, seen)) = var.zip(seen.iter().find(|seen| seen.is_of(&mean.tensor))) else {
                continue;
            };
            let adopt = || {
                let [new_mean, new_var] = seen.statistics()?;
                mean.tensor.shallow_clone().f_copy_(&new_mean)?;
                var.tensor.shallow_clone().f_copy_(&new_var).map(drop)
            };
            tch::no_grad(adopt).map_err(Error::torch("set the running statistics"))?;
        }
        Ok(())
    }

    fn statistics(&self) -> impl Iterator<Item = &Tensor> {
        let buffer = |role| matches!(role, Role::RunningStatistic | Role::BatchCount);
        self.vars().iter().filter(move |var| buffer(var.role)).map(|var| &var.tensor)
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::models::{Fill, find};

    #[test]
    fn adopted_statistics_are_those_that_libtorch_would_track() {
        let architecture = find("shufflenet_v2_x0_5").unwrap();
        let network = Network::new(architecture, 3, Device::Cpu, Fill::Initial { seed: 5 }).unwrap();
        let values: Vec<f32> =
            (0..12 * 3 * 48 * 48).map(|i| ((i * 7919 % 4001) as f32 / 2000.).sin()).collect();
        let images = Tensor::from_slice(&values).view([12, 3, 48, 48]);
        let before = network.running_statistics().unwrap();
        // From zero, one step of the running average leaves a tenth of the batch's own.
        let zeros: Vec<Tensor> = before.iter().map(Tensor::zeros_like).collect();
        network.set_running_statistics(&zeros).unwrap();
        let seen = network.batch_moments(&images).unwrap();
        let tracked = network.running_statistics().unwrap();
        network.set_running_statistics(&before).unwrap();
        network.adopt_moments(&seen).unwrap();
        let (mut worst, mut layers) = (0f64, 0);
        for ((adopted, tracked), before) in
            network.running_statistics().unwrap().iter().zip(&tracked).zip(&before)
        {
            match adopted.dim() {
                0 => assert_eq!(adopted, before, "the number of batches is the source's"),
                _ => {
                    let off = (adopted - tracked * 10.).abs() / (tracked.abs() * 10. + 1e-3);
                    worst = worst.max(off.to_kind(Kind::Double).max().double_value(&[]));
                    layers += 1;
                }
            }
        }
        assert_eq!(layers, 2 * 56);
        assert!(worst < 1e-4, "{worst}");
    }
}
