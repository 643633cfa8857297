//! Small files that ask for much memory or work. SECURITY.md lists the bounds.

use std::time::{Duration, Instant};

use super::make::{Pickler, torch_zip, zip};
use super::{read, refusal};
use crate::weights::checkpoint::{pickle, read_checkpoint};

/// The refusal, which must not take long: each of these files took minutes, or gigabytes.
fn soon(bytes: &[u8]) -> String {
    let start = Instant::now();
    let message = refusal(bytes);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(10), "{} bytes took {took:?}: {message}", bytes.len());
    message
}

/// The file has no bytes on disk.
#[test]
fn a_file_too_large_for_weights_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.pth");
    std::fs::File::create(&path).unwrap().set_len((16 << 30) + 1).unwrap();
    let message = read_checkpoint(&path).unwrap_err().to_string();
    assert!(message.contains("is larger than 16 GB, which no weights file is"), "{message}");
}

/// `count` entries named by number, of what `value` writes, in one dictionary.
fn entries(start: Pickler, count: usize, value: &[u8]) -> Vec<u8> {
    let start = start.op(b"}(");
    let all = (0..count).fold(start, |pickler, index| pickler.text(&format!("{index:06}")).op(value));
    all.op(b"u").stop()
}

/// An OrderedDict with n references to one list of n pairs: n² entries.
#[test]
fn one_list_is_not_an_ordered_dict_many_times() {
    const MANY: usize = 100_000;
    let pair = Pickler::new().text("a").int(1).op(b"\x86q\x000");
    let list = pair.op(b"]q\x01(").op(b"h\x00".repeat(MANY)).op(b"e0");
    let many = list.clone().global("collections", "OrderedDict").op(b"(").op(b"h\x01".repeat(MANY)).op(b"tR");
    let message = soon(&torch_zip(&many.stop()));
    assert!(
        message.starts_with("holds a whole Python object (class `collections.OrderedDict`)"),
        "{message}"
    );
    // One list is what Python 2 wrote. It is not copied.
    let one = list.global("collections", "OrderedDict").op(b"h\x01\x85R").stop();
    let read = pickle::read(&one).unwrap();
    let mapping = read.mapping(read.root).unwrap();
    assert_eq!((mapping.len(), mapping.iter().count()), (MANY, MANY));
    assert!(soon(&torch_zip(&one)).starts_with("holds no tensors at its top"));
}

/// All tensors may refer to one dictionary of flags.
#[test]
fn one_description_for_all_tensors_is_counted() {
    let rebuild = |flags: usize| {
        let start = Pickler::new().global("torch._utils", "_rebuild_tensor_v2").op(b"q\x000");
        let start = start.storage("FloatStorage", 9).op(b"q\x010").ints(&[1]).op(b"q\x020");
        start.op(b"}(").op(b"NN".repeat(flags)).op(b"uq\x030")
    };
    let tensor = b"h\x00(h\x01K\x00h\x02h\x02\x89Nh\x03tR";
    let message = soon(&torch_zip(&entries(rebuild(100_000), 40_000, tensor)));
    assert!(message.contains("takes more than") && message.contains("entries to read"), "{message}");
    // Two flags are what PyTorch has.
    assert_eq!(read(&torch_zip(&entries(rebuild(2), 10_000, tensor))).unwrap().tensors.len(), 10_000);
}

/// A tensor without elements takes memory too.
#[test]
fn one_tensor_under_very_many_names_is_counted() {
    let tensor = Pickler::new().tensor(9, 0, &[0; 64], &[0; 64]).op(b"q\x000");
    let message = soon(&torch_zip(&entries(tensor, 300_000, b"h\x00")));
    assert!(message.contains("makes the tensors larger than twice the file"), "{message}");
}

/// Names are shared like everything else, and each use of one must not take its length.
#[test]
fn long_names_are_not_read_for_every_use() {
    const LONG: usize = 1 << 20;
    let name = "x".repeat(LONG);
    let call = Pickler::new().global("os", &name).op(b"q\x000)q\x010");
    let message = soon(&torch_zip(&entries(call.clone(), 100_000, b"h\x00h\x01R")));
    assert!(message.starts_with("asks to run `os.xxxx") && message.len() < 300, "{message}");
    let unnamed = Pickler::new().global(&name, &name).op(b"q\x000)q\x010");
    let message = soon(&torch_zip(&entries(unnamed, 100_000, b"h\x00h\x01R")));
    assert!(message.starts_with("holds no tensors at its top"), "{message}");
    // A global of its own for each call, of the same two strings.
    let strings = Pickler::new().text(&name).op(b"q\x000").text("os").op(b"q\x010)q\x020");
    let each = entries(strings, 100_000, b"h\x01h\x00\x93h\x02R");
    let read = pickle::read(&each).unwrap();
    let start = Instant::now();
    assert_eq!(read.dangerous_calls().len(), 1);
    assert!(start.elapsed() < Duration::from_secs(10));

    // The key of a storage.
    let key = |key: &str| {
        let start =
            Pickler::new().global("torch._utils", "_rebuild_tensor_v2").op(b"q\x000(").text("storage");
        let start = start.global("torch", "FloatStorage").text(key).text("cpu").int(9).op(b"tQq\x010");
        entries(start.ints(&[1]).op(b"q\x020"), 50_000, b"h\x00(h\x01K\x00h\x02h\x02\x89N}tR")
    };
    let pickle = key(&name);
    let message = soon(&zip(&[("any/data.pkl", &pickle), ("any/data/0", &[0; 36])]));
    assert!(message.contains("is described in a way that makes no sense"), "{message}");
    let legacy =
        [b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.".as_slice(), &pickle];
    let list = Pickler::new().op(b"]").text(&name).op(b"a").stop();
    let stored = [&9u64.to_le_bytes()[..], &[0; 36]].concat();
    let message = soon(&[legacy.concat(), list, stored].concat());
    assert!(message.contains("nothing says what its storage"), "{message}");
}

#[test]
fn many_entries_of_the_other_containers_are_read_once() {
    let names: Vec<String> = (0..60_000).map(|index| format!("a/{index}")).collect();
    let empty: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &[][..])).collect();
    assert!(soon(&zip(&empty)).starts_with("is a zip archive, but not one of PyTorch"));
    let header = |json: String| [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat();
    let tensor =
        |index: usize| format!("\"t{index}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    let many = |count| header(format!("{{{}}}", (0..count).map(tensor).collect::<Vec<_>>().join(",")));
    assert!(soon(&many(100_001)).contains("holds 100001 tensors, which no model has"));
    let start = Instant::now();
    assert_eq!(read(&many(90_000)).unwrap().tensors.len(), 90_000);
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(soon(&header(format!("{{\"a\":{}", "[".repeat(5 << 20)))).contains("is not valid JSON"));
}
