//! Class probabilities averaged over the views of an image, and over networks.
//!
//! The average is over the softmax, as in AlexNet (section 4.1) and VGG (section 4.2), not over the
//! logits. An image is decoded once, and resized once for each scale and preprocessing, whatever
//! the number of networks and crops. Views of several images share a batch.

mod classes;
mod member;
#[cfg(test)]
mod tests;

use std::ops::Range;

use tch::Tensor;

pub use classes::match_classes;
pub use member::Member;

use self::member::{Answers, Way};
use super::measure::{count_probabilities, labels_of};
use crate::data::Sample;
use crate::data::loader::too_large;
use crate::error::{Error, Result};
use crate::inference::Inference;
use crate::models::{Folding, Network, channels_last};
use crate::preprocess::{DecodeLimits, Fit, Picture, Preprocessing, Views, Window};
use crate::stats::metrics::{Counter, Evaluation};
use crate::util::signal::Signals;

/// Members of an average, and how to compute it.
pub struct Averaging<'a> {
    /// At least one.
    pub members: &'a [Member<'a>],
    /// The views of an image for each of them; without a [`Views::mistake`] for any.
    pub views: &'a Views,
    /// Views in a batch at most.
    pub batch_size: usize,
    /// Decoding threads.
    pub threads: usize,
}

/// Images whose views are all done.
pub struct Averaged {
    /// Their indices among the requested images.
    pub indices: Vec<usize>,
    /// Mean class probabilities, float32 `[N, classes]` on the CPU.
    pub probabilities: Tensor,
    /// The mean of how strange each of them is ([`Unknown::share`](crate::unknown::Unknown::share)) over the views and the members
    /// that can tell; empty if none can.
    pub unknown: Vec<f32>,
}

impl Averaged {
    /// Those whose probabilities are finite; the indices of the others go to `failed`.
    pub fn finite(self, failed: impl FnMut(usize)) -> Result<Averaged> {
        let Averaged { indices, probabilities, unknown } = self;
        let finite = probabilities.f_isfinite()?.f_all_dim(1, false)?;
        let finite = Vec::<bool>::try_from(finite)?;
        if finite.iter().all(|&finite| finite) {
            return Ok(Averaged { indices, probabilities, unknown });
        }
        let (kept, dropped): (Vec<usize>, Vec<usize>) = (0..indices.len()).partition(|&row| finite[row]);
        dropped.into_iter().map(|row| indices[row]).for_each(failed);
        let rows: Vec<i64> = kept.iter().map(|&row| row as i64).collect();
        let probabilities = probabilities.f_index_select(0, &Tensor::f_from_slice(&rows)?)?;
        let unknown = kept.iter().filter_map(|&row| unknown.get(row).copied()).collect();
        Ok(Averaged { indices: kept.into_iter().map(|row| indices[row]).collect(), probabilities, unknown })
    }
}

