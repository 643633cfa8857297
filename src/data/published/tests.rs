use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use crate::data::{Dataset, Part, list_images, read_labelled, read_labelled_with};
use crate::preprocess::{DecodeLimits, decode_file};

/// The bytes of image `index`, as in `tests/oracle/cifar.py`.
fn pixels(index: usize) -> Vec<u8> {
    (0..3072).map(|byte| ((7 * index + 3 * byte + byte / 256) % 256) as u8).collect()
}

/// The same as an image.
fn rgb(index: usize) -> Vec<u8> {
    let planes = pixels(index);
    (0..1024).flat_map(|pixel| [planes[pixel], planes[1024 + pixel], planes[2048 + pixel]]).collect()
}

/// Records with these labels, the pixels of images from `first` on.
fn records(labels: &[&[u8]], first: usize) -> Vec<u8> {
    (first..).zip(labels).flat_map(|(index, labels)| [labels.to_vec(), pixels(index)].concat()).collect()
}

fn write(folder: &TempDir, files: &[(&str, &[u8])]) {
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
}

/// CIFAR-10 with two images in each file but `without`.
fn cifar10(without: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, &[("batches.meta.txt", b"cat\ndog\n\n")]);
    let names = (1..6).map(|batch| format!("data_batch_{batch}.bin")).chain(["test_batch.bin".into()]);
    for (batch, name) in names.enumerate().filter(|(_, name)| name != without) {
        write(&folder, &[(&name, &records(&[&[1], &[0]], 2 * batch))]);
    }
    folder
}

fn cifar100() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, &[("fine_label_names.txt", b"apple\nbear\n"), ("coarse_label_names.txt", b"thing\n")]);
    write(&folder, &[("train.bin", &records(&[&[0, 1], &[0, 0]], 0)), ("test.bin", &records(&[&[0, 1]], 2))]);
    folder
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cifar").join(name)).unwrap()
}

/// CIFAR-100 as pickles, with these training images.
fn python(train: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let test = fixture("hundred.python2");
    write(&folder, &[("train", train), ("test", &test), ("meta", &fixture("hundred.python2.meta"))]);
    folder
}

/// CIFAR-10 as pickles, with this first batch.
fn python10(first: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, &[("batches.meta", &fixture("python2.meta")), ("data_batch_1", first)]);
    for name in ["data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"] {
        write(&folder, &[(name, &fixture("python2"))]);
    }
    folder
}

/// An IDX file of these sizes.
fn idx(sizes: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    [&bytes, values].concat()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const IMAGES: &str = "train-images-idx3-ubyte";
const LABELS: &str = "train-labels-idx1-ubyte";

/// Three images of three rows and two columns, written by `pack` under names that `name` makes.
fn mnist(pack: impl Fn(&[u8]) -> Vec<u8>, name: impl Fn(&str) -> String) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let values: Vec<u8> = (0..18).collect();
    write(&folder, &[(&name(IMAGES), &pack(&idx(&[3, 3, 2], &values)))]);
    write(&folder, &[(&name(LABELS), &pack(&idx(&[3], &[7, 0, 7])))]);
    write(&folder, &[(&name("t10k-images-idx3-ubyte"), &pack(&idx(&[1, 3, 2], &values[6..12])))]);
    write(&folder, &[(&name("t10k-labels-idx1-ubyte"), &pack(&idx(&[1], &[0])))]);
    folder
}

fn rows(dataset: &Dataset) -> Vec<(&str, &str)> {
    dataset.samples.iter().map(|s| (s.name.as_str(), dataset.classes[s.label].as_str())).collect()
}

fn plain(text: impl ToString, folder: &TempDir) -> String {
    text.to_string().replace(&folder.path().display().to_string(), "D")
}

fn refused(folder: &TempDir) -> String {
    plain(read_labelled(folder.path()).unwrap_err(), folder)
}

