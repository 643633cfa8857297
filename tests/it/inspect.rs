//! `tl inspect` and `tl models`, against torchvision's own figures.

use tch::Device;
use transferkit::models::{Fill, Network, architectures, find, inspect};

use crate::program::{repository, tl};

/// Counting takes a pass through the network: larger ones run with `TL_LARGE=1` only.
const MOST_GFLOPS: f64 = 5.;

#[test]
fn multiply_adds_are_those_that_torchvision_publishes() {
    let large = std::env::var_os("TL_LARGE").is_some();
    for architecture in architectures() {
        let Some(entry) = architecture.weights().first() else { continue };
        if entry.gflops > MOST_GFLOPS && !large {
            continue;
        }
        let side = entry.preprocessing.crop_size;
        let network = Network::sized(architecture, 1000, side.into(), Device::Cpu, Fill::Zeros).unwrap();
        let rows = inspect(&network, side).unwrap();
        let found = rows.iter().map(|row| row.multiply_adds).sum::<u64>() as f64 * 1e-9;
        let name = architecture.name;
        assert!((found - entry.gflops).abs() < 0.0011, "{name}: {found}, torchvision says {}", entry.gflops);
        let vars = network.vars().iter().filter(|var| var.role.is_parameter());
        let parameters: usize = vars.map(|var| var.tensor.numel()).sum();
        // Layer scales and the like belong to no layer that runs.
        let of_layers: usize = rows.iter().map(|row| row.parameters()).sum();
        assert!(
            of_layers <= parameters && of_layers as f64 > 0.99 * parameters as f64,
            "{name}: {of_layers}"
        );
    }
}

#[test]
fn a_layer_has_its_stage_its_key_and_its_shape() {
    let network = Network::new(find("resnet18").unwrap(), 10, Device::Cpu, Fill::Zeros).unwrap();
    let rows = inspect(&network, 224).unwrap();
    let first = &rows[0];
    assert_eq!((first.stage.as_str(), first.key.as_str()), ("conv1", "conv1"));
    assert_eq!(first.output, [64, 112, 112]);
    assert_eq!((first.parameters(), first.multiply_adds), (9408, 118_013_952));
    let last = rows.last().unwrap();
    assert_eq!((last.stage.as_str(), last.key.as_str(), last.parameters()), ("head", "fc", 5130));
}

#[test]
fn the_program_shows_layers_and_totals() {
    let run = tl(&["inspect", "alexnet"]).expect(0);
    for part in ["alexnet (AlexNet) on 224×224 pixels", "64×55×55", "37,748,736", "61,100,840 parameters"]
    {
        assert!(run.stdout.contains(part), "{part}: {}", run.stdout);
    }
    tl(&["inspect", "resnet18", "--input", "64"]).expect(0);
    insta::assert_snapshot!(tl(&["inspect", "alexnet", "--input", "32"]).expect(2).told(), @"error: alexnet cannot take images of 32×32 pixels: a side needs at least 63");
    insta::assert_snapshot!(tl(&["inspect", "resnet1"]).expect(2).told(), @"error: there is no model named `resnet1`; the nearest are `resnet18`, `resnet101` and `resnet152`; `tl models` lists all");
}

#[test]
fn models_are_sorted_as_asked() {
    let run = tl(&["models", "resnet*", "--sort", "acc"]).expect(0);
    let names: Vec<&str> =
        run.stdout.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names[..3], ["resnet152", "resnet101", "resnet50"]);
}

#[test]
fn the_classics_have_the_shapes_and_parameters_of_their_papers() {
    let rows_of = |name, classes, side| {
        let network = Network::new(find(name).unwrap(), classes, Device::Cpu, Fill::Zeros).unwrap();
        inspect(&network, side).unwrap()
    };
    let parameters =
        |rows: &[transferkit::models::Row]| rows.iter().map(|row| row.parameters()).sum::<usize>();
    let alexnet = rows_of("alexnet_2012", 1000, 227);
    assert_eq!((alexnet[0].output.as_slice(), alexnet[0].parameters()), ([96, 55, 55].as_slice(), 34_944));
    assert_eq!(parameters(&alexnet), 60_965_224);
    let lenet = rows_of("lenet5", 10, 32);
    assert_eq!(lenet[0].output, [6, 28, 28]);
    assert_eq!(parameters(&lenet), 61_706);
}