/// What can be read of a span of images: their indices and values; and the errors of the others.
fn read_all<T>(
    span: Range<usize>,
    read: impl Fn(usize) -> Result<T>,
) -> (Vec<usize>, Vec<T>, Vec<(usize, Error)>) {
    let (mut indices, mut images, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for index in span {
        match read(index) {
            Ok(image) => {
                indices.push(index);
                images.push(image);
            }
            Err(error) => failures.push((index, error)),
        }
    }
    (indices, images, failures)
}

/// A normalised crop, channels-first.
struct NormalisedView {
    values: Vec<f32>,
    upright: bool,
    mirrored: bool,
}

impl Averaging<'_> {
    /// Reads `picture(i)` for `i` in `0..count` in parallel and calls `each` with finished images
    /// in order. `check` is called before each of these calls. An image that fails goes to
    /// `failed`, in order too. The images belong to a list of `listed`, whose length decides how
    /// many go through a network together.
    pub fn run<'p>(
        &self,
        count: usize,
        listed: usize,
        picture: impl Fn(usize) -> Result<Picture<'p>> + Sync,
        mut check: impl FnMut() -> Result<()>,
        mut failed: impl FnMut(usize, Error) -> Result<()>,
        mut each: impl FnMut(Averaged) -> Result<()>,
    ) -> Result<()> {
        let views = self.views;
        let members: Vec<&Network> = self.members.iter().flat_map(Member::networks).collect();
        let ways: Vec<Way> = self.members.iter().map(Member::way).collect();
        // The members share their threads, and so the least folded form that one of them needs.
        let folding =
            ways.iter().map(|way| way.precision.folding()).find(|&folding| folding != Folding::Folded);
        let (presets, seen) = self.presets();
        let side = presets.iter().map(|preset| preset.crop_size).max().unwrap_or(1);
        let inference = Inference::new(&members, listed, self.threads, folding.unwrap_or(Folding::Folded))?;
        let most = inference.size(self.batch_size, side);
        let room = most.min(count.saturating_mul(views.count())).saturating_mul(3 * (side as usize).pow(2));
        Vec::<f32>::new().try_reserve_exact(room).map_err(|_| too_large(room))?;
        let prepare = |span: Range<usize>| {
            let read = |index| picture(index).and_then(|picture| inputs(&presets, views, &picture));
            Ok(read_all(span, read))
        };
        let compute =
            |networks: &[&Network], (indices, images, failures): (_, Vec<Vec<Vec<NormalisedView>>>, _)| {
                let mut totals: Vec<Total> = vec![Total::default(); images.len()];
                let mut networks = networks.iter();
                for (way, &place) in ways.iter().zip(&seen) {
                    let inputs: Vec<&[NormalisedView]> =
                        images.iter().map(|image| &image[place][..]).collect();
                    let used: Vec<&Network> = networks.by_ref().take(way.networks()).copied().collect();
                    add(&used, *way, presets[place].crop_size, &inputs, most, &mut totals)?;
                }
                Ok((indices, means(&totals, &ways, views.count()), failures))
            };
        inference.run(0..count, most / views.count(), prepare, compute, |_, (indices, means, failures)| {
            let (means, unknown): (Vec<f32>, Vec<f32>) = means;
            check()?;
            for (index, error) in failures {
                failed(index, error)?;
            }
            if indices.is_empty() {
                return Ok(());
            }
            let probabilities = Tensor::f_from_slice(&means)
                .and_then(|means| means.f_reshape([indices.len() as i64, -1]))
                .map_err(Error::torch("average probabilities"))?;
            each(Averaged { indices, probabilities, unknown })
        })
    }

    /// The different preprocessings, and which of them each member has: networks with the same
    /// pixels share them.
    fn presets(&self) -> (Vec<&Preprocessing>, Vec<usize>) {
        let mut presets: Vec<&Preprocessing> = Vec::new();
        let mut seen = Vec::new();
        for member in self.members {
            let place = presets.iter().position(|preset| *preset == member.preprocessing);
            seen.push(place.unwrap_or(presets.len()));
            if place.is_none() {
                presets.push(member.preprocessing);
            }
        }
        (presets, seen)
    }

    /// Measures the average on `samples`, and reports each count of newly finished ones to
    /// `progress`. A signal ends it with [`Error::Interrupted`].
    pub fn evaluate(
        &self,
        samples: &[Sample],
        classes: usize,
        limits: DecodeLimits,
        signals: &Signals,
        mut progress: impl FnMut(usize),
    ) -> Result<Evaluation> {
        let mut counter = Counter::with_scores(classes);
        self.run(
            samples.len(),
            samples.len(),
            |index| Ok(Picture::Stored(samples[index].image(), limits)),
            || signals.check("stopped while measuring; the training is saved: go on with `--resume`"),
            |_, error| Err(error),
            |batch| {
                let labels = labels_of(batch.indices.iter().map(|&index| &samples[index]))?;
                count_probabilities(&batch.probabilities, &labels, &mut counter)?;
                progress(batch.indices.len());
                Ok(())
            },
        )?;
        Ok(counter.finish())
    }
}

/// Sums over the views of an image, and the members.
#[derive(Clone, Default)]
struct Total {
    /// Of the probabilities of each class.
    shares: Vec<f64>,
    /// Of how strange it is.
    unknown: f64,
}

