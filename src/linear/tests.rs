//! Against scikit-learn's results (`tests/oracle/linear.py`), and the edge cases.

use std::cell::Cell;

use serde_json::Value;

use super::*;

/// The oracle's hash: splitmix64, top 24 bits, in [-0.5, 0.5).
fn uniform(stream: u64, index: u64) -> f64 {
    let z = stream.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = z.wrapping_add((index + 1).wrapping_mul(0xD1B5_4A32_D192_ED03));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let z = z ^ (z >> 31);
    (z >> 40) as f64 / f64::from(1 << 24) - 0.5
}

/// The oracle's features, in its order of operations.
fn made(stream: u64, images: u64, features: u64, classes: u64) -> (Tensor, Tensor) {
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for i in 0..images {
        let label = i % classes;
        y.push(label as i64);
        for j in 0..features {
            let mut value = uniform(stream, i * features + j);
            value += 0.5 * uniform(stream + 1, label * features + j);
            value += 2.0 * uniform(stream + 2, i) * uniform(stream + 3, j);
            let value = (value + 0.25 * (j % 3) as f64) * (1 + j % 7) as f64;
            x.push(if j == 1 { 0.7 } else { value as f32 });
        }
    }
    (Tensor::from_slice(&x).view([images as i64, features as i64]), Tensor::from_slice(&y))
}

fn config(c: Option<f64>) -> LinearConfig {
    LinearConfig {
        c,
        blocks: Vec::new(),
        folds: 5,
        seed: 3,
        class_weights: None,
        intercept: true,
        compare: false,
        held_out: false,
    }
}

fn run(x: &Tensor, y: &Tensor, classes: usize, config: &LinearConfig) -> Result<LinearFit> {
    Ok(fit(x, y, classes, config, &|| false, &mut |_| ())?.expect("nothing stopped it"))
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.to_kind(Kind::Double).flatten(0, -1)).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// In scikit-learn's shape: one row, of differences, for two classes.
fn as_scikit_learn(tensor: &Tensor) -> Vec<f64> {
    if tensor.size()[0] == 2 { values(&(tensor.get(1) - tensor.get(0))) } else { values(tensor) }
}

#[test]
fn equals_scikit_learn() {
    let path = format!("{}/tests/fixtures/linear/logistic.json", env!("CARGO_MANIFEST_DIR"));
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for case in cases.as_array().unwrap() {
        let whole = |key: &str| case[key].as_u64().unwrap();
        let (x, y) = made(whole("stream"), whole("images"), whole("features"), whole("classes"));
        for expected in case["fits"].as_array().unwrap() {
            let config = LinearConfig {
                class_weights: case.get("class_weights").map(numbers),
                blocks: case
                    .get("blocks")
                    .map(numbers)
                    .unwrap_or_default()
                    .into_iter()
                    .map(|w| w as i64)
                    .collect(),
                intercept: case.get("intercept").is_none(),
                ..config(expected["c"].as_f64())
            };
            let fit = run(&x, &y, whole("classes") as usize, &config).unwrap();
            let what = format!("{} at C = {}", case["name"], expected["c"]);
            assert!(fit.converged, "{what}");
            let off = largest_difference(&as_scikit_learn(&fit.scaled_weight), &numbers(&expected["coef"]));
            assert!(off < 1e-5, "{what}: a coefficient is off by {off}");
            let off =
                largest_difference(&as_scikit_learn(&fit.scaled_bias), &numbers(&expected["intercept"]));
            assert!(off < 1e-5, "{what}: an intercept is off by {off}");

            // The head that goes into the network, on the features as they come.
            let logits = x.matmul(&fit.weight.tr()) + &fit.bias;
            assert_eq!(values(&logits.argmax(1, false)), numbers(&expected["predictions"]), "{what}");
            let chances = values(&logits.get(0).softmax(0, Kind::Double));
            let off = largest_difference(&chances, &numbers(&expected["first_probabilities"]));
            assert!(off < 1e-4, "{what}: a probability is off by {off}");
        }
    }
}

