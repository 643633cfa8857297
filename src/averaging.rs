//! Class probabilities averaged over the views of an image, and over networks.
//!
//! What is averaged is the softmax, as AlexNet (section 4.1) and VGG (section 4.2) have it, not the logits.
//! An image is decoded once, and resized once for each scale and each way of preprocessing, whatever the
//! number of networks and crops. Views of several images share a batch.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use crate::dataset::Sample;
use crate::error::{Error, Result};
use crate::loader::{READ_AHEAD, for_each_ordered, too_large};
use crate::metrics::{Confusion, Evaluation};
use crate::models::{Network, Reading};
use crate::parts::Parts;
use crate::precision::{Autocast, Precision};
use crate::preprocess::{DecodeLimits, Preprocessing, RgbImage, Views, Window, decode_file};
use crate::signal::Signals;
use crate::suggest::quoted;
use crate::trainer::{count, labels_of};
use crate::transfer::upload_images;
use crate::wording::{first_few, shown};

/// One of the networks whose probabilities are averaged.
pub struct Member<'a> {
    /// The network.
    pub network: &'a Network,
    /// How an image becomes its input.
    pub preprocessing: &'a Preprocessing,
    /// For each class of the average its place among the network's logits; `None`: the same place.
    pub order: Option<Vec<i64>>,
    /// In what numbers it computes.
    pub precision: Precision,
    /// How much it sees at once.
    pub parts: Parts,
}

/// What is averaged, and how it is computed.
pub struct Averaging<'a> {
    /// At least one.
    pub members: &'a [Member<'a>],
    /// What each of them sees of an image; without a [`Views::mistake`] for any of them.
    pub views: &'a Views,
    /// The most views in a batch.
    pub batch_size: usize,
    /// Threads that decode.
    pub threads: usize,
}

/// Images of which all views have been seen.
pub struct Averaged {
    /// Which of the asked-for images these are.
    pub indices: Vec<usize>,
    /// Mean class probabilities, float32 `[N, classes]` on the CPU.
    pub probabilities: Tensor,
}

/// A view that waits for its batch.
struct Waiting {
    image: usize,
    values: Rc<Vec<f32>>,
    mirrored: bool,
}

/// A normalised window: a plane a channel.
struct Input {
    values: Vec<f32>,
    upright: bool,
    mirrored: bool,
}

/// Networks that see the same pixels, and the views that wait for them.
struct Group<'a> {
    preprocessing: &'a Preprocessing,
    members: Vec<&'a Member<'a>>,
    waiting: VecDeque<Waiting>,
}

/// The probabilities of an image so far.
struct Sum {
    /// Views that are still to be seen, counted for each network.
    left: usize,
    total: Vec<f64>,
}