/// The mean probabilities of all images, one after the other, and how strange they are.
fn means(totals: &[Total], ways: &[Way], views: usize) -> (Vec<f32>, Vec<f32>) {
    let mean = |total: f64, ways: usize| (total / (views * ways) as f64) as f32;
    let shares = totals.iter().flat_map(|total| &total.shares);
    let shares = shares.map(|&share| mean(share, ways.len())).collect();
    let unknown = match ways.iter().filter(|way| way.unknown.is_some()).count() {
        0 => Vec::new(),
        telling => totals.iter().map(|total| mean(total.unknown, telling)).collect(),
    };
    (shares, unknown)
}

/// Runs all views of `images` through a member's `networks`, at most `most` at once, and adds the
/// answers to the images' `totals`.
fn add(
    networks: &[&Network],
    way: Way,
    side: u32,
    images: &[&[NormalisedView]],
    most: usize,
    totals: &mut [Total],
) -> Result<()> {
    let seen = |(image, inputs): (usize, &&'_ [NormalisedView])| -> Vec<(usize, usize, bool)> {
        let views = inputs.iter().enumerate().flat_map(|(place, input)| {
            [(input.upright, false), (input.mirrored, true)]
                .into_iter()
                .filter_map(move |(seen, mirrored)| seen.then_some((image, place, mirrored)))
        });
        views.collect()
    };
    let views: Vec<(usize, usize, bool)> = images.iter().enumerate().flat_map(seen).collect();
    let length = side as usize;
    for views in views.chunks(most.max(1)) {
        let mut values = Vec::with_capacity(views.len() * 3 * length * length);
        for &(image, place, mirrored) in views {
            let view = &images[image][place].values;
            match mirrored {
                false => values.extend_from_slice(view),
                true => view.chunks_exact(length).for_each(|row| values.extend(row.iter().rev())),
            }
        }
        let side = i64::from(side);
        let batch = Tensor::f_from_slice(&values)
            .and_then(|values| values.f_reshape([views.len() as i64, 3, side, side]))
            .map_err(Error::torch("make a batch"))?;
        let Answers { shares, unknown } = way.pooled(networks, &channels_last(&batch)?)?;
        let classes = (shares.len() / views.len()).max(1);
        for (&(image, ..), shares) in views.iter().zip(shares.chunks_exact(classes)) {
            let total = &mut totals[image].shares;
            total.resize(classes, 0.);
            total.iter_mut().zip(shares).for_each(|(total, &weight)| *total += f64::from(weight));
        }
        for (&(image, ..), unknown) in views.iter().zip(unknown) {
            totals[image].unknown += f64::from(unknown);
        }
    }
    Ok(())
}

/// The normalised crops of an image, for each of `presets`. Presets that differ only in mean and
/// deviation share the pixels, unless their margins have the mean's colour.
fn inputs(
    presets: &[&Preprocessing],
    views: &Views,
    picture: &Picture<'_>,
) -> Result<Vec<Vec<NormalisedView>>> {
    let same = |a: &Preprocessing, b: &Preprocessing| {
        let pixels =
            |it: &Preprocessing| (it.resize_size, it.crop_size, it.interpolation, it.fit, it.white_level);
        pixels(a) == pixels(b) && (a.fit != Fit::Pad || a.margin_color() == b.margin_color())
    };
    let mut different: Vec<&Preprocessing> = Vec::new();
    let mut places = Vec::with_capacity(presets.len());
    for preset in presets {
        places.push(different.iter().position(|other| same(preset, other)).unwrap_or_else(|| {
            different.push(preset);
            different.len() - 1
        }));
    }
    let windows = picture.windows(&different, views)?;
    let normalised = |(preset, place): (&&Preprocessing, usize)| {
        let normalised = |window: &Window| {
            let mut values = vec![0.; length(preset)];
            preset.normalise_pixels(&window.pixels, [0.; 3], &mut values);
            NormalisedView { values, upright: window.upright, mirrored: window.mirrored }
        };
        windows[place].iter().map(normalised).collect()
    };
    Ok(presets.iter().zip(places).map(normalised).collect())
}

/// Number of values in one view.
fn length(preprocessing: &Preprocessing) -> usize {
    3 * (preprocessing.crop_size as usize).pow(2)
}