#[test]
fn cross_validation_rows_are_those_of_separate_tight_fits() {
    let (x, y) = made(70, 100, 30, 4);
    let _threads = Threads::for_work(x.size(), 4, 5);
    let labels: Vec<i64> = Vec::try_from(&y).unwrap();
    let (x, _) = scale::scale(&x, &[x.size()[1]], true).unwrap();
    let (x, _) = Basis::rotate(x, &|| false).unwrap().unwrap();
    let fold_of = cross_validation::stratified_folds(&labels, 4, 5, 1);
    let image_weights: Vec<f64> = labels.iter().map(|&label| 1.0 + label as f64).collect();
    let (weights, intercept) = (&image_weights, true);
    let images = FoldImages { x: &x, labels: &labels, classes: 4, weights, intercept, held_out: true };
    let choice =
        cross_validation::choose(&images, std::slice::from_ref(&fold_of), 5, None, &|| false, &mut |_| ())
            .unwrap()
            .unwrap();
    let held_out = choice.held_out.unwrap();
    let known: Vec<i64> = held_out.images.iter().map(|&image| labels[image]).collect();
    let right = held_out.logits.argmax(1, false).eq_tensor(&Tensor::from_slice(&known)).mean(Kind::Double);
    let chosen = choice.rows.iter().find(|row| row.c == choice.c).unwrap();
    assert_eq!(held_out.images.len(), 100);
    assert!((right.double_value(&[]) - chosen.accuracy).abs() < 1e-9, "{chosen:?}: {right}");
    for row in choice.rows.iter().step_by(3) {
        let (mut logits, mut truths) = (Vec::<Tensor>::new(), Vec::<i64>::new());
        for fold in 0..5 {
            // The images in fold order by hand: learnt from first, then held out.
            let (held_out, learnt): (Vec<usize>, Vec<usize>) =
                (0..100).partition(|&i| fold_of[i] == Some(fold));
            let order: Vec<usize> = learnt.iter().chain(&held_out).copied().collect();
            let index: Vec<i64> = order.iter().map(|&i| i as i64).collect();
            let sorted = x.index_select(0, &Tensor::from_slice(&index));
            let sorted_labels: Vec<i64> = order.iter().map(|&i| labels[i]).collect();
            let mut weights: Vec<f64> = order.iter().map(|&i| image_weights[i]).collect();
            weights[learnt.len()..].fill(0.0);
            let total: f64 = weights.iter().sum();
            let problem = Problems::new(sorted, &sorted_labels, 4, &[weights], true).unwrap();
            let start = vec![0.0; problem.parameters()];
            let penalties = [penalty(row.c, total, 4)];
            let found = solve::minimise(&problem, &[start], &penalties, TIGHT, &|| false).unwrap().unwrap();
            logits.push(problem.logits(&found[0].point, learnt.len(), held_out.len()).unwrap());
            truths.extend(&sorted_labels[learnt.len()..]);
        }
        let (logits, truths) = (Tensor::cat(&logits, 0), Tensor::from_slice(&truths));
        let right = logits.argmax(1, false).eq_tensor(&truths).mean(Kind::Double).double_value(&[]);
        let (_, loss) = temper(&logits, &truths, 1.).unwrap();
        assert!((row.accuracy - right).abs() < 0.0101, "{row:?}: {right} right");
        assert!((row.log_loss / loss - 1.0).abs() < 1e-2, "{row:?}: {loss}");
    }
}

/// Where the gradient is zero the weights are `C · Σᵢ (yᵢ - pᵢ) xᵢ`; this many classes share a
/// preconditioner.
#[test]
fn many_classes_are_at_the_minimum() {
    let (x, y) = made(160, 240, 20, 60);
    for c in [1e-3, 1.0, 100.0] {
        let fit = run(&x, &y, 60, &config(Some(c))).unwrap();
        assert!(fit.converged, "C = {c}");
        let (x, _) = scale::scale(&x, &[x.size()[1]], true).unwrap();
        let logits = x.matmul(&fit.scaled_weight.tr()) + &fit.scaled_bias;
        let errors = y.one_hot(60) - logits.softmax(1, Kind::Double);
        let off = largest_difference(&values(&fit.scaled_weight), &values(&(errors.tr().matmul(&x) * c)));
        let largest = fit.scaled_weight.abs().max().double_value(&[]);
        assert!(off < 1e-6 * largest, "C = {c}: off by {off} of {largest}");
        assert!(
            errors.sum_dim_intlist(0, false, Kind::Double).abs().max().double_value(&[]) < 1e-6,
            "C = {c}"
        );
    }
}

#[test]
fn separable_classes_converge_at_a_weak_penalty() {
    let (x, y) = made(170, 400, 60, 5);
    let y_columns = y.one_hot(5).to_kind(Kind::Float) * 4.0;
    let x = Tensor::cat(&[x, y_columns], 1);
    for c in [1e3, 1e4, 1e5] {
        assert!(run(&x, &y, 5, &config(Some(c))).unwrap().converged, "C = {c}");
    }
}

