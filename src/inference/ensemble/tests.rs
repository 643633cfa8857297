use tch::{Device, Kind};

use super::*;
use crate::device::back_off::BackOff;
use crate::device::precision::Precision;
use crate::models::{Fill, Tap, find};
use crate::preprocess::{Crops, Interpolation, RgbImage};

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
            let whole = Preprocessing { resize_size: scale, crop_size: 400, ..member.preprocessing.clone() };
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
                    if let Some(temperature) = member.temperature {
                        shares = (shares.log() / temperature).softmax(0, Kind::Double);
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
    let (networks, presets) = ([1, 2, 3].map(network), [preset(32, 0.5), preset(40, 0.5), preset(32, 0.1)]);
    let order = |index| (index == 2).then(|| vec![2, 0, 3, 1]);
    let second = network(4);
    let members: Vec<Member> = networks
        .iter()
        .zip(&presets)
        .enumerate()
        .map(|(index, (network, preprocessing))| Member {
            network,
            partner: (index > 0).then_some((&second, 0.3)),
            temperature: (index == 1).then_some(1.7),
            unknown: None,
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
