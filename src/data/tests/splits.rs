//! Validation images drawn from the training images.

use super::*;

fn numbered(counts: &[usize]) -> Dataset {
    let mut dataset = Dataset::default();
    for (label, &count) in counts.iter().enumerate() {
        dataset.classes.push(format!("c{label}"));
        for i in 0..count {
            let name = format!("c{label}/{i}.jpg");
            dataset.samples.push(Sample { path: name.clone().into(), name, label, record: None });
        }
    }
    dataset
}

/// No image is a copy of another.
fn alone(dataset: &Dataset) -> Vec<usize> {
    (0..dataset.samples.len()).collect()
}

#[test]
fn a_split_keeps_copies_on_one_side() {
    // Images 0 to 5 of the first class are three pairs; the second class is one picture; 13 is a
    // copy of 12 in another class.
    let dataset = numbered(&[10, 2, 3, 2]);
    let contents = [0, 0, 2, 2, 4, 4, 6, 7, 8, 9, 10, 10, 12, 13, 14, 12, 16];
    for seed in 0..200 {
        let Split { train, val, notes } = split(&dataset, &contents, 0.2, seed);
        let of = |indices: &[usize]| indices.iter().map(|&i| contents[i]).collect::<Vec<_>>();
        assert!(of(&val).iter().all(|content| !of(&train).contains(content)), "{val:?}");
        let of_class = |label: usize| val.iter().filter(|&&i| dataset.samples[i].label == label).count();
        assert_eq!([of_class(0), of_class(1), of_class(2), of_class(3)], [2, 0, 1, 1], "{val:?}");
        assert!(!val.contains(&12) && !val.contains(&15), "{val:?}");
        assert_eq!(train.len() + val.len(), 17);
        assert_eq!(
            notes,
            ["1 class is made of copies of one picture, used for training, so not validated: c1"]
        );
    }
}

#[test]
fn a_split_of_large_groups_takes_the_smallest() {
    let dataset = numbered(&[10]);
    let val = split(&dataset, &[0, 0, 0, 0, 0, 0, 0, 7, 7, 7], 0.2, 1).val;
    assert_eq!(val, [7, 8, 9]);
}

/// With nothing else to measure on, copies are split, and a note qualifies the accuracy.
#[test]
fn a_split_of_copies_alone_says_what_it_is() {
    let dataset = numbered(&[5, 5]);
    let copies = [0, 0, 0, 0, 0, 5, 5, 5, 5, 5];
    let found = split(&dataset, &copies, 0.2, 1);
    assert_eq!(found.val, split(&dataset, &alone(&dataset), 0.2, 1).val);
    insta::assert_snapshot!(found.notes[0], @"every class is made of copies of one picture, or shares its pictures with other classes: the validation images are copies of training images, and their accuracy says nothing about new ones");
}

#[test]
fn a_split_is_stratified_and_complete() {
    let dataset = numbered(&[100, 10, 3, 2, 1]);
    let Split { train, val, notes } = split(&dataset, &alone(&dataset), 0.2, 7);
    let count = |indices: &[usize]| {
        let mut counts = [0; 5];
        indices.iter().for_each(|&i| counts[dataset.samples[i].label] += 1);
        counts
    };
    assert_eq!(count(&val), [20, 2, 1, 1, 0]);
    assert_eq!(count(&train), [80, 8, 2, 1, 1]);
    let mut all = [train, val].concat();
    all.sort_unstable();
    assert_eq!(all, (0..116).collect::<Vec<_>>());
    assert_eq!(notes, ["1 class has one image alone, used for training, so not validated: c4"]);
    // However large the share, an image to train on remains.
    assert_eq!(count(&split(&dataset, &alone(&dataset), 0.999, 7).train), [1, 1, 1, 1, 1]);
    assert_eq!(count(&split(&dataset, &alone(&dataset), 0.001, 7).val), [1, 1, 1, 1, 0]);
}

/// Pinned: a run that is resumed on another machine must see the same split.
#[test]
fn a_split_is_a_function_of_seed_and_names() {
    let dataset = numbered(&[20]);
    assert_eq!(split(&dataset, &alone(&dataset), 0.2, 0).val, [6, 8, 12, 16]);
    assert_eq!(split(&dataset, &alone(&dataset), 0.2, 1).val, [1, 4, 12, 19]);
    let mut turned = dataset.clone();
    turned.samples.reverse();
    let names = |dataset: &Dataset, indices: &[usize]| {
        let mut names: Vec<_> = indices.iter().map(|&i| dataset.samples[i].name.clone()).collect();
        names.sort();
        names
    };
    assert_eq!(
        names(&dataset, &split(&dataset, &alone(&dataset), 0.2, 3).val),
        names(&turned, &split(&turned, &alone(&turned), 0.2, 3).val)
    );
}

/// Over many seeds each image is set aside about equally often: 400 of 2000, standard deviation 18.
#[test]
fn a_split_favours_no_image() {
    let dataset = numbered(&[20]);
    let mut counts = [0; 20];
    for seed in 0..2000 {
        split(&dataset, &alone(&dataset), 0.2, seed).val.iter().for_each(|&i| counts[i] += 1);
    }
    assert!(counts.iter().all(|count| (310..490).contains(count)), "{counts:?}");
}