fn image(dataset: &Dataset, index: usize) -> Vec<u8> {
    decode_file(dataset.samples[index].image(), DecodeLimits::default()).unwrap().data
}

#[test]
fn cifar_is_read_part_by_part() {
    let d = cifar10("");
    let train = read_labelled(d.path()).unwrap();
    assert_eq!(train.classes, ["cat", "dog"]);
    assert_eq!(
        train.notes,
        [format!("{} is CIFAR-10 (binary version): 10 images of its training part", d.path().display())]
    );
    let expected = (1..6).flat_map(|batch| [(batch, 0, "dog"), (batch, 1, "cat")]);
    let expected: Vec<_> =
        expected.map(|(batch, index, class)| (format!("data_batch_{batch}.bin#{index}"), class)).collect();
    assert!(rows(&train).iter().copied().eq(expected.iter().map(|(name, class)| (name.as_str(), *class))));
    assert_eq!(train.samples[3].path, d.path().join("data_batch_2.bin#1"));
    assert!((0..10).all(|index| image(&train, index) == rgb(index)));
    let test = read_labelled_with(d.path(), &train.classes, Part::Val).unwrap();
    assert_eq!(rows(&test), [("test_batch.bin#0", "dog"), ("test_batch.bin#1", "cat")]);
    assert_eq!(image(&test, 1), rgb(11));
    // One of the files alone.
    let one = read_labelled(&d.path().join("data_batch_2.bin")).unwrap();
    assert_eq!(rows(&one), [("data_batch_2.bin#0", "dog"), ("data_batch_2.bin#1", "cat")]);
}

#[test]
fn the_fine_label_is_the_class() {
    let d = cifar100();
    let train = read_labelled(d.path()).unwrap();
    assert_eq!(rows(&train), [("train.bin#0", "bear"), ("train.bin#1", "apple")]);
    assert_eq!([image(&train, 0), image(&train, 1)], [rgb(0), rgb(1)]);
    let test = read_labelled_with(d.path(), &train.classes, Part::Val).unwrap();
    assert_eq!((rows(&test), image(&test, 0)), (vec![("test.bin#0", "bear")], rgb(2)));
}

