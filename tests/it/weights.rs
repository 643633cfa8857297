//! Weights through the program: files that do not fit, hostile ones, and downloads from servers of
//! the tests.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use half::{bf16, f16};
use tempfile::TempDir;
use transferkit::models::find;
use transferkit::weights::checkpoint::{Dtype, RawTensor, read_checkpoint};
use transferkit::weights::state_dict;
use transferkit::weights::write_tensors;

use crate::filled;
use crate::program::{Run, Tl, answer, answers, repository};

/// The makers of hostile files that the reader's own tests use.
#[allow(dead_code)]
#[path = "../../src/weights/checkpoint/tests/make.rs"]
mod make;

type State = Vec<(String, RawTensor)>;

const MODEL: &str = "shufflenet_v2_x0_5";
const FILE: &str = "shufflenetv2_x0.5-f707e7126e.pth";
const LETTERS: &str = "data/shufflenet_v2_x0_5-letters.safetensors";

/// The maximum time to refuse a file, even on a slow machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Address space for the program: libtorch, a network, and a file read three times over. In KiB.
const MEMORY: u32 = 4 << 20;

/// The state dict of [`MODEL`], filled from a hash.
fn state() -> State {
    static STATE: OnceLock<State> = OnceLock::new();
    STATE.get_or_init(|| state_dict(&filled::network(MODEL)).unwrap()).clone()
}

fn write(path: &Path, state: &State) {
    write_tensors(path, state, HashMap::new()).unwrap();
}

/// The tensor of this name.
fn tensor<'a>(state: &'a mut State, key: &str) -> &'a mut RawTensor {
    &mut state.iter_mut().find(|(name, _)| name == key).unwrap().1
}

/// Every float tensor of `state` converted to another type, by way of its bytes.
fn cast(state: &State, dtype: Dtype, one: impl Fn(f32) -> Vec<u8>) -> State {
    let cast = |tensor: &RawTensor| match tensor.dtype {
        Dtype::F32 => {
            let values = tensor.bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            RawTensor { dtype, shape: tensor.shape.clone(), bytes: values.flat_map(&one).collect() }
        }
        _ => tensor.clone(),
    };
    state.iter().map(|(key, tensor)| (key.clone(), cast(tensor))).collect()
}

/// `tl ARGS` with bounded memory and time.
fn bounded(args: &[&str], cwd: &Path) -> Run {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -v {MEMORY} && exec \"$@\""), "sh", env!("CARGO_BIN_EXE_tl")]);
    command.args(args).args(["--device", "cpu", "--threads", "1"]).current_dir(cwd);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > LIMIT {
            child.kill().unwrap();
            panic!("{args:?} has not ended");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap().into()
}

/// Logits of one image with weights from `file`.
fn extract(folder: &TempDir, file: &str) -> Run {
    let image = repository("data/samples/one.png");
    let args = ["extract", "--model", MODEL, "--weights", file, "--stage", "logits", "--out", "x.npy"];
    bounded(&[&args[..], &[image.to_str().unwrap()]].concat(), folder.path())
}

/// The logits for weights in `state`.
fn logits(state: &State) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("w.safetensors"), state);
    extract(&folder, "w.safetensors").expect(0);
    fs::read(folder.path().join("x.npy")).unwrap()
}

/// The message about weights in `state`, which must be refused.
#[track_caller]
fn refused(state: &State) -> Run {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("w.safetensors"), state);
    let run = extract(&folder, "w.safetensors").expect(1);
    assert!(run.stderr.starts_with("error: w.safetensors: "), "{}", run.stderr);
    assert!(!folder.path().join("x.npy").exists());
    run
}