impl Averaging<'_> {
    /// Calls `decode(i)` for `i` in `0..count` in parallel and `each` with finished images in order. `check`
    /// is asked before each batch. An image that fails goes to `failed`, in order too.
    pub fn run(
        &self,
        count: usize,
        decode: impl Fn(usize) -> Result<RgbImage> + Sync,
        mut check: impl FnMut() -> Result<()>,
        mut failed: impl FnMut(usize, Error) -> Result<()>,
        mut each: impl FnMut(Averaged) -> Result<()>,
    ) -> Result<()> {
        let mut groups = self.groups();
        let presets: Vec<&Preprocessing> = groups.iter().map(|group| group.preprocessing).collect();
        let views = self.views;
        let inputs = |index| decode(index).map(|image| inputs(&presets, views, &image));
        let mut sums: BTreeMap<usize, Sum> = BTreeMap::new();
        let mut values: Vec<f32> = Vec::new();
        let most = self.batch_size.min(count.saturating_mul(views.count()));
        let room = most.saturating_mul(presets.iter().map(|preset| length(preset)).max().unwrap_or(0));
        values.try_reserve_exact(room).map_err(|_| too_large(room))?;
        for_each_ordered(count, self.threads, self.window(&presets), inputs, |index, result| {
            match result {
                Err(error) => failed(index, error)?,
                Ok(inputs) => {
                    let left = views.count() * self.members.len();
                    sums.insert(index, Sum { left, total: Vec::new() });
                    groups.iter_mut().zip(inputs).for_each(|(group, inputs)| group.add(index, inputs));
                }
            }
            let end = index + 1 == count;
            for group in &mut groups {
                while group.waiting.len() >= self.batch_size || (end && !group.waiting.is_empty()) {
                    check()?;
                    group.see(self.batch_size, &mut values, &mut sums)?;
                }
            }
            let finished: Vec<usize> =
                sums.iter().filter(|(_, sum)| sum.left == 0).map(|(&index, _)| index).collect();
            match finished.is_empty() {
                true => Ok(()),
                false => each(self.averaged(finished, &mut sums)?),
            }
        })
    }

    /// Measures the average on `samples`, and tells `progress` each time how many more are done. A signal ends
    /// it with [`Error::Interrupted`].
    pub fn evaluate(
        &self,
        samples: &[Sample],
        classes: usize,
        limits: DecodeLimits,
        signals: &Signals,
        mut progress: impl FnMut(usize),
    ) -> Result<Evaluation> {
        let mut confusion = Confusion::new(classes);
        let mut loss_sum = 0.;
        self.run(
            samples.len(),
            |index| decode_file(&samples[index].path, limits),
            || signals.check("stopped while measuring; the training is saved: go on with `--resume`"),
            |_, error| Err(error),
            |batch| {
                let labels = labels_of(batch.indices.iter().map(|&index| &samples[index]))?;
                // Logarithms of probabilities are logits of the same probabilities. One that has underflown
                // counts as the least that is none.
                let least = f64::from(f32::MIN_POSITIVE);
                let logits = batch.probabilities.f_clamp_min(least).and_then(|shares| shares.f_log());
                loss_sum += count(&logits?, &labels, &mut confusion)?;
                progress(batch.indices.len());
                Ok(())
            },
        )?;
        let loss = loss_sum / confusion.total().max(1) as f64;
        Ok(Evaluation { loss, accuracy: confusion.accuracy(), confusion })
    }

    /// One for each way of preprocessing.
    fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: Vec<Group> = Vec::new();
        for member in self.members {
            match groups.iter_mut().find(|group| group.preprocessing == member.preprocessing) {
                Some(group) => group.members.push(member),
                None => groups.push(Group {
                    preprocessing: member.preprocessing,
                    members: vec![member],
                    waiting: VecDeque::new(),
                }),
            }
        }
        groups
    }

    /// How many images may be decoded ahead: two batches of views, as far as memory allows.
    fn window(&self, presets: &[&Preprocessing]) -> usize {
        let numbers: usize = presets.iter().map(|preset| length(preset)).sum();
        let views = self.views.count();
        let wanted = (2 * self.batch_size).div_ceil(views).max(self.threads.min(2 * self.batch_size));
        wanted.min((READ_AHEAD / (numbers * views)).max(self.threads))
    }

    /// Takes finished images out of `sums`.
    fn averaged(&self, indices: Vec<usize>, sums: &mut BTreeMap<usize, Sum>) -> Result<Averaged> {
        let parts = (self.views.count() * self.members.len()) as f64;
        let finished = indices.iter().filter_map(|index| sums.remove(index));
        let means: Vec<f32> =
            finished.flat_map(|sum| sum.total).map(|total| (total / parts) as f32).collect();
        let probabilities = Tensor::f_from_slice(&means)
            .and_then(|means| means.f_reshape([indices.len() as i64, -1]))
            .map_err(Error::torch("average probabilities"))?;
        Ok(Averaged { indices, probabilities })
    }
}

impl Group<'_> {
    fn add(&mut self, image: usize, inputs: Vec<Input>) {
        for Input { values, upright, mirrored } in inputs {
            let values = Rc::new(values);
            for (seen, mirrored) in [(upright, false), (mirrored, true)] {
                if seen {
                    self.waiting.push_back(Waiting { image, values: Rc::clone(&values), mirrored });
                }
            }
        }
    }

    /// Shows at most `most` views to the networks, and adds what they say to `sums`. `values` is scratch.
    fn see(&mut self, most: usize, values: &mut Vec<f32>, sums: &mut BTreeMap<usize, Sum>) -> Result<()> {
        let side = self.preprocessing.crop_size as usize;
        let views: Vec<Waiting> = self.waiting.drain(..most.min(self.waiting.len())).collect();
        values.clear();
        for view in &views {
            match view.mirrored {
                false => values.extend_from_slice(&view.values),
                true => view.values.chunks_exact(side).for_each(|row| values.extend(row.iter().rev())),
            }
        }
        let shape = [views.len() as i64, 3, side as i64, side as i64];
        let images = Tensor::f_from_slice(values.as_slice())
            .and_then(|images| images.f_reshape(shape))
            .map_err(Error::torch("make a batch"))?;
        for member in &self.members {
            let probabilities = member.probabilities(&images)?;
            let classes = probabilities.len() / views.len();
            for (view, shares) in views.iter().zip(probabilities.chunks_exact(classes.max(1))) {
                if let Some(sum) = sums.get_mut(&view.image) {
                    sum.total.resize(classes, 0.);
                    sum.total.iter_mut().zip(shares).for_each(|(total, &share)| *total += f64::from(share));
                    sum.left -= 1;
                }
            }
        }
        Ok(())
    }
}

