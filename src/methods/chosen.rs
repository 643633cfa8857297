//! The kept model, alone or with a partner: published in the run folder, and measured.

use super::{Context, Outcomes};
use crate::data::Sample;
use crate::device::back_off::BackOff;
use crate::device::precision::Precision;
use crate::error::Result;
use crate::inference::ensemble::{Averaging, Member};
use crate::models::Network;
use crate::plan::Plan;
use crate::preprocess::Views;
use crate::run::folder::PARTNER_FILE;
use crate::stats::metrics::Evaluation;
use crate::trainer::ForwardCount;
use crate::weights::card::{Card, Partner};
use crate::weights::write_model;

/// A model, and the weight of a second one that is averaged with it.
pub struct Chosen<'a> {
    /// The one with the greater weight.
    pub network: &'a Network,
    /// The second one, and its weight.
    pub partner: Option<(&'a Network, f64)>,
}

impl Context<'_> {
    /// Makes the kept model of a contest that of the run folder.
    pub fn publish(&self, kept: &Chosen, outcomes: &Outcomes) -> Result<()> {
        self.folder.check_lock()?;
        if let Some((second, _)) = kept.partner {
            write_model(&self.folder.partner(), second, &self.card(second))?;
        }
        write_model(&self.folder.model(), kept.network, &self.kept_card(kept))?;
        self.folder.rewrite_metrics(&outcomes.epochs)
    }

    /// Metadata of the kept model, alone or with a partner.
    pub(super) fn kept_card(&self, kept: &Chosen) -> Card {
        let partner = kept.partner.map(|(_, weight)| Partner { file: PARTNER_FILE.into(), weight });
        Card { partner, ..self.card(kept.network) }
    }

    /// Measures the kept model on the test images, which a contest does not use, and, if two are
    /// kept, on the validation images.
    pub fn measure_kept(&self, kept: &Chosen, outcomes: &mut Outcomes) -> Result<()> {
        let Plan { settings, data, .. } = self.plan;
        let views = Views::default().resolved(&settings.preprocessing);
        if kept.partner.is_some() {
            outcomes.val = self.measure(kept, None, &views, "measuring val", &data.val)?;
            outcomes.passes.iter_mut().filter(|pass| pass.part == "val").for_each(|pass| pass.times += 1);
        }
        let Some(test) = &data.test else { return Ok(()) };
        outcomes.test = Some(self.measure(kept, None, &views, "measuring test", test)?);
        let seen = whole(&outcomes.passes, kept.network.stage_names().next().unwrap_or_default());
        let pass = |stages| ForwardCount { part: "test", stages, images: test.len(), times: 1 };
        outcomes.passes.extend(seen.into_iter().map(pass));
        Ok(())
    }

    /// Measures the kept model on the validation and the test images, with several views averaged,
    /// each at this temperature.
    pub fn measure_views(
        &self,
        kept: &Chosen,
        temperature: Option<f64>,
        views: &Views,
    ) -> Result<(Evaluation, Option<Evaluation>)> {
        let data = &self.plan.data;
        let val = self.measure(kept, temperature, views, "measuring val", &data.val)?;
        let test = data.test.as_ref();
        let test = test.map(|test| self.measure(kept, temperature, views, "measuring test", test));
        Ok((val, test.transpose()?))
    }

    fn measure(
        &self,
        kept: &Chosen,
        temperature: Option<f64>,
        views: &Views,
        what: &str,
        samples: &[Sample],
    ) -> Result<Evaluation> {
        let Plan { settings, data, .. } = self.plan;
        let parts = BackOff::new(kept.network.device());
        let preprocessing = &settings.preprocessing;
        let (order, precision) = (None, Precision::Fp32);
        let Chosen { network, partner } = *kept;
        let unknown = None;
        let members =
            [Member { network, partner, temperature, unknown, preprocessing, order, precision, parts }];
        let batch_size = settings.candidate.batch_size();
        let averaging = Averaging { members: &members, views, batch_size, threads: settings.threads };
        let (bar, mut done) = (self.observer.counting(what, samples.len()), 0);
        averaging.evaluate(samples, data.classes.len(), settings.data.limits(), self.signals, |more| {
            done += more;
            bar.at(done);
        })
    }
}

impl Outcomes {
    /// Adds the outcomes of the partner, if two models are averaged. The epochs stay those of the
    /// kept one.
    pub fn take_over(&mut self, other: Outcomes) {
        if self.linear.is_none() {
            (self.linear, self.stages, self.heads) = (other.linear, other.stages, other.heads);
        }
        self.notes.extend(other.notes);
        self.passes.extend(other.passes);
        self.stopped_early = self.stopped_early.take().or(other.stopped_early);
    }
}

/// The stages that a validation image goes through in each network, whose chain begins with
/// `first`: from there to the end, even if the output of frozen stages was kept and there are two
/// passes.
fn whole(passes: &[ForwardCount], first: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for ForwardCount { stages, .. } in passes.iter().filter(|pass| pass.part == "val") {
        let (from, to) = stages.split_once(" to ").unwrap_or((stages, stages));
        match found.last_mut() {
            Some(last) if from != first => *last = format!("{first} to {to}"),
            _ => found.push(stages.clone()),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_goes_through_each_network_from_end_to_end() {
        let pass = |part, stages: &str| ForwardCount { part, stages: stages.into(), images: 9, times: 1 };
        let passes = [
            pass("train", "conv1 to fc"),
            pass("val", "conv1 to stage3"),
            pass("val", "stage4 to fc"),
            pass("train", "conv1 to stage4"),
            pass("val", "conv1 to stage4"),
        ];
        assert_eq!(whole(&passes, "conv1"), ["conv1 to fc", "conv1 to stage4"]);
        assert_eq!(whole(&passes[4..], "conv1"), ["conv1 to stage4"]);
    }
}
