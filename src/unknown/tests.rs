use tch::Tensor;

use super::*;

#[derive(Deserialize)]
struct Rows {
    features: Vec<Vec<f32>>,
    logits: Vec<Vec<f32>>,
}

/// A case of `tests/oracle/unknown.py`.
#[derive(Deserialize)]
struct Case {
    name: String,
    train: Vec<Vec<f32>>,
    labels: Vec<usize>,
    val: Rows,
    others: Rows,
    shares: Vec<f32>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../tests/fixtures/unknown/unknown.json")).unwrap()
}

fn tensor(rows: &[Vec<f32>]) -> Tensor {
    Tensor::from_slice(&rows.concat()).reshape([rows.len() as i64, -1])
}

impl Case {
    fn fit(&self) -> Option<Unknown> {
        let val = Reading { features: tensor(&self.val.features), logits: tensor(&self.val.logits) };
        fit(&tensor(&self.train), &self.labels, &val).unwrap()
    }
}

/// The reference has no rounding to 16 bits, which makes 0.0055 of the 0.000001 that is between the two without it.
#[test]
fn shares_are_those_of_whole_matrices() {
    for case in cases() {
        let known = case.fit().unwrap();
        let rows = case.others.features.iter().zip(&case.others.logits);
        let found: Vec<f32> = rows.map(|(features, logits)| known.share(features, logits)).collect();
        let worst = found.iter().zip(&case.shares).map(|(a, b)| (a - b).abs()).fold(0., f32::max);
        assert!(worst < 1e-2, "{}: {worst}\n{found:?}\n{:?}", case.name, case.shares);
    }
}

#[test]
fn what_is_kept_is_read_back_to_the_same_shares() {
    let case = &cases()[0];
    let known = case.fit().unwrap();
    let text = serde_json::to_string(&known).unwrap();
    let back: Unknown = serde_json::from_str(&text).unwrap();
    assert_eq!(back, known);
    assert_eq!((back.mistake(), back.width()), (None, 24));
    // 3 + 16 axes of 24 numbers, 3 classes along them, 16 numbers: two bytes each, in base64.
    assert!(text.len() < (19 * 24 + 3 * 19) * 2 * 4 / 3 + 16 * 25 + 400, "{}", text.len());
}

#[test]
fn adding_a_number_to_all_logits_or_a_longer_vector_changes_nothing() {
    let case = &cases()[0];
    let known = case.fit().unwrap();
    let (features, logits) = (&case.others.features[0], &case.others.logits[0]);
    let longer: Vec<f32> = features.iter().map(|value| value * 8.).collect();
    let raised: Vec<f32> = logits.iter().map(|logit| logit + 32.).collect();
    assert!((known.share(&longer, &raised) - known.share(features, logits)).abs() < 1e-5);
    let odd: Vec<f32> = features.iter().map(|_| f32::INFINITY).collect();
    assert!(known.share(&odd, logits).is_nan() && known.share(features, &[f32::NAN; 3]).is_nan());
    assert!(known.share(&[0.; 24], logits) > 0.9);
}

#[test]
fn nothing_is_told_from_too_little() {
    let mut case = cases().swap_remove(0);
    case.val.features.truncate(1);
    case.val.logits.truncate(1);
    assert!(case.fit().is_none(), "one validation image");
    case.val.features = vec![case.val.features[0].clone(); 5];
    case.val.logits = vec![case.val.logits[0].clone(); 5];
    assert!(case.fit().is_none(), "the same one five times");
    let mut case = cases().swap_remove(0);
    case.train[7][3] = f32::NAN;
    assert!(case.fit().is_none(), "a feature that is not finite");
    let mut case = cases().swap_remove(0);
    (case.train, case.labels) = (Vec::new(), Vec::new());
    let val = Reading { features: tensor(&case.val.features), logits: tensor(&case.val.logits) };
    assert!(fit(&Tensor::zeros([0, 24], tch::kind::FLOAT_CPU), &[], &val).unwrap().is_none());
}

#[test]
fn values_of_a_file_are_checked() {
    let known = cases()[0].fit().unwrap();
    let with = |key: &str, value: serde_json::Value| {
        let mut json = serde_json::to_value(&known).unwrap();
        json[key] = value;
        match serde_json::from_value::<Unknown>(json) {
            Ok(read) => read.mistake().unwrap_or_else(|| "none".into()),
            Err(error) => error.to_string(),
        }
    };
    let told = [
        ("axes", serde_json::json!("")),
        ("axes", serde_json::json!("AAA=")),
        ("axes", serde_json::json!("AAAA")),
        ("classes", serde_json::json!("")),
        ("damped", serde_json::json!(vec![0.5; 20])),
        ("damped", serde_json::json!([2.])),
        ("doubt", serde_json::json!({ "mean": 0., "deviation": 0. })),
        ("sum", serde_json::json!(-1.)),
        ("images", serde_json::json!(1)),
        ("images", serde_json::json!(u64::MAX)),
        ("width", serde_json::json!(0)),
        ("width", serde_json::json!(u64::MAX)),
    ]
    .map(|(key, value)| format!("{key}: {}", with(key, value)));
    insta::assert_snapshot!(told.join("\n"), @"
    axes: axes: expected rows of 24 finite numbers
    axes: axes: expected rows of 24 finite numbers
    axes: half a number at the end of base64
    classes: classes: expected rows of 19 finite numbers
    damped: damped: expected at most 19 numbers between 0 and 1
    damped: damped: expected at most 19 numbers between 0 and 1
    doubt: doubt: expected a finite mean and a positive deviation
    sum: sum: expected a positive number
    images: images: expected 2 to 1000000
    images: images: expected 2 to 1000000
    width: axes: expected rows of 0 finite numbers
    width: axes: expected rows of 18446744073709551615 finite numbers
    ");
}