#[test]
fn all_that_does_not_fit_is_said_at_once() {
    let mut state = state();
    state.retain(|(key, _)| !key.starts_with("stage4.3.branch2") || key.ends_with("num_batches_tracked"));
    for index in 0..6 {
        let extra = RawTensor { dtype: Dtype::F32, shape: vec![1], bytes: vec![0; 4] };
        state.push((format!("extra.{index}"), extra));
    }
    let bias = tensor(&mut state, "fc.bias");
    (bias.shape, bias.bytes) = (vec![1001], vec![0; 4004]);
    // A transposed weight has as many numbers: nothing may be reshaped in silence.
    tensor(&mut state, "fc.weight").shape.reverse();
    let scalar = tensor(&mut state, "conv1.1.weight");
    (scalar.shape, scalar.bytes) = (vec![], vec![0; 4]);
    insta::assert_snapshot!(refused(&state).told(), @"
    error: w.safetensors: does not fit shufflenet_v2_x0_5
      15 missing: `stage4.3.branch2.0.weight`, `stage4.3.branch2.1.weight`, `stage4.3.branch2.1.bias`, `stage4.3.branch2.1.running_mean`, `stage4.3.branch2.1.running_var`, and 10 more
      6 unexpected: `extra.0`, `extra.1`, `extra.2`, `extra.3`, `extra.4`, and 1 more
      3 of another shape or type: `conv1.1.weight` is [], expected [24], `fc.weight` is [1024, 1000], expected [1000, 1024], `fc.bias` is [1001], expected [1000]
    ");
}

#[test]
fn kinds_of_numbers_that_are_no_weights_are_named() {
    let mut state = state();
    tensor(&mut state, "fc.bias").dtype = Dtype::I32;
    insta::assert_snapshot!(refused(&state).told(), @"
    error: w.safetensors: does not fit shufflenet_v2_x0_5
      1 of another shape or type: `fc.bias` is int32, expected floating-point numbers
    ");
}

#[test]
fn values_that_are_not_finite_are_named() {
    let mut state = state();
    tensor(&mut state, "conv1.0.weight").bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    tensor(&mut state, "fc.bias").bytes[8..12].copy_from_slice(&f32::NEG_INFINITY.to_le_bytes());
    insta::assert_snapshot!(refused(&state).told(), @"error: w.safetensors: holds NaN or infinite values in `conv1.0.weight`, `fc.bias`: a training that diverged? Use another file");
    // A float64 may be finite where the float32 that it becomes is not.
    let wide = cast(&self::state(), Dtype::F64, |value| (f64::from(value) * 1e60).to_le_bytes().to_vec());
    insta::assert_snapshot!(refused(&wide).told(), @"error: w.safetensors: holds NaN or infinite values in `conv1.0.weight`, `conv1.1.weight`, `conv1.1.bias`, `conv1.1.running_mean`, `conv1.1.running_var`, and 277 more: a training that diverged? Use another file");
}

#[test]
fn another_models_file_is_recognised() {
    let other = state_dict(&filled::network("shufflenet_v2_x1_0")).unwrap();
    insta::assert_snapshot!(refused(&other).told(), @"
    error: w.safetensors: does not fit shufflenet_v2_x0_5
      266 of another shape or type: `stage2.0.branch1.2.weight` is [58, 24, 1, 1], expected [24, 24, 1, 1], `stage2.0.branch1.3.weight` is [58], expected [24], `stage2.0.branch1.3.bias` is [58], expected [24], `stage2.0.branch1.3.running_mean` is [58], expected [24], `stage2.0.branch1.3.running_var` is [58], expected [24], and 261 more
      the file is for shufflenet_v2_x1_0: use `model: shufflenet_v2_x1_0` (`--model shufflenet_v2_x1_0`)
    ");
}

#[test]
fn another_number_of_classes_is_recognised_and_replaced_by_training() {
    let folder = tempfile::tempdir().unwrap();
    // Without its metadata the file of the letters is anybody's, with 52 classes.
    let letters = read_checkpoint(&repository(LETTERS)).unwrap().tensors;
    write(&folder.path().join("bare.safetensors"), &letters);
    insta::assert_snapshot!(extract(&folder, "bare.safetensors").expect(1).told(), @"
    error: bare.safetensors: does not fit shufflenet_v2_x0_5
      2 of another shape or type: `fc.weight` is [52, 1024], expected [1000, 1024], `fc.bias` is [52], expected [1000]
      the file is for shufflenet_v2_x0_5 with 52 classes, not 1000, and does not name them: learn classes of your own from it (`weights:` in a recipe for `tl finetune`), or give a model file that `tl` wrote
    ");

    let mut rows = String::from("path,label\n");
    for digit in ["3", "7"] {
        let images = fs::read_dir(repository("data/digits/train").join(digit)).unwrap();
        for image in images.take(4) {
            rows.push_str(&format!("{},{digit}\n", image.unwrap().path().display()));
        }
    }
    fs::write(folder.path().join("data.csv"), rows).unwrap();
    let recipe = "model: shufflenet_v2_x0_5\nweights: bare.safetensors\npreprocess: {crop_size: 64}\n\
                  data: {train: data.csv, val: data.csv}\nstrategy: {method: linear}\ntrain: {c: 1}\n";
    fs::write(folder.path().join("recipe.yaml"), recipe).unwrap();
    bounded(&["finetune", "recipe.yaml", "--out", "run"], folder.path()).expect(0);
    let run = read_checkpoint(&folder.path().join("run/model.safetensors")).unwrap().tensors;
    for ((key, before), (other, after)) in letters.iter().zip(&run) {
        assert_eq!(key, other);
        assert_eq!(before == after, !key.starts_with("fc."), "{key}");
    }
}

#[test]
fn other_precisions_and_wrappers_become_the_same_float32() {
    let state = state();
    let expected = logits(&state);
    assert_eq!(logits(&cast(&state, Dtype::F64, |value| f64::from(value).to_le_bytes().to_vec())), expected);
    let modules: State = state.iter().map(|(key, value)| (format!("module.{key}"), value.clone())).collect();
    assert_eq!(logits(&modules), expected);
    // Before PyTorch 0.4.1 there were no counts; who casts a state dict whole casts them too.
    let counts = |key: &str| key.ends_with("num_batches_tracked");
    let without: State = state.iter().filter(|(key, _)| !counts(key)).cloned().collect();
    assert_eq!(logits(&without), expected);
    let mut half_counts = state.clone();
    for (_, count) in half_counts.iter_mut().filter(|(key, _)| counts(key)) {
        (count.dtype, count.bytes) = (Dtype::F16, f16::from_f32(7.).to_le_bytes().to_vec());
    }
    assert_eq!(logits(&half_counts), expected);

    let as_f32 = |value: f32| value.to_le_bytes().to_vec();
    let halves = cast(&state, Dtype::F16, |value| f16::from_f32(value).to_le_bytes().to_vec());
    let rounded = cast(&state, Dtype::F32, |value| as_f32(f16::from_f32(value).to_f32()));
    assert_eq!(logits(&halves), logits(&rounded));
    let brains = cast(&state, Dtype::BF16, |value| bf16::from_f32(value).to_le_bytes().to_vec());
    let rounded = cast(&state, Dtype::F32, |value| as_f32(bf16::from_f32(value).to_f32()));
    assert_eq!(logits(&brains), logits(&rounded));
}

/// The state dict as PyTorch zips it, under `model`, all tensors in one storage.
fn zipped(state: &State) -> Vec<u8> {
    let floats = || state.iter().filter(|(_, tensor)| tensor.dtype == Dtype::F32);
    let storage: Vec<u8> = floats().flat_map(|(_, tensor)| tensor.bytes.clone()).collect();
    let numel = (storage.len() / 4) as i64;
    let mut pickle = make::Pickler::new().op(b"}").text("model").op(b"}");
    let mut offset = 0;
    for (key, tensor) in floats() {
        let shape: Vec<i64> = tensor.shape.iter().map(|&side| side as i64).collect();
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis];
        }
        pickle = pickle.text(key).tensor(numel, offset, &shape, &strides).op(b"s");
        offset += (tensor.bytes.len() / 4) as i64;
    }
    make::zip(&[("w/data.pkl", &pickle.op(b"s").stop()), ("w/data/0", &storage)])
}

#[test]
fn a_nested_zip_loads_and_each_flipped_bit_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.pth");
    let mut bytes = zipped(&state());
    fs::write(&path, &bytes).unwrap();
    extract(&folder, "w.pth").expect(0);
    assert_eq!(fs::read(folder.path().join("x.npy")).unwrap(), logits(&state()));
    for part in 1..6 {
        let at = bytes.len() * part / 6;
        bytes[at] ^= 1 << part;
        fs::write(&path, &bytes).unwrap();
        let run = extract(&folder, "w.pth").expect(1);
        assert!(run.stderr.starts_with("error: w.pth: is damaged: "), "{}", run.stderr);
        bytes[at] ^= 1 << part;
    }
}

#[test]
fn files_that_are_no_weights_get_one_message() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("ran");
    let touch = format!("touch {}", marker.display());
    let attack = make::Pickler::new().global("posix", "system").text(&touch).op(b"\x85R").stop();
    let deep = |n: usize| [b"\x80\x02".to_vec(), b"]".repeat(n), b"a".repeat(n - 1), b".".to_vec()].concat();
    let deep_tuples = [b"\x80\x02)".to_vec(), b"\x85".repeat(3_000_000), b".".to_vec()].concat();
    let good = make::dict_of(9, 0, &[3, 3], &[3, 1]);
    let data = [0u8; 36];
    let header = |text: &str| [(text.len() as u64).to_le_bytes().to_vec(), text.into()].concat();
    let nested_json = header(&format!("{{\"a\":{}", "[".repeat(3_000_000)));
    let twice = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}    "#;
    let huge = r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}}    "#;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("page", b"<!DOCTYPE html><html><title>Sign in</title></html>".to_vec()),
        ("text", b"404: Not Found, or some such thing".to_vec()),
        ("zeros", vec![0; 5000]),
        ("attack", attack.clone()),
        ("zipped attack", make::zip(&[("a/data.pkl", &attack)])),
        ("deep", deep(3_000_000)),
        ("not as deep", deep(300_000)),
        ("deep tuples", make::zip(&[("a/data.pkl", &deep_tuples)])),
        ("marks", [b"\x80\x02".to_vec(), b"(".repeat(3_000_000)].concat()),
        ("twice in the zip", make::zip(&[("a/data.pkl", &good), ("a/data/0", &data), ("a/data/0", &data)])),
        ("beyond the storage", make::torch_zip(&make::dict_of(9, 0, &[1 << 20, 1 << 20], &[1 << 20, 1]))),
        ("stretched", make::torch_zip(&make::dict_of(9, 0, &[1 << 40], &[0]))),
        ("negative", make::torch_zip(&make::dict_of(9, -1, &[3], &[1]))),
        ("lying header", [u64::MAX.to_le_bytes().to_vec(), b"{}".to_vec()].concat()),
        ("long header", [(1u64 << 39).to_le_bytes().to_vec(), b"{}".to_vec()].concat()),
        ("nested JSON", nested_json),
        ("key twice", [header(twice), vec![0; 4]].concat()),
        ("huge shape", [header(huge), vec![0; 4]].concat()),
    ];
    let mut answers = String::new();
    for (what, bytes) in cases {
        fs::write(folder.path().join("w.pth"), bytes).unwrap();
        let start = Instant::now();
        let run = extract(&folder, "w.pth").expect(1);
        assert!(start.elapsed() < Duration::from_secs(30), "{what}: after {:?}", start.elapsed());
        answers += &answer(">", what, &run.told());
    }
    insta::assert_snapshot!(answers, @"
    > empty
    error: w.pth: is empty; download or copy it again

    > page
    error: w.pth: is a web page (HTML), not a weights file: the download was answered with an error or a log-in page; download it again

    > text
    error: w.pth: is a text file, not a weights file; expected PyTorch weights (.pth, .pt) or safetensors

    > zeros
    error: w.pth: holds zeros only: a download that did not finish, perhaps; download or copy it again

    > attack
    error: w.pth: asks to run `posix.system`: this is not a weights file, and may be an attack

    > zipped attack
    error: w.pth: asks to run `posix.system`: this is not a weights file, and may be an attack

    > deep
    error: w.pth: nests deeper or holds more objects than any weights file or data set (1048576 are the limit): it is damaged or hostile

    > not as deep
    error: w.pth: is a plain Python pickle, not a file of PyTorch; in Python: torch.save(model.state_dict(), ...)

    > deep tuples
    error: w.pth: nests deeper or holds more objects than any weights file or data set (1048576 are the limit): it is damaged or hostile

    > marks
    error: w.pth: nests deeper or holds more objects than any weights file or data set (1048576 are the limit): it is damaged or hostile

    > twice in the zip
    error: w.pth: is damaged: its entry `a/data/0` occurs twice; download or copy it again

    > beyond the storage
    error: w.pth: the tensor `a` reaches beyond its storage: the file is damaged or hostile

    > stretched
    error: w.pth: the tensor `a` makes the tensors larger than twice the file, which repeats its bytes: it is damaged or hostile, or holds expanded tensors (save their `.clone()`)

    > negative
    error: w.pth: the tensor `a` reaches beyond its storage: the file is damaged or hostile

    > lying header
    error: w.pth: is cut short, or no weights file at all (10 bytes); expected PyTorch weights (.pth, .pt) or safetensors; download or copy it again

    > long header
    error: w.pth: is damaged: it claims a header of 549755813888 bytes, which no model has; download or copy it again

    > nested JSON
    error: w.pth: is damaged: its header is not valid JSON (EOF while parsing a list at line 1 column 3000005); download or copy it again

    > key twice
    error: w.pth: holds the key `a` twice: it is damaged or hostile

    > huge shape
    error: w.pth: is damaged: the size of a tensor is beyond all limits; download or copy it again
    ");
    assert!(!marker.exists(), "the attack ran");
    assert!(!folder.path().join("x.npy").exists());
}

