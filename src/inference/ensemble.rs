//! Class probabilities averaged over the views of an image, and over networks.
//!
//! The average is over the softmax, as in AlexNet (section 4.1) and VGG (section 4.2), not over the
//! logits. An image is decoded once, and resized once for each scale and preprocessing, whatever
//! the number of networks and crops. Views of several images share a batch.

use std::collections::BTreeMap;
use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::measure::{count, labels_of};
use crate::data::Sample;
use crate::data::loader::too_large;
use crate::device::back_off::BackOff;
use crate::device::copy::upload;
use crate::device::precision::{Autocast, Precision};
use crate::error::{Error, Result};
use crate::inference::Inference;
use crate::models::{Folding, Network, Tap, channels_last};
use crate::preprocess::{DecodeLimits, Fit, Picture, Preprocessing, Views, Window};
use crate::stats::metrics::{Counter, Evaluation};
use crate::text::look_alikes::{alike, unseen};
use crate::text::suggest::quoted;
use crate::text::words::{counted, first_few, shown};
use crate::util::signal::Signals;

/// A network whose probabilities are averaged.
pub struct Member<'a> {
    /// The network.
    pub network: &'a Network,
    /// A second network of the same classes and preprocessing, and its weight. Its probabilities
    /// are mixed with the first one's for each view: see
    /// [`Partner`](crate::weights::card::Partner).
    pub partner: Option<(&'a Network, f64)>,
    /// Preprocessing of its input.
    pub preprocessing: &'a Preprocessing,
    /// For each class of the average its index among the network's logits; `None`: the same index.
    pub order: Option<Vec<i64>>,
    /// Its precision.
    pub precision: Precision,
    /// Its back-off.
    pub parts: BackOff,
}

impl Member<'_> {
    fn way(&self) -> Way<'_> {
        let weight = self.partner.map(|(_, weight)| weight);
        Way { order: self.order.as_deref(), precision: self.precision, parts: &self.parts, weight }
    }

    fn networks(&self) -> impl Iterator<Item = &Network> {
        std::iter::once(self.network).chain(self.partner.map(|(network, _)| network))
    }
}

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
                let mut totals: Vec<Vec<f64>> = vec![Vec::new(); images.len()];
                let mut networks = networks.iter();
                for (way, &place) in ways.iter().zip(&seen) {
                    let inputs: Vec<&[NormalisedView]> =
                        images.iter().map(|image| &image[place][..]).collect();
                    let used: Vec<&Network> = networks.by_ref().take(way.networks()).copied().collect();
                    add(&used, *way, presets[place].crop_size, &inputs, most, &mut totals)?;
                }
                let parts = (views.count() * ways.len()) as f64;
                let means =
                    totals.into_iter().flatten().map(|total| (total / parts) as f32).collect::<Vec<_>>();
                Ok((indices, means, failures))
            };
        inference.run(0..count, most / views.count(), prepare, compute, |_, (indices, means, failures)| {
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
            each(Averaged { indices, probabilities })
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
        let mut counter = Counter::new(classes);
        self.run(
            samples.len(),
            samples.len(),
            |index| Ok(Picture::Stored(samples[index].image(), limits)),
            || signals.check("stopped while measuring; the training is saved: go on with `--resume`"),
            |_, error| Err(error),
            |batch| {
                let labels = labels_of(batch.indices.iter().map(|&index| &samples[index]))?;
                // Logarithms of probabilities are logits of the same probabilities. An underflown
                // one counts as the smallest positive number.
                let least = f64::from(f32::MIN_POSITIVE);
                let logits = batch.probabilities.f_clamp_min(least).and_then(|shares| shares.f_log());
                count(&logits?, &labels, &mut counter)?;
                progress(batch.indices.len());
                Ok(())
            },
        )?;
        Ok(counter.finish())
    }
}