/// Tables in courses: VGG16 layer by layer, and the five configurations in millions.
#[test]
fn vgg_has_the_numbers_of_the_courses() {
    let network = Network::new(find("vgg16").unwrap(), 1000, Device::Cpu, Fill::Zeros).unwrap();
    let rows = inspect(&network, 224).unwrap();
    assert_eq!((rows[0].output.as_slice(), rows[0].weights), ([64, 224, 224].as_slice(), 1728));
    assert_eq!(rows[0].activations(), 3_211_264);
    let fc6 = rows.iter().find(|row| row.stage == "fc6" && row.kind == "Linear").unwrap();
    assert_eq!(fc6.weights, 102_760_448);
    assert_eq!(rows.iter().map(|row| row.parameters()).sum::<usize>(), 138_357_544);
    let names = ["vgg11", "vgg11_lrn", "vgg13", "vgg16_c", "vgg16", "vgg19"];
    let millions = names.map(|name| {
        let shapes = Network::new(find(name).unwrap(), 1000, Device::Cpu, Fill::Shapes).unwrap();
        let parameters: usize =
            shapes.vars().iter().filter(|var| var.role.is_parameter()).map(|var| var.tensor.numel()).sum();
        (parameters as f64 / 1e6).round() as u64
    });
    assert_eq!(millions, [133, 133, 133, 134, 138, 144]);
}

/// The table of docs/inspect.md: each module's output shape, the weights that the paper's 5×5
/// convolutions would have, and the actual ones.
#[test]
fn googlenet_has_the_shapes_of_its_paper_and_the_weights_that_the_docs_say() {
    let network = Network::new(find("googlenet").unwrap(), 1000, Device::Cpu, Fill::Zeros).unwrap();
    let rows = inspect(&network, 224).unwrap();
    let docs = std::fs::read_to_string(repository("docs/inspect.md")).unwrap();
    let mut modules = Vec::new();
    for line in docs.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let stage = cells[1].trim_matches('`');
        let of_stage: Vec<_> = rows.iter().filter(|row| row.stage == stage).collect();
        let &[channels, height, width] = of_stage.last().unwrap().output.as_slice() else {
            panic!("{stage}")
        };
        assert_eq!(cells[3], format!("{height}×{width}×{channels}"), "{stage}");
        let convolutions = || of_stage.iter().filter(|row| row.kind.starts_with("Conv2d"));
        let weights: usize = convolutions().map(|row| row.weights).sum();
        let as_in_the_paper: usize = convolutions()
            .map(|row| if row.key.contains("branch3.1") { row.weights / 9 * 25 } else { row.weights })
            .sum();
        assert_eq!(cells[5].replace(',', ""), as_in_the_paper.to_string(), "{stage}");
        assert_eq!(cells[6].replace(',', ""), weights.to_string(), "{stage}");
        let norms: usize = of_stage.iter().map(|row| row.parameters()).sum::<usize>() - weights;
        assert_eq!(cells[7].replace(',', ""), norms.to_string(), "{stage}");
        modules.push(stage);
    }
    // The two stages of the paper's second convolution stand in a row each.
    let stages: Vec<&str> = network.stage_names().collect();
    assert_eq!(modules, stages);
    let head = rows.iter().find(|row| row.key == "fc").unwrap();
    assert_eq!((head.weights, head.biases), (1_024_000, 1000));
}

/// Operations that are neither convolutions nor linear layers have rows too.
#[test]
fn poolings_and_attention_have_rows() {
    let rows_of = |name: &str, side: u32| {
        let network = Network::sized(find(name).unwrap(), 10, side.into(), Device::Cpu, Fill::Zeros).unwrap();
        inspect(&network, side).unwrap()
    };
    let kinds =
        |rows: &[transferkit::models::Row], kind: &str| rows.iter().filter(|row| row.kind == kind).count();
    // One in each module but the two that reduce the resolution.
    assert_eq!(kinds(&rows_of("inception_v3", 299), "AvgPool2d 3×3"), 9);
    assert_eq!(kinds(&rows_of("maxvit_t", 224), "AvgPool2d 3×3"), 4);
    let vit = rows_of("vit_b_32", 64);
    assert_eq!(kinds(&vit, "attention"), 12);
    let attention = vit.iter().find(|row| row.kind == "attention").unwrap();
    // A class token and four patches: 5 × 5 weights, each a product over 768 channels, and their
    // use.
    assert_eq!(
        (attention.output.as_slice(), attention.multiply_adds),
        ([5, 768].as_slice(), 2 * 5 * 5 * 768)
    );
}