#[test]
fn truncated_files_are_refused_wherever_they_end() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["plain.zip.pth", "plain.legacy.pth", "views.tar.pth", "plain.safetensors"] {
        let whole = fs::read(repository("tests/fixtures/checkpoints").join(name)).unwrap();
        for part in 0..8 {
            let length = (whole.len() - 1) * part / 7;
            fs::write(folder.path().join("w.pth"), &whole[..length]).unwrap();
            let run = extract(&folder, "w.pth");
            assert_eq!(run.code, Some(1), "{name} cut to {length}: {}", run.stderr);
            assert!(run.stderr.starts_with("error: w.pth: "), "{name} cut to {length}: {}", run.stderr);
        }
    }
}

#[test]
fn a_file_that_was_read_with_doubts_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = repository("tests/fixtures/checkpoints/no-checksums.zip.pth");
    // It is no network's, but the doubt comes first.
    insta::assert_snapshot!(extract(&folder, file.to_str().unwrap()).expect(1).told(), @"
    warning: [REPO]/tests/fixtures/checkpoints/no-checksums.zip.pth: the file was saved without checksums (PyTorch's `compute_crc32` was off), so damage cannot be found
    error: [REPO]/tests/fixtures/checkpoints/no-checksums.zip.pth: does not fit shufflenet_v2_x0_5
      280 missing: `conv1.0.weight`, `conv1.1.weight`, `conv1.1.bias`, `conv1.1.running_mean`, `conv1.1.running_var`, and 275 more
      4 unexpected: `conv.weight`, `bn.weight`, `bn.running_var`, `bn.num_batches_tracked`
      2 of another shape or type: `fc.weight` is [2, 4], expected [1000, 1024], `fc.bias` is [2], expected [1000]
    ");
}

#[test]
fn a_models_metadata_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let letters = read_checkpoint(&repository(LETTERS)).unwrap();
    let card = &letters.metadata["tl"];
    let cases = [
        ("nothing", "{}".to_string()),
        ("newer", card.replace("\"format\":1", "\"format\":99")),
        ("no pixels", card.replace("\"crop_size\":64", "\"crop_size\":0")),
        ("too many pixels", card.replace("\"crop_size\":64", "\"crop_size\":999999999")),
        ("unknown network", card.replace(MODEL, "resnet9000")),
        ("another network", card.replace(MODEL, "resnet18")),
        ("a class less", card.replace("\"lower_a\",", "")),
        ("no classes", without_classes(card)),
    ];
    let mut answers = String::new();
    for (what, card) in cases {
        let metadata = HashMap::from([("tl".to_string(), card)]);
        write_tensors(&folder.path().join("m.safetensors"), &letters.tensors, metadata).unwrap();
        let image = repository("data/samples/one.png");
        let run = bounded(&["predict", "--model", "m.safetensors", image.to_str().unwrap()], folder.path());
        assert!(matches!(run.code, Some(1 | 2)), "{:?}: {}", run.code, run.stderr);
        answers += &answer(">", what, &run.told());
    }
    insta::assert_snapshot!(answers, @"
    > nothing
    error: m.safetensors: its `tl` metadata cannot be read: missing field `format` at line 1 column 2

    > newer
    error: m.safetensors: was written by a newer tl (format 99; this one reads up to 1): update tl

    > no pixels
    error: m.safetensors: its `tl` metadata is wrong: crop_size: expected 1 to 4096 pixels, found 0

    > too many pixels
    error: m.safetensors: its `tl` metadata is wrong: crop_size: expected 1 to 4096 pixels, found 999999999

    > unknown network
    error: m.safetensors is a `resnet9000`, which this version of tl does not know

    > another network
    error: m.safetensors: does not fit resnet18
      100 missing: `conv1.weight`, `bn1.weight`, `bn1.bias`, `bn1.running_mean`, `bn1.running_var`, and 95 more
      336 unexpected: `conv1.1.num_batches_tracked`, `conv5.1.num_batches_tracked`, `stage2.0.branch1.1.num_batches_tracked`, `stage2.0.branch1.3.num_batches_tracked`, `stage2.0.branch2.1.num_batches_tracked`, and 331 more
      1 of another shape or type: `fc.weight` is [52, 1024], expected [52, 512]
      the file is for shufflenet_v2_x0_5: use `model: shufflenet_v2_x0_5` (`--model shufflenet_v2_x0_5`)

    > a class less
    error: m.safetensors: does not fit shufflenet_v2_x0_5
      2 of another shape or type: `fc.weight` is [52, 1024], expected [51, 1024], `fc.bias` is [52], expected [51]
      the file is for shufflenet_v2_x0_5 with 52 classes, not 51, and does not name them: learn classes of your own from it (`weights:` in a recipe for `tl finetune`), or give a model file that `tl` wrote

    > no classes
    error: m.safetensors: its `tl` metadata is wrong: classes: expected at least one name, found none
    ");
}

fn without_classes(card: &str) -> String {
    let mut card: serde_json::Value = serde_json::from_str(card).unwrap();
    card["classes"] = serde_json::json!([]);
    card.to_string()
}

#[test]
fn misspelt_weights_get_the_nearest_or_the_place() {
    let predict = |model: &str, weights: &str| {
        Tl::new(["predict", "--model", model, "--weights", weights, "data/samples"])
            .cwd(repository(""))
            .run()
            .expect(2)
    };
    insta::assert_snapshot!(predict("resnet50", "IMAGENET_V2").told(), @"error: resnet50 has no weights named `IMAGENET_V2`; did you mean `IMAGENET1K_V2`? It has `IMAGENET1K_V1` and `IMAGENET1K_V2`, of which `IMAGENET1K_V2` is DEFAULT; a file needs an ending such as .pth or a folder before it");
    insta::assert_snapshot!(predict("resnet18", "xyz").told(), @"error: resnet18 has no weights named `xyz`. It has `IMAGENET1K_V1`; a file needs an ending such as .pth or a folder before it");
    insta::assert_snapshot!(predict("resnet18", "none.pth").told(), @"error: there is no weights file at none.pth");
    insta::assert_snapshot!(predict("resnet18", "data/digits").told(), @"error: the weights data/digits are a folder without model.safetensors");
    insta::assert_snapshot!(predict("resnet18", "ResNet50_Weights.IMAGENET1K_V1").told(), @"error: `ResNet50_Weights.IMAGENET1K_V1` are the weights of resnet50, not of resnet18");
    insta::assert_snapshot!(predict(LETTERS, "IMAGENET1K_V1").told(), @"error: data/shufflenet_v2_x0_5-letters.safetensors brings its own weights: leave the weights out");
}

/// `tl predict` of one image with [`MODEL`]'s published weights, from `base` into its own cache.
fn download(cache: &Path, base: &str) -> Run {
    Tl::new(["predict", "--model", MODEL, "--weights", "IMAGENET1K_V1", "--device", "cpu"])
        .arg(repository("data/samples/one.png"))
        .env("TORCH_HOME", cache)
        .env("TL_WEIGHTS_URL", base)
        .run()
}

/// A loopback address without a listener.
fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/weights", listener.local_addr().unwrap())
}