/// Runs all views of `images` through a member's `networks`, at most `most` at once, and adds the
/// probabilities to the images' `totals`.
fn add(
    networks: &[&Network],
    way: Way,
    side: u32,
    images: &[&[NormalisedView]],
    most: usize,
    totals: &mut [Vec<f64>],
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
        let shares = way.pooled(networks, &channels_last(&batch)?)?;
        let classes = (shares.len() / views.len()).max(1);
        for (&(image, ..), shares) in views.iter().zip(shares.chunks_exact(classes)) {
            totals[image].resize(classes, 0.);
            totals[image].iter_mut().zip(shares).for_each(|(total, &weight)| *total += f64::from(weight));
        }
    }
    Ok(())
}

/// A member's path from images to probabilities, shared by the threads; each thread has its own
/// network.
#[derive(Clone, Copy)]
struct Way<'a> {
    order: Option<&'a [i64]>,
    precision: Precision,
    parts: &'a BackOff,
    /// Weight of the second network, if any.
    weight: Option<f64>,
}

impl Way<'_> {
    fn networks(self) -> usize {
        1 + usize::from(self.weight.is_some())
    }

    /// Mixed probabilities of the member's networks, as [`Way::probabilities`].
    fn pooled(self, networks: &[&Network], images: &Tensor) -> Result<Vec<f32>> {
        let mut said = networks.iter().map(|network| self.probabilities(network, images));
        let Some(first) = said.next().transpose()? else { return Ok(Vec::new()) };
        let (Some(second), Some(weight)) = (said.next().transpose()?, self.weight) else { return Ok(first) };
        let mix = |(p, q): (&f32, &f32)| ((1. - weight) * f64::from(*p) + weight * f64::from(*q)) as f32;
        Ok(first.iter().zip(&second).map(mix).collect())
    }

    /// The softmax for each image, row by row, in the order of the average's classes.
    fn probabilities(self, network: &Network, images: &Tensor) -> Result<Vec<f32>> {
        let device = network.device();
        let logits = self.parts.run_one(images, |images| {
            let images = upload(images, device)?;
            let _autocast = Autocast::begin(device, self.precision)?;
            network.read(&images, Tap::Logits)
        })?;
        let softmax = || {
            let shares = logits.f_softmax(1, Kind::Float)?.f_to_device(Device::Cpu)?;
            match self.order {
                None => Ok(shares),
                Some(order) => shares.f_index_select(1, &Tensor::f_from_slice(order)?),
            }
        };
        let shares = softmax().map_err(Error::torch("compute probabilities"))?;
        Ok(Vec::<f32>::try_from(shares.f_flatten(0, -1)?)?)
    }
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

/// Matches the classes of a network to those of the first: equal by position (`None`), or by name,
/// as the index of each in `found`. The error says how they differ.
pub fn match_classes(wanted: &[String], found: &[String]) -> Result<Option<Vec<i64>>, String> {
    if wanted == found {
        return Ok(None);
    }
    let places = |names: &[String]| -> BTreeMap<String, i64> { names.iter().cloned().zip(0..).collect() };
    let (first, second) = (places(wanted), places(found));
    let lacks = |names: &[String], others: &BTreeMap<String, i64>| -> Vec<String> {
        names.iter().filter(|name| !others.contains_key(*name)).cloned().collect()
    };
    let (missing, extra) = (lacks(wanted, &second), lacks(found, &first));
    if !missing.is_empty() || !extra.is_empty() {
        let part = |what: &str, names: &[String]| match names.is_empty() {
            true => format!("{what} none"),
            false => format!("{what} {}", first_few(names)),
        };
        return Err(format!(
            "{} and {}; {}, {}{}",
            wanted.len(),
            counted(found.len(), "class", "classes"),
            part("only the first has:", &missing),
            part("only the second has:", &extra),
            looking_alike(&missing, &extra)
        ));
    }
    let twice = |names: &[String], places: &BTreeMap<String, i64>| {
        let again = |(place, name): (i64, &String)| (places.get(name) != Some(&place)).then(|| shown(name));
        (0..).zip(names).find_map(again)
    };
    if let Some(name) = twice(wanted, &first).or_else(|| twice(found, &second)) {
        return Err(format!(
            "the same names in another order, and {} more than once, so that they cannot be matched",
            quoted(&[name])
        ));
    }
    Ok(Some(wanted.iter().filter_map(|name| second.get(name).copied()).collect()))
}