#[test]
fn chooses_the_strongest_penalty_of_those_with_the_lowest_log_loss() {
    // Every fifth label is wrong, so that weak regularisation must fail.
    let (x, y) = made(80, 120, 40, 3);
    let wrong: Vec<i64> = (0..120).map(|i| i64::from(i % 5 == 0)).collect();
    let y = (y + Tensor::from_slice(&wrong)).remainder(3);
    let fit = run(&x, &y, 3, &config(None)).unwrap();
    let lowest = fit.cv.iter().map(|row| row.log_loss).fold(f64::INFINITY, f64::min);
    let best = fit.cv.iter().find(|row| row.log_loss < lowest + 1e-3).unwrap();
    assert_eq!(fit.c, best.c);
    assert_eq!(fit.folds, 5);
    assert!(fit.note.is_none() && fit.converged);
    assert!(fit.cv.is_sorted_by(|a, b| a.c < b.c), "{:?}", fit.cv);
    // The refit equals a fit at that C.
    let fixed = run(&x, &y, 3, &config(Some(best.c))).unwrap();
    assert!(largest_difference(&values(&fit.scaled_weight), &values(&fixed.scaled_weight)) < 1e-6);
}

#[test]
fn the_values_of_c_have_no_end() {
    // Separable without a doubt: the weaker the penalty, the lower the log loss, until nothing is
    // left to lower.
    let (x, y) = made(85, 60, 8, 3);
    let sure = Tensor::cat(&[x * 1e-3, y.one_hot(3).to_kind(Kind::Float)], 1);
    let fit = run(&sure, &y, 3, &config(None)).unwrap();
    let chosen = fit.cv.iter().find(|row| row.c == fit.c).unwrap();
    assert!(chosen.log_loss < 0.02 && fit.c >= 10., "{:?}", fit.cv);
}

#[test]
fn few_images_are_cut_into_folds_several_times() {
    let (x, y) = made(87, 20, 12, 4);
    let fit = run(&x, &y, 4, &LinearConfig { held_out: true, ..config(None) }).unwrap();
    let held_out = fit.held_out.unwrap();
    assert_eq!((held_out.images.len(), held_out.logits.size()), (100, vec![100, 4]));
    let times = |image| held_out.images.iter().filter(|&&it| it == image).count();
    assert!((0..20).all(|image| times(image) == 5));
    let known: Vec<i64> = held_out.images.iter().map(|&image| image as i64 % 4).collect();
    let right = held_out.logits.argmax(1, false).eq_tensor(&Tensor::from_slice(&known)).mean(Kind::Double);
    let chosen = fit.cv.iter().find(|row| row.c == fit.c).unwrap();
    assert!((right.double_value(&[]) - chosen.accuracy).abs() < 1e-9);
}

#[test]
fn equal_inputs_give_equal_bits_and_another_seed_other_folds() {
    let (x, y) = made(90, 60, 30, 3);
    let (one, two) = (run(&x, &y, 3, &config(None)).unwrap(), run(&x, &y, 3, &config(None)).unwrap());
    assert_eq!((&one.weight, &one.bias, &one.cv), (&two.weight, &two.bias, &two.cv));
    let other = run(&x, &y, 3, &LinearConfig { seed: 4, ..config(None) }).unwrap();
    assert_ne!(one.cv, other.cv);
}

#[test]
fn classes_smaller_than_the_folds_are_borne() {
    let (x, _) = made(100, 12, 8, 3);
    // Eight, three and one.
    let y = Tensor::from_slice(&[0i64, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2]);
    let fit = run(&x, &y, 3, &config(None)).unwrap();
    assert!(fit.converged && fit.folds == 5 && !fit.cv.is_empty());

    let y = Tensor::from_slice(&[0i64, 0, 1, 1, 2, 2]);
    assert_eq!(run(&x.narrow(0, 0, 6), &y, 3, &config(None)).unwrap().folds, 2);
}

#[test]
fn one_image_a_class_takes_c_100_and_says_so() {
    let (x, y) = made(110, 4, 8, 4);
    let fit = run(&x, &y, 4, &config(None)).unwrap();
    assert_eq!((fit.c, fit.folds, fit.cv.len()), (100.0, 0, 0));
    insta::assert_snapshot!(fit.note.unwrap(), @"no class has two images, so that none can be held out to choose the L2 strength: C = 100");
    let logits = x.matmul(&fit.weight.tr()) + &fit.bias;
    assert_eq!(logits.argmax(1, false), y);
    // With a given C too, whether there is anything to compare or not.
    for compare in [false, true] {
        let fit = run(&x, &y, 4, &LinearConfig { compare, ..config(Some(2.)) }).unwrap();
        let note = fit.note.unwrap();
        assert_eq!(note, "no class has two images, so that none can be held out: C = 2, as given");
    }
}