#[test]
fn pickles_of_all_pythons_hold_the_same() {
    for name in ["python2", "python3-2", "python3-4", "python3-5"] {
        let d = python10(&fixture(name));
        let train = read_labelled(d.path()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(rows(&train)[..2], [("data_batch_1#0", "dog"), ("data_batch_1#1", "cat")], "{name}");
        assert_eq!([image(&train, 0), image(&train, 1)], [rgb(0), rgb(1)], "{name}");
        assert_eq!(train.samples.len(), 10);
        assert_eq!(read_labelled_with(d.path(), &train.classes, Part::Val).unwrap().samples.len(), 2);
    }
    let d = python(&fixture("hundred.python2"));
    let train = read_labelled(d.path()).unwrap();
    assert_eq!(rows(&train), [("train#0", "bear"), ("train#1", "apple")]);
    assert_eq!(image(&train, 1), rgb(1));
    // As numpy 2 calls it.
    let old = String::from_utf8_lossy(&fixture("python2")).contains("numpy.core.multiarray");
    let new = String::from_utf8_lossy(&fixture("python3-2")).contains("numpy._core.multiarray");
    assert!(old && new);
}

#[test]
fn idx_files_are_read_under_every_name_gzipped_or_not() {
    let same = |name: &str| name.to_string();
    let gzipped = |name: &str| format!("{name}.gz");
    let dotted = |name: &str| name.replace("-idx", ".idx");
    let emnist = |name: &str| format!("emnist-digits-{}.gz", name.replace("t10k", "test"));
    for (d, file) in [
        (mnist(<[u8]>::to_vec, same), "train-images-idx3-ubyte"),
        (mnist(gz, gzipped), "train-images-idx3-ubyte.gz"),
        (mnist(<[u8]>::to_vec, dotted), "train-images.idx3-ubyte"),
        (mnist(gz, emnist), "emnist-digits-train-images-idx3-ubyte.gz"),
        // Unpacked though its name says otherwise, and the other way round.
        (mnist(<[u8]>::to_vec, gzipped), "train-images-idx3-ubyte.gz"),
        (mnist(gz, same), "train-images-idx3-ubyte"),
    ] {
        let train = read_labelled(d.path()).unwrap();
        assert_eq!(train.classes, ["0", "7"]);
        let names: Vec<_> = (0..3).map(|index| format!("{file}#{index}")).collect();
        assert_eq!(rows(&train), [(&*names[0], "7"), (&*names[1], "0"), (&*names[2], "7")]);
        let grey: Vec<u8> = (6..12).flat_map(|value| [value; 3]).collect();
        assert_eq!(image(&train, 1), grey);
        let found = decode_file(train.samples[1].image(), DecodeLimits::default()).unwrap();
        assert_eq!((found.width, found.height), (2, 3));
        let test = read_labelled_with(d.path(), &train.classes, Part::Val).unwrap();
        assert_eq!((test.samples.len(), image(&test, 0)), (1, grey));
    }
    // Both forms side by side are one set.
    let d = mnist(<[u8]>::to_vec, same);
    write(&d, &[(&gzipped(IMAGES), b"broken"), (&gzipped(LABELS), b"broken")]);
    assert_eq!(read_labelled(d.path()).unwrap().samples.len(), 3);
}

#[test]
fn cifar_that_is_damaged_is_told() {
    let meta = "batches.meta.txt";
    let d = cifar10("data_batch_3.bin");
    assert_eq!(
        refused(&d),
        "D: is CIFAR-10 (binary version), but 1 file of it is missing: data_batch_3.bin; unpack or download it again"
    );
    let d = cifar10("test_batch.bin");
    assert_eq!(
        plain(read_labelled_with(d.path(), &["cat".into(), "dog".into()], Part::Val).unwrap_err(), &d),
        "D: is CIFAR-10 (binary version), but 1 file of it is missing: test_batch.bin; unpack or download it again"
    );
    let d = cifar10("");
    fs::remove_file(d.path().join(meta)).unwrap();
    assert_eq!(
        refused(&d),
        "D/batches.meta.txt: is missing: it names the classes of CIFAR-10 (binary version); unpack it too"
    );
    for (file, bytes, expected) in [
        (
            "data_batch_2.bin",
            vec![0; 2 * 3073 - 1],
            "D/data_batch_2.bin: expected records of 3073 bytes (1 label and 32 x 32 pixels), found 6145 bytes, which \
             are 1 record and 3072 bytes more: it is cut short or no file of CIFAR; download it again",
        ),
        (
            "data_batch_2.bin",
            vec![],
            "D/data_batch_2.bin: expected records of 3073 bytes (1 label and 32 x 32 pixels), found 0 bytes, which are \
             0 records and 0 bytes more: it is cut short or no file of CIFAR; download it again",
        ),
        (
            "data_batch_5.bin",
            records(&[&[0], &[2]], 0),
            "D/data_batch_5.bin: image 1 has the label 2, but D/batches.meta.txt names 2 classes (0 to 1): one of the \
             two files is damaged, or belongs to another set; download them again",
        ),
        (meta, b"cat\ncat\n".to_vec(), "D/batches.meta.txt: names the class \"cat\" twice; mend it"),
        (
            meta,
            b" \n".to_vec(),
            "D/batches.meta.txt: expected the name of a class a line, found none; download it again",
        ),
        (
            meta,
            b"\xff\n".to_vec(),
            "D/batches.meta.txt: expected the name of a class a line, in UTF-8; download it again",
        ),
    ] {
        let d = cifar10("");
        write(&d, &[(file, &bytes)]);
        assert_eq!(refused(&d), expected);
    }
}

/// A pickle of protocol 2: a dictionary with these entries, each already pickled.
fn pickle(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = b"\x80\x02}(".to_vec();
    for (key, value) in entries {
        bytes.extend([b"U", &[key.len() as u8][..], key.as_bytes(), value].concat());
    }
    [&bytes, &b"u."[..]].concat()
}

#[test]
fn pickles_that_are_damaged_or_hostile_are_told() {
    let good = fixture("hundred.python2");
    let list: &[u8] = b"](K\x01K\x00e";
    let attack: &[u8] = b"cos\nsystem\nU\x04true\x85R";
    let unknown: &[u8] = b"csome.module\nmaker\n)R";
    let long = good.windows(2).position(|pair| pair == [0x00, 0x0c]).unwrap();
    let mut rows = good.clone();
    rows[long - 2] = 3;
    let asks = |name: &str| {
        format!(
            "D/train: asks Python to run `{name}` when it is opened, which no file of CIFAR does: it is hostile or \
             another file; nothing was run. Download it again"
        )
    };
    let expected = "`data`: expected uint8 [2, 3072] (there are labels of 2 images), found";
    let cases: [(Vec<u8>, String); 14] = [
        (pickle(&[("data", attack), ("fine_labels", list)]), asks("os.system")),
        // In an entry that is not read.
        (pickle(&[("x", attack), ("data", list), ("fine_labels", list)]), asks("os.system")),
        (pickle(&[("data", unknown), ("fine_labels", list)]), asks("some.module.maker")),
        (pickle(&[("data", b"U\x01xQ"), ("fine_labels", list)]), asks("a persistent object")),
        (
            good[..good.len() / 2].to_vec(),
            "D/train: is cut short: the description of what it holds (a pickle) ends \
             in the middle; download or copy it again"
                .into(),
        ),
        (
            b"hello".to_vec(),
            "D/train: is damaged: the description of what it holds (a pickle) makes no sense; \
             download or copy it again"
                .into(),
        ),
        (
            b"\x80\x02].".to_vec(),
            "D/train: expected a pickled dictionary, found a list; it is no file of CIFAR, \
             download it again"
                .into(),
        ),
        (
            pickle(&[("data", list)]),
            "D/train: expected a dictionary with `fine_labels`, found none; it is no file of \
             CIFAR, download it again"
                .into(),
        ),
        (
            pickle(&[("data", list), ("fine_labels", b"]")]),
            "D/train: holds no images; download it again".into(),
        ),
        (
            pickle(&[("data", list), ("fine_labels", b"](J\xff\xff\xff\xffe")]),
            "D/train: `fine_labels`: expected a \
             list of whole numbers from 0 up, found the number -1"
                .into(),
        ),
        (pickle(&[("data", list), ("fine_labels", list)]), format!("D/train: {expected} a list")),
        (rows, format!("D/train: {expected} [3, 3072]")),
        (
            pickle(&[("data", list), ("fine_labels", b"](K\x07e")]),
            "D/train: `data`: expected uint8 [1, 3072] (there \
             are labels of 1 image), found a list"
                .into(),
        ),
        (
            Vec::new(),
            "D/train: is cut short: the description of what it holds (a pickle) ends in the middle; \
             download or copy it again"
                .into(),
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(refused(&python(&bytes)), expected);
    }
    for (name, expected) in [
        ("columns", "found it stored column by column; save numpy.ascontiguousarray of it"),
        ("floats", "found elements of kind f4"),
    ] {
        let told = refused(&python10(&fixture(name)));
        assert!(told.starts_with("D/data_batch_1: `data`: ") && told.ends_with(expected), "{told}");
    }
    // Fewer bytes than the shape promises.
    let mut short = good.clone();
    let start = good.windows(5).position(|five| five == b"T\x00\x18\x00\x00").unwrap();
    short.splice(start..start + 5 + 6144, [b"U\x05".to_vec(), b"12345".to_vec()].concat());
    let told = refused(&python(&short));
    assert_eq!(told, format!("D/train: {expected} 5 bytes where 6144 are promised; download it again"));
    let d = python(&good);
    write(&d, &[("meta", &pickle(&[("fine_label_names", b"K\x01")]))]);
    assert_eq!(refused(&d), "D/meta: `fine_label_names`: expected a list of names, found a number");
    write(&d, &[("meta", &pickle(&[("fine_label_names", b"](U\x01ae")]))]);
    assert!(refused(&d).starts_with("D/train: image 0 has the label 1, but D/meta names 1 class (0 to 0): "));
}

#[test]
fn idx_files_that_lie_are_told() {
    let values: Vec<u8> = (0..18).collect();
    let whole = idx(&[3, 3, 2], &values);
    let zipped = gz(&whole);
    let flipped =
        zipped.iter().enumerate().map(|(i, b)| if i + 6 == zipped.len() { !b } else { *b }).collect();
    let promises = "its header promises";
    let damaged = "it is cut short or damaged; download it again";
    for (file, bytes, expected) in [
        (IMAGES, whole[..20].to_vec(), format!("{promises} 3 x 3 x 2 values (18 bytes), but 4 follow: {damaged}")),
        (IMAGES, [&whole[..], &[1]].concat(), format!("{promises} 3 x 3 x 2 values (18 bytes), but 19 follow: {damaged}")),
        (IMAGES, whole[..9].to_vec(), "is cut short; download it again".into()),
        (
            IMAGES,
            idx(&[u32::MAX; 3], &values),
            format!("{promises} 4294967295 x 4294967295 x 4294967295 values (more than any file has), but 18 follow: {damaged}"),
        ),
        (IMAGES, idx(&[0, 3, 2], &[]), "its header promises no image; download it again".into()),
        (IMAGES, idx(&[3, 0, 2], &[]), "its header promises no image; download it again".into()),
        (
            IMAGES,
            idx(&[3], &[7, 0, 7]),
            "expected an IDX file of images of rows and columns, which begins with the bytes 00 00 08 03, found 00 00 08 \
             01; download it again"
                .into(),
        ),
        (
            IMAGES,
            vec![],
            "expected an IDX file of images of rows and columns, which begins with the bytes 00 00 08 03, found an empty \
             file; download it again"
                .into(),
        ),
        (
            LABELS,
            b"<html>".to_vec(),
            "expected an IDX file of labels, which begins with the bytes 00 00 08 01, found 3c 68 74 6d; download it again"
                .into(),
        ),
        (
            LABELS,
            idx(&[2], &[7, 0]),
            "expected the labels of the 3 images of train-images-idx3-ubyte, found 2 labels; download both again".into(),
        ),
        (IMAGES, gz(&whole[..20]), format!("{promises} 3 x 3 x 2 values (18 bytes), but 4 follow: {damaged}")),
        // A bomb: megabytes of zeros after the values of the header.
        (
            IMAGES,
            gz(&[&whole[..], &vec![0; 8 << 20]].concat()),
            format!("{promises} 3 x 3 x 2 values (18 bytes), but more follow: {damaged}"),
        ),
        // A header that no file of its length can match.
        (
            IMAGES,
            gz(&idx(&[1 << 20, 1 << 10, 1 << 10], &values)),
            format!(
                "{promises} 1048576 x 1024 x 1024 values (1099511627776 bytes), but {} gzipped bytes cannot hold that much: \
                 {damaged}",
                gz(&idx(&[1 << 20, 1 << 10, 1 << 10], &values)).len()
            ),
        ),
        (IMAGES, zipped[..zipped.len() - 9].to_vec(), "is cut short; download it again".into()),
        (
            IMAGES,
            flipped,
            "cannot be unpacked (corrupt gzip stream does not have a matching checksum): it is damaged; download it again"
                .into(),
        ),
    ] {
        let d = mnist(<[u8]>::to_vec, str::to_string);
        write(&d, &[(file, &bytes)]);
        assert_eq!(refused(&d), format!("D/{file}: {expected}"));
    }
    let d = mnist(<[u8]>::to_vec, str::to_string);
    fs::remove_file(d.path().join(LABELS)).unwrap();
    assert_eq!(
        refused(&d),
        "D/train-images-idx3-ubyte: its labels are missing: expected train-labels-idx1-ubyte (or .gz) beside it; download \
         them too"
    );
}

#[test]
fn parts_that_are_missing_or_many_are_told() {
    let d = mnist(<[u8]>::to_vec, str::to_string);
    for name in [IMAGES, LABELS] {
        let bytes = fs::read(d.path().join(name)).unwrap();
        write(&d, &[(&format!("other-{name}"), &bytes)]);
    }
    assert_eq!(
        refused(&d),
        "D: is a set of IDX files, but it has several training parts: other-train-images-idx3-ubyte, \
         train-images-idx3-ubyte; name one of these files instead of the folder"
    );
    let named = read_labelled(&d.path().join(format!("other-{IMAGES}"))).unwrap();
    assert_eq!(named.samples.len(), 3);
    for name in [IMAGES, &format!("other-{IMAGES}")] {
        fs::remove_file(d.path().join(name)).unwrap();
    }
    assert_eq!(
        refused(&d),
        "D: is a set of IDX files, but its training part is missing: expected a file such as train-images-idx3-ubyte (or \
         .gz); download it too, or name another folder"
    );
    // The folder around it.
    let around = tempfile::tempdir().unwrap();
    fs::rename(cifar10("").keep(), around.path().join("cifar-10-batches-bin")).unwrap();
    let told = refused(&around);
    assert!(told.ends_with("; did you mean D/cifar-10-batches-bin?"), "{told}");
}

#[test]
fn predict_and_extract_list_the_images_of_a_set() {
    let d = cifar10("");
    let at = |name: &str| d.path().join(name);
    let listed = |paths: &[&str]| -> Vec<(String, String)> {
        let paths: Vec<_> = paths.iter().map(|path| at(path)).collect();
        let inputs = list_images(&paths).unwrap().inputs;
        inputs.into_iter().map(|input| (plain(input.name, &d), input.label)).collect()
    };
    let all = listed(&[""]);
    assert_eq!(all.len(), 12);
    assert_eq!(all[11], ("D/test_batch.bin#1".into(), "cat".into()));
    assert_eq!(listed(&["data_batch_2.bin"]), all[2..4]);
    assert_eq!(listed(&["data_batch_2.bin#1", "data_batch_1.bin"]), [&all[..2], &all[3..4]].concat());
    assert_eq!(listed(&["", "data_batch_2.bin#1", "test_batch.bin"]), all);
    let lines = "test_batch.bin#1\ndata_batch_2.bin\ntest_batch.bin#9\n";
    write(&d, &[("list.txt", lines.as_bytes())]);
    let names: Vec<String> = listed(&["list.txt"]).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["test_batch.bin#1", "data_batch_2.bin#0", "data_batch_2.bin#1", "test_batch.bin#9"]);
    let told = list_images(&[at("data_batch_2.bin#2")]).unwrap_err();
    assert_eq!(plain(told, &d), "cannot read D/data_batch_2.bin#2: No such file or directory");
    // From 10 images on, numbers are sorted numerically; without labels there is no class.
    let d = mnist(<[u8]>::to_vec, str::to_string);
    write(&d, &[(IMAGES, &idx(&[12, 1, 1], &[5; 12]))]);
    fs::remove_file(d.path().join(LABELS)).unwrap();
    let inputs = list_images(&[d.path().join(IMAGES)]).unwrap().inputs;
    assert!((0..).zip(&inputs).all(|(index, input)| input.name.ends_with(&format!("#{index}"))));
    assert_eq!((inputs.len(), inputs[0].label.as_str()), (12, ""));
}