/// A server on the loopback address that answers every request with `body`, or its beginning.
fn serve(body: Vec<u8>, length: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    base
}

fn checkpoints(cache: &Path) -> PathBuf {
    cache.join("hub/checkpoints")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn offline_the_address_and_the_place_are_named() {
    let cache = tempfile::tempdir().unwrap();
    let base = closed_port();
    insta::assert_snapshot!(download(cache.path(), &base).expect(1).told(), @"
    shufflenetv2_x0.5-f707e7126e.pth: the mirror 127.0.0.1:[PORT] (TL_WEIGHTS_URL) refuses the connection; trying again
    error: cannot download shufflenetv2_x0.5-f707e7126e.pth: the mirror 127.0.0.1:[PORT] (TL_WEIGHTS_URL) refuses the connection; fetch http://127.0.0.1:[PORT]/weights/shufflenetv2_x0.5-f707e7126e.pth by other means and put it at [TMP]/hub/checkpoints/shufflenetv2_x0.5-f707e7126e.pth, or name another mirror in TL_WEIGHTS_URL
    ");
    assert!(names(&checkpoints(cache.path())).is_empty());
}

#[test]
fn a_proxy_that_is_not_there_is_named() {
    let cache = tempfile::tempdir().unwrap();
    let mut call = Tl::new(["predict", "--model", MODEL, "--weights", "IMAGENET1K_V1", "--device", "cpu"])
        .arg(repository("data/samples/one.png"))
        .env("TORCH_HOME", cache.path())
        .env("https_proxy", "http://me:secret@127.0.0.1:1");
    for name in ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "NO_PROXY", "no_proxy"] {
        call = call.env(name, "");
    }
    let run = call.run().expect(1);
    insta::assert_snapshot!(run.told(), @"
    shufflenetv2_x0.5-f707e7126e.pth: the proxy 127.0.0.1:[PORT] (https_proxy) refuses the connection; mend the variable, or unset it if there is no proxy; trying again
    error: cannot download shufflenetv2_x0.5-f707e7126e.pth: the proxy 127.0.0.1:[PORT] (https_proxy) refuses the connection; mend the variable, or unset it if there is no proxy; fetch https://download.pytorch.org/models/shufflenetv2_x0.5-f707e7126e.pth by other means and put it at [TMP]/hub/checkpoints/shufflenetv2_x0.5-f707e7126e.pth, or name a mirror in TL_WEIGHTS_URL
    ");
    assert!(!run.stderr.contains("secret"), "{}", run.stderr);
}

#[test]
fn a_wrong_file_is_refused_and_leaves_nothing() {
    let cache = tempfile::tempdir().unwrap();
    let base = serve(vec![1; 100_000], 100_000);
    insta::assert_snapshot!(download(cache.path(), &base).expect(1).told(), @"
    downloading shufflenetv2_x0.5-f707e7126e.pth (100.00 kB) to [TMP]/hub/checkpoints
    error: http://127.0.0.1:[PORT]/shufflenetv2_x0.5-f707e7126e.pth is not the file that its name promises: expected a sha256 that starts with f707e7126e, found 7afaec9db2 (100000 bytes, deleted); a proxy, a login page or an incomplete mirror may have answered in its place: fetch the file by other means and put it at [TMP]/hub/checkpoints/shufflenetv2_x0.5-f707e7126e.pth
    ");
    assert!(names(&checkpoints(cache.path())).is_empty());
}

#[test]
fn a_damaged_file_in_the_cache_is_noticed() {
    let cache = tempfile::tempdir().unwrap();
    fs::create_dir_all(checkpoints(cache.path())).unwrap();
    fs::write(checkpoints(cache.path()).join(FILE), "damaged").unwrap();
    insta::assert_snapshot!(download(cache.path(), &closed_port()).expect(1).told(), @"
    [TMP]/hub/checkpoints/shufflenetv2_x0.5-f707e7126e.pth: damaged (its sha256 starts with 41f0c27c00, not with f707e7126e); downloading it again
    shufflenetv2_x0.5-f707e7126e.pth: the mirror 127.0.0.1:[PORT] (TL_WEIGHTS_URL) refuses the connection; trying again
    error: cannot download shufflenetv2_x0.5-f707e7126e.pth: the mirror 127.0.0.1:[PORT] (TL_WEIGHTS_URL) refuses the connection; fetch http://127.0.0.1:[PORT]/weights/shufflenetv2_x0.5-f707e7126e.pth by other means and put it at [TMP]/hub/checkpoints/shufflenetv2_x0.5-f707e7126e.pth, or name another mirror in TL_WEIGHTS_URL; the file that is there now is damaged
    ");
    assert_eq!(names(&checkpoints(cache.path())), [FILE]);
}

#[test]
fn a_mirror_must_be_an_address() {
    let cache = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(download(cache.path(), "example.org/weights").expect(2).told(), @"error: TL_WEIGHTS_URL is 'example.org/weights': expected an address that starts with https://, http:// or file://");
}

#[test]
fn the_models_table_knows_what_is_cached() {
    let cache = tempfile::tempdir().unwrap();
    let row = || {
        let table = Tl::new(["models", MODEL]).env("TORCH_HOME", cache.path()).run().expect(0).stdout;
        table.lines().find(|line| line.starts_with(MODEL)).unwrap().to_string()
    };
    assert!(row().contains(" no "), "{}", row());
    fs::create_dir_all(checkpoints(cache.path())).unwrap();
    fs::write(checkpoints(cache.path()).join(find(MODEL).unwrap().weights()[0].file), "").unwrap();
    assert!(row().contains(" yes "), "{}", row());
}

/// torchvision's VGG16 for object detectors: its fully connected layers hold NaN.
#[test]
fn weights_without_a_classifier_serve_features_only() {
    let images = crate::program::repository("data/samples");
    let images = images.to_str().unwrap();
    let tag = "VGG16_Weights.IMAGENET1K_FEATURES";
    let run =
        crate::program::tl(&["predict", "--model", "vgg16", "--weights", "IMAGENET1K_FEATURES", images])
            .expect(2);
    insta::assert_snapshot!(run.told(), @"error: VGG16_Weights.IMAGENET1K_FEATURES (vgg16_features-amdegroot-88682ab5.pth) have no classifier (torchvision's file holds NaN there): they serve `tl extract` with a `--stage` before it");
    let stages = ["features", "logits", "fc6"].map(|stage| ["--stage", stage]);
    let answers = answers(&stages, |stage| {
        let call = Tl::new(["extract", "--model", "vgg16", "--weights", tag, "--out", "x.npy", images]);
        call.args(stage).run().expect(2)
    });
    insta::assert_snapshot!(answers, @"
    $ --stage features
    error: VGG16_Weights.IMAGENET1K_FEATURES (vgg16_features-amdegroot-88682ab5.pth) have no classifier (torchvision's file holds NaN there): they serve `tl extract` with a `--stage` before it

    $ --stage logits
    error: VGG16_Weights.IMAGENET1K_FEATURES (vgg16_features-amdegroot-88682ab5.pth) have no classifier (torchvision's file holds NaN there): they serve `tl extract` with a `--stage` before it

    $ --stage fc6
    error: VGG16_Weights.IMAGENET1K_FEATURES (vgg16_features-amdegroot-88682ab5.pth) have no classifier (torchvision's file holds NaN there): they serve `tl extract` with a `--stage` before it
    ");
    // Before the classifier they are wanted: the next thing is to fetch them.
    let cache = tempfile::tempdir().unwrap();
    let run = Tl::new([
        "extract",
        "--model",
        "vgg16",
        "--weights",
        tag,
        "--stage",
        "block5",
        "--out",
        "x.npy",
        images,
    ])
    .cwd(cache.path())
    .env("TORCH_HOME", cache.path())
    .env("TL_WEIGHTS_URL", closed_port())
    .run()
    .expect(1);
    insta::assert_snapshot!(run.told(), @"
    vgg16_features-amdegroot-88682ab5.pth: the mirror 127.0.0.1:[PORT] (TL_WEIGHTS_URL) refuses the connection; trying again
    error: cannot download vgg16_features-amdegroot-88682ab5.pth: the mirror 127.0.0.1:[PORT] (TL_WEIGHTS_URL) refuses the connection; fetch http://127.0.0.1:[PORT]/weights/vgg16_features-amdegroot-88682ab5.pth by other means and put it at [TMP]/hub/checkpoints/vgg16_features-amdegroot-88682ab5.pth, or name another mirror in TL_WEIGHTS_URL
    ");
}

/// The shapes are those of `torchvision.models.mnasnet0_5` after loading a state dict whose
/// `_metadata` says version 1.
#[test]
fn a_file_of_the_first_mnasnet_is_recognised() {
    let shapes: [(&str, &[usize]); 7] = [
        ("layers.0.weight", &[32, 3, 3, 3]),
        ("layers.1.weight", &[32]),
        ("layers.3.weight", &[32, 1, 3, 3]),
        ("layers.4.weight", &[32]),
        ("layers.6.weight", &[16, 32, 1, 1]),
        ("layers.7.weight", &[16]),
        ("layers.8.0.layers.0.weight", &[48, 16, 1, 1]),
    ];
    let advice = "the file is of version 1 of torchvision's MNASNet";
    for (name, older) in [("mnasnet0_5", true), ("mnasnet1_0", false)] {
        let mut state = state_dict(&filled::network(name)).unwrap();
        for (key, shape) in shapes {
            let tensor = tensor(&mut state, key);
            tensor.shape = shape.to_vec();
            tensor.bytes = vec![0; 4 * shape.iter().product::<usize>()];
        }
        // Something is wrong with the other one too, but not its age.
        tensor(&mut state, "layers.7.bias").shape = vec![0];
        tensor(&mut state, "layers.7.bias").bytes.clear();
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("w.safetensors"), &state);
        let image = repository("data/samples/one.png");
        let args = ["extract", "--model", name, "--weights", "w.safetensors", "--out", "x.npy"];
        let run = bounded(&[&args[..], &[image.to_str().unwrap()]].concat(), folder.path()).expect(1);
        assert_eq!(run.stderr.contains(advice), older, "{}", run.stderr);
    }
}

#[test]
fn older_keys_are_those_of_today() {
    let densenet = transferkit::models::find("densenet121").unwrap();
    let network =
        transferkit::models::Network::new(densenet, 10, tch::Device::Cpu, transferkit::models::Fill::Shapes)
            .unwrap();
    let keys = transferkit::models::Keys::of(densenet).unwrap();
    let mut renamed = 0;
    for var in network.vars() {
        let old = ["norm1", "norm2", "conv1", "conv2"].iter().fold(var.key.clone(), |key, new| {
            let old = format!("{}.{}", &new[..4], &new[4..]);
            if key.contains("denselayer") { key.replace(new, &old) } else { key }
        });
        renamed += usize::from(old != var.key);
        assert_eq!(keys.current(&old), var.key);
        assert_eq!(keys.current(&var.key), var.key);
    }
    assert_eq!(renamed, 58 * (2 * 5 + 2), "58 layers of two normalisations and two convolutions");
}