#[test]
fn constant_tiny_huge_and_copied_features_are_borne() {
    let (x, y) = made(120, 40, 10, 2);
    let n = [40, 1];
    let cpu = (Kind::Float, Device::Cpu);
    let x = Tensor::cat(
        &[
            x.shallow_clone(),
            x.narrow(1, 2, 3),
            Tensor::full(n, 1e30, cpu),
            Tensor::zeros(n, cpu),
            x.narrow(1, 3, 1) * 1e-37,
            x.narrow(1, 4, 1) * 1e37,
            x.narrow(1, 5, 1) * 1e-3 + 1000.0,
        ],
        1,
    );
    for c in [Some(1.0), Some(1e8), None] {
        let fit = run(&x, &y, 2, &config(c)).unwrap();
        assert!(fit.converged, "C = {c:?}");
        assert!(first_non_finite_row(&fit.weight).unwrap().is_none(), "C = {c:?}");
        assert_eq!(values(&fit.scaled_weight.narrow(1, 13, 3)), [0.0; 6], "constant features, C = {c:?}");
    }
    // Nothing to learn from: the classes' shares remain.
    let fit =
        run(&Tensor::ones([3, 5], cpu), &Tensor::from_slice(&[0i64, 0, 1]), 2, &config(Some(1.0))).unwrap();
    let chances = values(&fit.bias.softmax(0, Kind::Double));
    assert!((chances[0] - 2.0 / 3.0).abs() < 1e-6, "{chances:?}");
}

#[test]
fn stops_when_told() {
    let (x, y) = made(130, 60, 30, 3);
    for stop_at in [0, 1, 40, 100] {
        let asked = Cell::new(0);
        let should_stop = || {
            asked.set(asked.get() + 1);
            asked.get() > stop_at
        };
        let stopped = fit(&x, &y, 3, &config(None), &should_stop, &mut |_| ()).unwrap().is_none();
        assert!(stopped, "asked {} times, stop at {stop_at}", asked.get());
        assert_eq!(asked.get(), stop_at + 1, "it went on after it was told to stop");
    }
}

#[test]
fn reports_its_progress() {
    let (x, y) = made(140, 60, 30, 3);
    let mut seen = Vec::new();
    fit(&x, &y, 3, &config(None), &|| false, &mut |progress| seen.push(progress)).unwrap().unwrap();
    assert_eq!(seen[0], LinearProgress::CrossValidation { tried: 0 });
    assert_eq!(*seen.last().unwrap(), LinearProgress::Refit);
}

#[test]
fn refuses_what_cannot_be_fitted() {
    let (x, y) = made(150, 12, 8, 3);
    let refusal = |x: &Tensor, y: &Tensor, classes, config: &LinearConfig| {
        fit(x, y, classes, config, &|| false, &mut |_| ()).unwrap_err().to_string()
    };
    let assert_says = |message: String, words: &str| assert!(message.contains(words), "{message}");
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let broken = x.copy();
        let _ = broken.get(7).get(3).fill_(f64::from(bad));
        assert_says(refusal(&broken, &y, 3, &config(None)), "image 7");
        assert_eq!(first_non_finite_row(&broken).unwrap(), Some(7));
    }
    assert_eq!(first_non_finite_row(&x).unwrap(), None);
    assert_says(refusal(&x.flatten(0, -1), &y, 3, &config(None)), "two dimensions");
    assert_says(refusal(&x.to_kind(Kind::Double), &y, 3, &config(None)), "float32");
    assert_says(refusal(&x.narrow(0, 0, 0), &y, 3, &config(None)), "float32 features, found [0, 8]");
    assert_says(refusal(&x, &y.narrow(0, 0, 5), 3, &config(None)), "12 int64 labels, found [5]");
    assert_says(refusal(&x, &y, 2, &config(None)), "a label is 2, expected 0 to 1");
    assert_says(refusal(&x, &(&y - 1), 3, &config(None)), "a label is -1");
    assert_says(refusal(&x, &y, 4, &config(None)), "class 3 (counted from 0) has no image");
    assert_says(refusal(&x, &y.zeros_like(), 1, &config(None)), "at least two classes");
    assert_says(refusal(&x, &y, 3, &config(Some(0.0))), "positive number, found 0");
    assert_says(refusal(&x, &y, 3, &config(Some(f64::NAN))), "positive number, found NaN");
    assert_says(refusal(&x, &y, 3, &LinearConfig { folds: 1, ..config(None) }), "at least 2 folds");
    for weights in [vec![1.0, 1.0], vec![1.0, 0.0, 1.0], vec![1.0, 1.0, f64::NAN]] {
        let config = LinearConfig { class_weights: Some(weights), ..config(None) };
        assert_says(refusal(&x, &y, 3, &config), "3 positive class weights");
    }
}