/// That a class that only the first has looks like one that only the second has.
fn looking_alike(missing: &[String], extra: &[String]) -> String {
    let differ = |name: &String| {
        let other = alike(name, extra.iter().map(String::as_str))?;
        let (here, there) = unseen(name, other)?;
        Some(format!("; \"{}\" of the first has {here} where that of the second has {there}", shown(name)))
    };
    missing.iter().find_map(differ).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Fill, find};
    use crate::preprocess::{Crops, Interpolation, RgbImage};

    fn names(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_string).collect()
    }

    #[test]
    fn classes_are_matched_by_place_or_by_name() {
        assert_eq!(match_classes(&names("a b c"), &names("a b c")), Ok(None));
        assert_eq!(match_classes(&names("a a c"), &names("a a c")), Ok(None));
        assert_eq!(match_classes(&names("a b c"), &names("c a b")), Ok(Some(vec![1, 2, 0])));
        assert_eq!(
            match_classes(&names("a b c"), &names("c a d")).unwrap_err(),
            "3 and 3 classes; only the first has: b, only the second has: d"
        );
        assert_eq!(
            match_classes(&names("a b"), &names("b a c")).unwrap_err(),
            "2 and 3 classes; only the first has: none, only the second has: c"
        );
        assert_eq!(
            match_classes(&names("a Caf\u{e9}"), &names("a Cafe\u{301}")).unwrap_err(),
            "2 and 2 classes; only the first has: Caf\u{e9}, only the second has: Cafe\u{301}; \"Caf\u{e9}\" of the first has \
             U+00E9 (NFC) where that of the second has U+0065 U+0301 (NFD)"
        );
        assert!(match_classes(&names("a b a"), &names("b a a")).unwrap_err().contains("`a` more than once"));
    }

    /// A small network's preprocessing, with sides for ten crops and a second scale.
    fn preset(crop_size: u32, mean: f32) -> Preprocessing {
        Preprocessing {
            resize_size: crop_size + 3,
            crop_size,
            interpolation: Interpolation::Bilinear,
            mean: [mean; 3],
            std: [0.25; 3],
            fit: Fit::Crop,
            pad_color: None,
            white_level: None,
        }
    }

    fn picture(index: usize) -> RgbImage {
        let (width, height) = (50 + 7 * index as u32, 41);
        let bytes = (0..width * height * 3).map(|byte| (byte * (index as u32 + 5) % 251) as u8);
        RgbImage { width, height, data: bytes.collect() }
    }

    fn network(seed: u64) -> Network {
        Network::new(find("shufflenet_v2_x0_5").unwrap(), 4, Device::Cpu, Fill::Initial { seed }).unwrap()
    }

    /// The average of an image, one view after the other, with crops and mirror images made
    /// independently.
    fn one_by_one(members: &[Member], scales: &[u32], image: &RgbImage) -> Vec<f64> {
        let mut total = [0.; 4];
        let mut count = 0.;
        for member in members {
            let crop = member.preprocessing.crop_size;
            for &scale in scales {
                // All of the resized image: a crop as large as its longer side, without the black
                // margins.
                let whole =
                    Preprocessing { resize_size: scale, crop_size: 400, ..member.preprocessing.clone() };
                let padded = whole.eval_pixels(image);
                let height = scale;
                let width = scale * image.width / image.height;
                let (left, top) = ((400 - width) / 2, (400 - height) / 2);
                let pixel = |x: u32, y: u32| {
                    let start = ((top + y) * 400 + left + x) as usize * 3;
                    &padded.data[start..start + 3]
                };
                let centre = |size: u32| (f64::from(size - crop) / 2.).round_ties_even() as u32;
                let corners = [
                    (0, 0),
                    (width - crop, 0),
                    (0, height - crop),
                    (width - crop, height - crop),
                    (centre(width), centre(height)),
                ];
                for mirrored in [false, true] {
                    for (left, top) in corners {
                        let places = (0..crop).flat_map(|y| (0..crop).map(move |x| (left + x, top + y)));
                        let data = places
                            .flat_map(|(x, y)| pixel(if mirrored { width - 1 - x } else { x }, y).to_vec())
                            .collect();
                        let crop_of = RgbImage { width: crop, height: crop, data };
                        let mut values = vec![0.; crop_of.data.len()];
                        member.preprocessing.normalise_pixels(&crop_of, [0.; 3], &mut values);
                        let side = i64::from(crop);
                        let input = Tensor::from_slice(&values).reshape([1, 3, side, side]);
                        let said = |network: &Network| {
                            network.read(&input, Tap::Logits).unwrap().softmax(1, Kind::Double).flatten(0, 1)
                        };
                        let mut shares = said(member.network);
                        if let Some((second, weight)) = member.partner {
                            shares = shares * (1. - weight) + said(second) * weight;
                        }
                        let shares = Vec::<f64>::try_from(shares);
                        for (class, weight) in shares.unwrap().into_iter().enumerate() {
                            let place = match &member.order {
                                Some(order) => order.iter().position(|&p| p == class as i64).unwrap(),
                                None => class,
                            };
                            total[place] += weight;
                        }
                        count += 1.;
                    }
                }
            }
        }
        total.iter().map(|weight| weight / count).collect()
    }

    #[test]
    fn each_model_sees_what_its_own_preset_shows() {
        let [first, second] = [preset(32, 0.5), preset(32, 0.1)];
        let [squash, pad] = [Fit::Squash, Fit::Pad].map(|fit| first.with_fit(fit));
        let other = second.with_fit(Fit::Pad);
        let presets = [&first, &second, &squash, &pad, &other];
        let image = picture(1);
        let shown = inputs(&presets, &Views::default(), &Picture::Pixels(image.clone())).unwrap();
        for (number, (preset, shown)) in presets.iter().zip(shown).enumerate() {
            let mut values = vec![0.; length(preset)];
            preset.normalise_pixels(&preset.eval_pixels(&image), [0.; 3], &mut values);
            assert_eq!(shown.len(), 1);
            assert!(shown[0].values == values, "preset {number}");
        }
    }

    #[test]
    fn the_average_equals_that_of_single_views_whatever_the_batches() {
        let (networks, presets) =
            ([1, 2, 3].map(network), [preset(32, 0.5), preset(40, 0.5), preset(32, 0.1)]);
        let order = |index| (index == 2).then(|| vec![2, 0, 3, 1]);
        let second = network(4);
        let members: Vec<Member> = networks
            .iter()
            .zip(&presets)
            .enumerate()
            .map(|(index, (network, preprocessing))| Member {
                network,
                partner: (index > 0).then_some((&second, 0.3)),
                preprocessing,
                order: order(index),
                precision: Precision::Fp32,
                parts: BackOff::new(Device::Cpu),
            })
            .collect();
        let views = Views { crops: Crops::Ten, scales: vec![47, 40] };
        let expected: Vec<Vec<f64>> =
            (0..3).map(|index| one_by_one(&members, &views.scales, &picture(index))).collect();
        let mut worst = 0f64;
        for batch_size in [1, 7, 64] {
            let averaging = Averaging { members: &members, views: &views, batch_size, threads: 2 };
            let (mut order, mut failures, mut checks) = (Vec::new(), Vec::new(), 0);
            let run = averaging.run(
                4,
                4,
                |index| if index == 3 { Err(Error::run("bad")) } else { Ok(Picture::Pixels(picture(index))) },
                || {
                    checks += 1;
                    Ok(())
                },
                |index, _| {
                    failures.push(index);
                    Ok(())
                },
                |batch| {
                    assert_eq!(batch.probabilities.size(), [batch.indices.len() as i64, 4]);
                    let found = Vec::<f64>::try_from(batch.probabilities.to_kind(Kind::Double).flatten(0, 1));
                    for (index, found) in batch.indices.iter().zip(found.unwrap().chunks(4)) {
                        let errors = expected[*index].iter().zip(found).map(|(a, b)| (a - b).abs());
                        worst = errors.fold(worst, f64::max);
                        order.push(*index);
                    }
                    Ok(())
                },
            );
            run.unwrap();
            assert_eq!((order, failures), (vec![0, 1, 2], vec![3]));
            // Once a part, and the views need more than one part.
            assert_eq!(checks, 4);
        }
        assert!(worst < 1e-6, "{worst}");
    }
}