impl Member<'_> {
    /// The softmax for each image, row by row, in the order of the average's classes.
    fn probabilities(&self, images: &Tensor) -> Result<Vec<f32>> {
        let device = self.network.device();
        let logits = self.parts.run_one(images, |images| {
            let images = upload_images(images, self.preprocessing, device)?;
            let _autocast = Autocast::begin(device, self.precision)?;
            self.network.read(&images, Reading::Logits)
        })?;
        let softmax = || {
            let shares = logits.f_softmax(1, Kind::Float)?.f_to_device(Device::Cpu)?;
            match &self.order {
                None => Ok(shares),
                Some(order) => shares.f_index_select(1, &Tensor::f_from_slice(order)?),
            }
        };
        let shares = softmax().map_err(Error::torch("compute probabilities"))?;
        Ok(Vec::<f32>::try_from(shares.f_flatten(0, -1)?)?)
    }
}

/// The normalised windows of an image, for each of `presets`. Those that differ in mean and deviation alone
/// share the pixels.
fn inputs(presets: &[&Preprocessing], views: &Views, image: &RgbImage) -> Vec<Vec<Input>> {
    let same = |a: &Preprocessing, b: &Preprocessing| {
        (a.resize_size, a.crop_size, a.interpolation) == (b.resize_size, b.crop_size, b.interpolation)
    };
    let mut known: Vec<(&Preprocessing, Vec<Window>)> = Vec::new();
    let mut inputs = Vec::with_capacity(presets.len());
    for preset in presets {
        let place = known.iter().position(|(other, _)| same(preset, other)).unwrap_or_else(|| {
            known.push((preset, preset.windows(views, image)));
            known.len() - 1
        });
        let normalised = |window: &Window| {
            let mut values = vec![0.; length(preset)];
            preset.normalise_pixels(&window.pixels, [0.; 3], &mut values);
            Input { values, upright: window.upright, mirrored: window.mirrored }
        };
        inputs.push(known[place].1.iter().map(normalised).collect());
    }
    inputs
}

/// Numbers of one view.
fn length(preprocessing: &Preprocessing) -> usize {
    3 * (preprocessing.crop_size as usize).pow(2)
}

/// How the classes of a network answer those of the first, if they are the same: by place (`None`), or by
/// name, as the place of each in `found`. The error says how they differ.
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
            "{} and {} classes; {}, {}",
            wanted.len(),
            found.len(),
            part("only the first has:", &missing),
            part("only the second has:", &extra)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Fill, find};
    use crate::preprocess::{Crops, Interpolation};

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
        assert!(match_classes(&names("a b a"), &names("b a a")).unwrap_err().contains("`a` more than once"));
    }

    /// A small network, with sides that ten crops and a second scale fit into.
    fn preset(crop_size: u32, mean: f32) -> Preprocessing {
        Preprocessing {
            resize_size: crop_size + 3,
            crop_size,
            interpolation: Interpolation::Bilinear,
            mean: [mean; 3],
            std: [0.25; 3],
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

    /// The average of an image, one view after the other, with crops and mirror images made by another way.
    fn one_by_one(members: &[Member], scales: &[u32], image: &RgbImage) -> Vec<f64> {
        let mut total = [0.; 4];
        let mut count = 0.;
        for member in members {
            let crop = member.preprocessing.crop_size;
            for &scale in scales {
                // All of the resized image: a crop as large as its longer side, without the black margins.
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
                        let logits = member.network.read(&input, Reading::Logits).unwrap();
                        let shares = Vec::<f64>::try_from(logits.softmax(1, Kind::Double).flatten(0, 1));
                        for (class, share) in shares.unwrap().into_iter().enumerate() {
                            let place = match &member.order {
                                Some(order) => order.iter().position(|&p| p == class as i64).unwrap(),
                                None => class,
                            };
                            total[place] += share;
                        }
                        count += 1.;
                    }
                }
            }
        }
        total.iter().map(|share| share / count).collect()
    }

    #[test]
    fn the_average_equals_that_of_single_views_whatever_the_batches() {
        let (networks, presets) =
            ([1, 2, 3].map(network), [preset(32, 0.5), preset(40, 0.5), preset(32, 0.1)]);
        let order = |index| (index == 2).then(|| vec![2, 0, 3, 1]);
        let members: Vec<Member> = networks
            .iter()
            .zip(&presets)
            .enumerate()
            .map(|(index, (network, preprocessing))| Member {
                network,
                preprocessing,
                order: order(index),
                precision: Precision::Fp32,
                parts: Parts::new(Device::Cpu),
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
                |index| if index == 3 { Err(Error::run("bad")) } else { Ok(picture(index)) },
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
            // Three ways of preprocessing, 3 images of 20 views: never more than a batch at once.
            assert_eq!(checks, 3 * 60usize.div_ceil(batch_size));
        }
        assert!(worst < 1e-6, "{worst}");
    }
}
