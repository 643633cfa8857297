//! bf16 and fp16 compared with PyTorch, batches in parts, and messages without CUDA.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tch::{Device, Kind, Tensor};
use transferkit::device::precision::{Autocast, Precision};
use transferkit::models::layers::Mode;
use transferkit::weights::checkpoint::read_checkpoint;

use crate::digits::Lab;
use crate::filled;
use crate::program::{Tl, repository};

/// Loss and gradient norm of a few steps of SGD with momentum, in a precision.
fn steps(name: &str, side: i64, precision: Precision, count: usize) -> Vec<[f64; 2]> {
    let mut network = filled::network(name);
    network.freeze(0).unwrap();
    let images = filled::inputs(4, side);
    let labels = Tensor::arange(4, (Kind::Int64, Device::Cpu)) * 7;
    let params: Vec<Tensor> = network.trained().map(|(var, _)| var.tensor.shallow_clone()).collect();
    let mut buffers: Vec<Tensor> = params.iter().map(Tensor::zeros_like).collect();
    let mut rows = Vec::new();
    for _ in 0..count {
        params.iter().for_each(|param| param.shallow_clone().zero_grad());
        let autocast = Autocast::begin(Device::Cpu, precision).unwrap();
        let logits = network.forward(&images, Mode { dropout: false, batch_statistics: false }).unwrap();
        let loss = logits.cross_entropy_loss::<Tensor>(&labels, None, tch::Reduction::Mean, -100, 0.1);
        drop(autocast);
        loss.backward();
        let square = |param: &Tensor| param.grad().to_kind(Kind::Double).square().sum(Kind::Double);
        let norm = params.iter().map(|param| square(param).double_value(&[])).sum::<f64>().sqrt();
        rows.push([loss.double_value(&[]), norm]);
        tch::no_grad(|| {
            for (param, buffer) in params.iter().zip(&mut buffers) {
                let _ = buffer.g_mul_scalar_(0.9).g_add_(&param.grad());
                let _ = param.shallow_clone().g_add_(&(&*buffer * -1e-3));
            }
        });
    }
    rows
}

/// The same steps by torchvision and `torch.autocast("cpu")`. The difference of bf16 from fp32 is
/// far above the tolerance.
#[test]
fn steps_in_bf16_are_those_of_torch_autocast() {
    let text = fs::read_to_string(repository("tests/fixtures/precision/steps.json")).unwrap();
    let networks: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
    for (name, facts) in networks {
        let rows = |kind: &str| -> Vec<[f64; 2]> {
            let rows = facts[kind].as_array().unwrap().iter();
            rows.map(|row| [row["loss"].as_f64().unwrap(), row["gradient_norm"].as_f64().unwrap()]).collect()
        };
        let off = |a: &[[f64; 2]], b: &[[f64; 2]]| {
            let pairs = a.iter().flatten().zip(b.iter().flatten());
            pairs.map(|(a, b)| (a - b).abs() / b.abs()).fold(0., f64::max)
        };
        let (fp32, bf16) = (rows("fp32"), rows("bf16"));
        let found = steps(&name, facts["side"].as_i64().unwrap(), Precision::Bf16, bf16.len());
        let (error, effect) = (off(&found, &bf16), off(&fp32, &bf16));
        println!("{name}: {error:.1e} from torch.autocast, which is {effect:.1e} from fp32");
        // Swin's attention is one operation here and several in torchvision, each of which rounds
        // to 8 bits.
        let tolerance = if name.starts_with("swin") { 6e-3 } else { 1e-6 };
        assert!(error < tolerance && error < effect, "{name}: {found:?} for {bf16:?}");
    }
}

/// The weights of a run's last step.
fn weights(lab: &Lab, out: &str) -> BTreeMap<String, Vec<f32>> {
    let path = lab.path(&format!("{out}/checkpoint/last.safetensors"));
    let checkpoint = read_checkpoint(&path).unwrap();
    let floats =
        checkpoint.tensors.iter().filter(|(key, raw)| key.starts_with("network.") && raw.dtype.is_float());
    floats
        .map(|(key, raw)| {
            let values = raw.bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
            (key.clone(), values.collect())
        })
        .collect()
}

