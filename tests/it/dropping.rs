//! Random dropping of networks in training, against torchvision's (`tests/oracle/dropping.py`):
//! places and rates.

use std::sync::{Mutex, PoisonError};

use tch::{Device, Kind, Tensor};
use transferkit::models::layers::trace::{Dropped, dropped};
use transferkit::models::layers::{Dropping, Layer, Mode};
use transferkit::models::{Fill, Network, architectures, find};

use crate::filled;

type Facts = serde_json::Map<String, serde_json::Value>;

fn facts() -> Facts {
    let path = crate::program::repository("tests/fixtures/dropping/dropping.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// libtorch's generator is global: tests that draw from it, and tests that seed it and expect
/// certain numbers, run one after the other.
static GENERATOR: Mutex<()> = Mutex::new(());

/// Does `work` while no other test draws.
pub fn drawing<T>(work: impl FnOnce() -> T) -> T {
    let _alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    work()
}

const NO_DROPPING: Mode = Mode::INFERENCE;
/// With running statistics, so that an image's numbers do not depend on what was dropped from the
/// others.
const DROPPING: Mode = Mode { dropout: true, batch_statistics: false };

/// The layers with a rate, in the order in which they run, including those of the auxiliary
/// classifiers.
fn run(network: &Network, images: &Tensor, mode: Mode) -> Vec<Dropped> {
    let (logits, layers) =
        drawing(|| dropped(|| tch::no_grad(|| network.forward_with_auxiliaries(images, mode).map(|_| ()))));
    logits.unwrap();
    layers.into_iter().filter(|layer| of(layer.layer).1 > 0.).collect()
}

/// The network with GoogLeNet's auxiliary classifiers; Inception's drop nothing.
fn with_auxiliaries(network: &mut Network) {
    network.freeze(0).unwrap();
    if network.architecture.name == "googlenet" {
        network.add_auxiliaries(Fill::Zeros).unwrap();
    }
}

fn of(layer: Dropping) -> (&'static str, f64) {
    match layer {
        Dropping::Numbers(p) => ("numbers", p),
        Dropping::Images(p) => ("images", p),
    }
}

fn check_sites(name: &str, layers: &[Dropped], expected: &serde_json::Value) {
    let expected = expected["sites"].as_array().unwrap();
    assert_eq!(layers.len(), expected.len(), "{name}");
    for (site, (layer, expected)) in layers.iter().zip(expected).enumerate() {
        let (kind, p) = of(layer.layer);
        assert_eq!(kind, expected[0], "{name}, site {site}");
        assert!((p - expected[1].as_f64().unwrap()).abs() < 1e-9, "{name}, site {site}: {p} for {expected}");
    }
}

/// Whether a network is too large for everyday tests: `TL_LARGE=1` runs these.
fn is_left_out(architecture: &transferkit::models::Architecture) -> bool {
    std::env::var_os("TL_LARGE").is_none() && architecture.weights()[0].parameters > 100_000_000
}

#[test]
fn every_network_drops_at_torchvisions_rates() {
    let facts = facts();
    let mut seen = 0;
    for architecture in architectures().filter(|it| !it.weights().is_empty() && !is_left_out(it)) {
        // RegNet has nothing that drops, and the oracle leaves it out.
        let Some(expected) = facts.get(architecture.name) else {
            assert_eq!(architecture.family, "RegNet", "{}", architecture.name);
            continue;
        };
        if expected["sites"].as_array().unwrap().is_empty() {
            continue;
        }
        let side = i64::from(architecture.min_size.max(32));
        let mut network = Network::sized(architecture, 10, side, Device::Cpu, Fill::Zeros).unwrap();
        with_auxiliaries(&mut network);
        let layers = run(&network, &filled::inputs(1, side), NO_DROPPING);
        check_sites(architecture.name, &layers, expected);
        seen += 1;
    }
    assert!(seen >= 30, "{seen}");
}

/// The rate of a site is measured on the layer that the network ran there. Other tests draw from
/// the same generator at the same time, so that no seed would repeat the draws. A rate 6 standard
/// deviations off, which chance gives once in 500 million measurements, is wrong.
const DEVIATIONS: f64 = 6.;
const DRAWS: i64 = 1_000_000;

/// Checks that the share of `p` was dropped in `draws`, within chance.
#[track_caller]
fn check_share(what: &str, found: f64, p: f64, variance: f64, draws: i64) {
    let bound = DEVIATIONS * (variance / draws as f64).sqrt();
    assert!((found - p).abs() <= bound, "{what}: {found} for {p} ± {bound}");
}

/// Draws from the layer, and compares with the expected rate: `[DRAWS, 2]` is as many images of two
/// numbers each.
fn check_rate(what: &str, layer: Dropping, p: f64) {
    let ones = Tensor::ones([DRAWS, 2], (Kind::Float, Device::Cpu));
    let out = drawing(|| layer.forward(&ones, DROPPING)).unwrap();
    let gone = out.eq(0.).to_kind(Kind::Float);
    let share = |gone: &Tensor| gone.mean(Kind::Double).double_value(&[]);
    let (first, second) = (gone.select(1, 0), gone.select(1, 1));
    match layer {
        Dropping::Numbers(_) => {
            check_share(what, share(&gone), p, p * (1. - p), 2 * DRAWS);
            // Of an image one number goes without the other.
            let both = p * p;
            check_share(what, share(&(&first * &second)), both, both * (1. - both), DRAWS);
        }
        Dropping::Images(_) => {
            assert_eq!(first, second, "{what}: an image goes as a whole");
            check_share(what, share(&first), p, p * (1. - p), DRAWS);
        }
    }
    // An image goes whether the one before it went or not: neighbours that both went, each in two
    // pairs.
    let pairs = first.narrow(0, 1, DRAWS - 1) * first.narrow(0, 0, DRAWS - 1);
    let (both, three) = (p * p, p * p * p);
    check_share(what, share(&pairs), both, both * (1. - both) + 2. * (three - both * both), DRAWS - 1);
    // The kept numbers are scaled up, so that the mean stays.
    let kept = out.masked_select(&out.ne(0.));
    let scale = if p < 1. { 1. / (1. - p) } else { 0. };
    let worst = (kept - scale).abs().max().double_value(&[]);
    assert!(worst < 1e-6 * scale, "{what}: scaled by {scale} but for {worst}");
    // Inference drops nothing.
    assert_eq!(layer.forward(&ones, NO_DROPPING).unwrap(), ones, "{what}");
}

/// In the network itself each image's branch is 0 or scaled up, and only its input identifies the
/// layer's place.
fn check_place(what: &str, site: &Dropped, p: f64) {
    let Dropped { layer, input, output } = site;
    let scaled = input / (1. - p);
    let same = |a: &Tensor, b: &Tensor| {
        (a - b).abs().max().double_value(&[]) <= 1e-5 * b.abs().max().double_value(&[])
    };
    match layer {
        Dropping::Images(_) => {
            for image in 0..input.size()[0] {
                let (out, scaled) = (output.get(image), scaled.get(image));
                let gone = out.count_nonzero(None::<i64>).int64_value(&[]) == 0;
                assert!(gone || same(&out, &scaled), "{what}, image {image}");
            }
        }
        Dropping::Numbers(_) => {
            let kept = output.ne(0.).to_kind(Kind::Float);
            assert!(same(output, &(scaled * kept)), "{what}");
        }
    }
}

#[test]
fn each_block_drops_where_and_as_often_as_torchvisions() {
    let facts = facts();
    let mut measured = 0;
    for (name, facts) in facts.iter().filter(|(_, facts)| facts.get("norms").is_some()) {
        let mut network = match name.as_str() {
            "vit_b_32" => Network::new(find(name).unwrap(), 10, Device::Cpu, Fill::Zeros).unwrap(),
            _ => filled::network(name),
        };
        with_auxiliaries(&mut network);
        network.auxiliary_vars().for_each(filled::fill);
        let images = filled::inputs(2, facts["side"].as_i64().unwrap());
        let layers = run(&network, &images, NO_DROPPING);
        check_sites(name, &layers, facts);
        for (site, (layer, expected)) in layers.iter().zip(facts["norms"].as_array().unwrap()).enumerate() {
            assert_eq!(layer.input, layer.output, "{name}, site {site}: inference drops nothing");
            let (found, expected) =
                (layer.input.to_kind(Kind::Double).norm().double_value(&[]), expected.as_f64().unwrap());
            assert!(
                (found / expected - 1.).abs() < 1e-4,
                "{name}, site {site}: what goes in has a norm of {found}, torchvision's {expected}"
            );
        }
        let layers = run(&network, &images, DROPPING);
        check_sites(name, &layers, facts);
        for (site, (layer, expected)) in layers.iter().zip(facts["sites"].as_array().unwrap()).enumerate() {
            let p = expected[1].as_f64().unwrap();
            let what = format!("{name}, site {site}");
            check_place(&what, layer, p);
            check_rate(&what, layer.layer, p);
            measured += 1;
        }
    }
    assert!(measured > 150, "{measured}");
}