/// The greatest difference of two runs' weights, relative to each tensor's norm.
fn distance(a: &BTreeMap<String, Vec<f32>>, b: &BTreeMap<String, Vec<f32>>) -> f64 {
    assert!(a.keys().eq(b.keys()));
    let norm = |values: &[f32]| values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let relative = |(key, a): (&String, &Vec<f32>)| {
        let difference: Vec<f32> = a.iter().zip(&b[key]).map(|(a, b)| a - b).collect();
        norm(&difference) / norm(a).max(1e-12)
    };
    a.iter().map(relative).fold(0., f64::max)
}

#[test]
fn parts_of_a_batch_train_as_the_whole_does() {
    let lab = Lab::of("full", 4);
    let still = ["train.epochs=1", "train.batch_norm=inference", "train.lr=0.002"];
    let unequal = ["train.class_weights=balanced", "train.label_smoothing=0.1"];
    let mixed = ["train.mixup=0.4", "train.cutmix=1", "train.label_smoothing=0.1", "train.clip_grad_norm=1"];
    for (name, more) in [("unequal", &unequal[..]), ("mixed", &mixed)] {
        let run = |out: &str, parts: &[&str]| {
            let out = format!("{name}-{out}");
            lab.finetuned(&out, &[&still, more, parts].concat());
            (weights(&lab, &out), lab.json(&format!("{out}/report.json"))["epochs"][0]["train_loss"].clone())
        };
        let (whole, loss) = run("whole", &[]);
        // 40 images: batches of 16, 16 and 8.
        let (parts, loss_of_parts) = run("parts", &["train.micro_batch=6"]);
        let found = distance(&whole, &parts);
        println!("{name}: parts against whole batches, relative distance {found:.1e}");
        assert!(found > 0. && found < 1e-4, "{name}: {found}");
        let (a, b) = (loss.as_f64().unwrap(), loss_of_parts.as_f64().unwrap());
        assert!((a - b).abs() < 1e-4 * a, "{name}: {a} and {b}");
    }
    let run = lab.finetuned("batches", &["train.epochs=1", "train.micro_batch=8", "train.batch_norm=train"]);
    insta::assert_snapshot!(run.message("micro_batch: 8"), @"note: `micro_batch: 8` is not the same training as `batch_size: 16` at once: BatchNorm normalises 8 images; with `batch_norm: inference` it would be");
    let run = lab.finetune("one", &["train.micro_batch=1", "train.batch_norm=train"]).run().expect(2);
    insta::assert_snapshot!(run.told(), @"
    error: r.yaml: 1 mistake
      --set train.micro_batch=1: BatchNorm cannot learn from one image at a time: take 2 or more, or set `train.batch_norm: inference`
    ");
}

#[test]
fn a_run_in_bf16_is_another_run_and_goes_on_exactly() {
    let lab = Lab::of("full", 2);
    let bf16 = ["train.precision=bf16", "train.epochs=2"];
    lab.finetuned("whole", &bf16).says(&["falling as a cosine, in bf16"]);
    lab.finetuned("fp32", &["train.epochs=2"]);
    let whole = weights(&lab, "whole");
    let off = distance(&weights(&lab, "fp32"), &whole);
    assert!(off > 1e-4, "{off}");
    // The output is single precision, measured in single precision.
    let val = &lab.json("whole/report.json")["val"]["accuracy"];
    assert!(val.as_f64().unwrap() > 0.);
    let refused = lab.finetune("whole", &["train.epochs=2"]).arg("--resume").run().expect(2);
    insta::assert_snapshot!(refused.told(), @"
    error: cannot resume whole: the recipe means another run (`train.precision` was bf16, is fp32). Undo the change, or start afresh with `--overwrite` or another `--out`. The run is finished, and its learning rate has come to the end of its schedule: to train its model further, begin a new run with it as the `model`:
      tl finetune r.yaml --set train.epochs=2 --set model=[TMP]/whole --set weights=DEFAULT --out whole-further
    ");
    lab.finetuned("again", &bf16);
    assert!(weights(&lab, "again") == whole);
}

#[test]
fn fp16_keeps_its_scale_in_the_checkpoint() {
    let lab = Lab::of("full", 1);
    let fp16 = ["train.precision=fp16", "train.epochs=1", "train.batch_size=5"];
    lab.finetuned("run", &fp16).says(&["note: fp16 is for GPUs", "falling as a cosine, in fp16"]);
    let checkpoint = read_checkpoint(&lab.path("run/checkpoint/last.safetensors")).unwrap();
    let progress: Value = serde_json::from_str(&checkpoint.metadata["progress"]).unwrap();
    let scale = &progress["loss_scale"];
    // Two steps: each has halved the scale, or has been counted.
    let (value, good) = (scale["scale"].as_f64().unwrap(), scale["good_steps"].as_i64().unwrap());
    assert!([(65536., 2), (32768., 1), (32768., 0), (16384., 0)].contains(&(value, good)), "{scale}");
}

#[test]
fn features_in_bf16_are_near_those_in_fp32_and_are_written_in_fp32() {
    let lab = Lab::of("linear", 1);
    let model = repository("data/shufflenet_v2_x0_5-letters.safetensors");
    let image = repository("data/samples/one.png");
    // One image goes through the network as it is, more of them through one a core.
    let copies: Vec<_> = (0..6).map(|number| lab.path(&format!("{number}.png"))).collect();
    for copy in &copies {
        fs::copy(&image, copy).unwrap();
    }
    let features = |precision: &str, images: &[PathBuf]| -> Vec<f32> {
        let args =
            ["extract", "--precision", precision, "--out", "x.csv", "--model", model.to_str().unwrap()];
        lab.tl(&args).args(images).run().expect(0);
        let text = String::from_utf8(lab.read("x.csv")).unwrap();
        let rows = text.lines().skip(1).flat_map(|line| line.split(',').skip(2));
        rows.map(|number| number.parse().unwrap()).collect()
    };
    for images in [&[image.clone()][..], &copies] {
        let (fp32, bf16) = (features("fp32", images), features("bf16", images));
        let most = fp32.iter().fold(0f32, |most, x| most.max(x.abs()));
        let off = fp32.iter().zip(&bf16).map(|(a, b)| (a - b).abs()).fold(0., f32::max) / most;
        println!("features of {} in bf16: {off:.1e} of the largest", images.len());
        // Far above the rounding of fp32, at the rounding of 8 bits.
        assert!(off > 1e-4 && off < 0.1, "{off}");
    }

    let args = ["predict", "--precision", "bf16", "--out", "p.csv", "--model", model.to_str().unwrap()];
    lab.tl(&args).arg(&image).run().expect(0);
    assert_eq!(String::from_utf8(lab.read("p.csv")).unwrap().lines().count(), 2);
    let wrong = lab.tl(&["predict", "--precision", "half", "--model", "resnet18", "x.png"]).run().expect(2);
    insta::assert_snapshot!(wrong.told(), @"
    error: invalid value 'half' for '--precision <P>': expected one of fp32, bf16, fp16

    For more information, try '--help'.
    ");
}

/// A driver that opens and does not work, compiled here; libtorch is never asked about CUDA.
#[test]
fn a_driver_that_cannot_be_used_is_told() {
    let lab = Lab::of("linear", 1);
    let said = |init: i32, device: &str| {
        let source = format!(
            "int cuInit(unsigned f){{return {init};}} int cuDriverGetVersion(int*v){{*v=13000;return 0;}} int cuDeviceGetCount(int*c){{*c=0;return 0;}}"
        );
        let file = lab.write("driver.c", source);
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-o"]).arg(lab.path("libcuda.so.1")).arg(file);
        assert!(cc.status().unwrap().success());
        let args =
            ["extract", "--model", "resnet18", "--weights", "none", "--out", "x.npy", "--device", device];
        let call = Tl::new(args).arg(repository("data/samples/one.png")).cwd(lab.path(""));
        call.env("LD_LIBRARY_PATH", lab.path("").as_os_str()).run()
    };
    insta::assert_snapshot!(said(100, "cuda").expect(2).told(), @"error: the device cuda:0 was asked for, and there is no CUDA: the NVIDIA driver shows no device to this process; see what `nvidia-smi` says. Use cpu or auto; `tl doctor` says what was found");
    insta::assert_snapshot!(said(803, "cuda:1").expect(2).told(), @"error: the device cuda:1 was asked for, and there is no CUDA: the NVIDIA driver does not start (CUDA error 803); its library and its kernel module are of different versions: start the machine anew. Use cpu or auto; `tl doctor` says what was found");
    said(803, "auto")
        .expect(0)
        .says(&["note: there is an NVIDIA driver, and yet it computes on the CPU: the NVIDIA"]);
    let quiet = said(100, "auto").expect(0);
    assert!(!quiet.stderr.contains("NVIDIA"), "{}", quiet.stderr);
}
