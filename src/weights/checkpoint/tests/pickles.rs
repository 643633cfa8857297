//! Pickles that attack, nest, lie or contradict themselves.

use std::time::{Duration, Instant};

use super::make::{Pickler, dict_of, torch_zip, zip};
use super::{read, refusal};

#[test]
fn a_zip_made_here_loads() {
    let checkpoint = read(&torch_zip(&dict_of(9, 1, &[2, 2], &[1, 4]))).unwrap();
    assert_eq!(checkpoint.tensors[0].1.to_f32().unwrap(), [1.0, 5.0, 2.0, 6.0]);
}

#[test]
fn calls_are_named_and_never_made() {
    let attack = "asks to run `os.system`";
    let top = Pickler::new().attack().stop();
    assert!(refusal(&torch_zip(&top)).starts_with(attack));
    assert!(refusal(&top).starts_with(attack), "as a plain pickle");
    let nested = Pickler::new().op(b"}").text("state_dict").attack().op(b"s").stop();
    assert!(refusal(&torch_zip(&nested)).starts_with(attack));
    let other_key = Pickler::new().op(b"}").text("x").attack().op(b"s").stop();
    assert!(refusal(&torch_zip(&other_key)).starts_with(attack));
    let among =
        Pickler::new().op(b"}").text("a").tensor(9, 0, &[9], &[1]).op(b"s").text("b").attack().op(b"s");
    let message = refusal(&torch_zip(&among.stop()));
    assert!(message.starts_with("asks to run `os.system` where the tensor `b` is expected"), "{message}");
    // Alternatives to REDUCE.
    let instance = Pickler::new().op(b"(").global("os", "system").text("true").op(b"o").stop();
    assert!(refusal(&torch_zip(&instance)).starts_with(attack));
    let inst = Pickler::new().op(b"(").text("true").op(b"ios\nsystem\n").stop();
    assert!(refusal(&torch_zip(&inst)).starts_with(attack));
    let stacked = Pickler::new().text("os").text("system").op(b"\x93").text("true").op(b"\x85R").stop();
    assert!(refusal(&torch_zip(&stacked)).starts_with(attack));
    let unknown = Pickler::new().global("evil.tools", "run").op(b")R").stop();
    assert!(refusal(&torch_zip(&unknown)).starts_with("asks to run `evil.tools.run`"));
}

#[test]
fn a_call_beside_the_weights_is_ignored_with_a_warning() {
    let pickle = Pickler::new().op(b"}").text("args").attack().op(b"s").text("state_dict").op(b"}").text("a");
    let pickle = pickle.tensor(9, 0, &[9], &[1]).op(b"ss").stop();
    let checkpoint = read(&torch_zip(&pickle)).unwrap();
    assert_eq!(checkpoint.tensors.len(), 1);
    insta::assert_snapshot!(checkpoint.warnings[0], @"besides its tensors the file asks Python to run `os.system`; that was ignored here, but torch.load may obey it");
}

#[test]
fn nesting_without_end_is_refused() {
    const DEEP: usize = 3_000_000;
    for (open, close) in [("]", "a"), ("(", "t"), ("}", "s"), (")", "\u{5}"), ("", "")] {
        let mut pickle = b"\x80\x02N".to_vec();
        match (open, close) {
            // Nested tuples, which need no stack.
            ("", _) => pickle.extend([0x85].repeat(DEEP)),
            (")", _) => pickle.extend(b")".repeat(DEEP)),
            _ => {
                pickle.extend(open.repeat(DEEP).into_bytes());
                pickle.extend(close.repeat(DEEP).into_bytes());
            }
        }
        pickle.push(b'.');
        let start = Instant::now();
        let message = refusal(&pickle);
        assert!(message.starts_with("nests deeper or holds more objects"), "{open}{close}: {message}");
        assert!(start.elapsed() < Duration::from_secs(10));
    }
    // As deep as the limits allow: read and dropped without recursion.
    let mut pickle = b"\x80\x02N".to_vec();
    pickle.extend([0x85].repeat(900_000));
    pickle.push(b'.');
    assert!(refusal(&torch_zip(&pickle)).starts_with("holds a tuple"));
}

#[test]
fn tensors_beyond_their_storage_are_refused_by_name() {
    let beyond = "the tensor `a` reaches beyond its storage";
    const MAX: i64 = i64::MAX;
    type Case = (i64, i64, &'static [i64], &'static [i64], &'static str);
    let cases: [Case; 14] = [
        (9, 0, &[10], &[1], beyond),
        (9, 1, &[9], &[1], beyond),
        (9, 9, &[1], &[1], beyond),
        (9, 0, &[2], &[9], beyond),
        (9, -1, &[2], &[1], beyond),
        (9, 0, &[-2], &[1], beyond),
        (9, 0, &[2], &[-1], beyond),
        (9, MAX, &[2], &[MAX], beyond),
        (9, 0, &[MAX, MAX], &[MAX, MAX], beyond),
        (9, 0, &[MAX, MAX, 3], &[0, 0, 1], "the tensor `a` makes the tensors larger than twice the file"),
        (9, 0, &[1 << 30], &[0], "the tensor `a` makes the tensors larger than twice the file"),
        (9, 0, &[3, 3], &[1], "the tensor `a` is described in a way that makes no sense"),
        (1 << 40, 0, &[9], &[1], "the tensor `a` should have a storage of"),
        (MAX, 0, &[9], &[1], "the tensor `a` should have a storage of"),
    ];
    for (numel, offset, shape, stride, expected) in cases {
        let message = refusal(&torch_zip(&dict_of(numel, offset, shape, stride)));
        assert!(message.starts_with(expected), "{shape:?} {stride:?}: {message}");
    }
    // The stride of a dimension of size 1 is never used.
    let single = read(&torch_zip(&dict_of(9, 0, &[1, 3, 1], &[MAX, 2, MAX]))).unwrap();
    assert_eq!(single.tensors[0].1.to_f32().unwrap(), [0.0, 2.0, 4.0]);
    let empty = read(&torch_zip(&dict_of(9, 0, &[0, MAX], &[MAX, MAX]))).unwrap();
    assert_eq!(empty.tensors[0].1.numel(), 0);
}

/// One storage under very many names must not take its size for each.
#[test]
fn a_storage_repeated_without_end_is_refused() {
    let data = vec![0; 4 << 20];
    let mut pickle = Pickler::new().op(b"}").text("k").tensor(1 << 20, 0, &[1 << 20], &[1]).op(b"q\x01s");
    for index in 0..1000 {
        pickle = pickle.text(&format!("k{index}")).op(b"h\x01s");
    }
    let message = refusal(&zip(&[("x/data.pkl", &pickle.stop()), ("x/data/0", &data)]));
    insta::assert_snapshot!(message, @"the tensor `k1` makes the tensors larger than twice the file, which repeats its bytes: it is damaged or hostile, or holds expanded tensors (save their `.clone()`)");
}

#[test]
fn keys_that_occur_twice_are_refused() {
    let one = |pickler: Pickler, key| pickler.text(key).tensor(9, 0, &[9], &[1]).op(b"s");
    let twice = one(one(Pickler::new().op(b"}"), "w"), "w").stop();
    assert_eq!(refusal(&torch_zip(&twice)), "holds the key `w` twice: it is damaged or hostile");
    let inner = |pickler: Pickler| one(pickler.text("model").op(b"}"), "w").op(b"s");
    let wrappers = inner(inner(Pickler::new().op(b"}"))).stop();
    assert_eq!(refusal(&torch_zip(&wrappers)), "holds the key `model` twice: it is damaged or hostile");
    let numbered = Pickler::new().op(b"}K\x01").tensor(9, 0, &[9], &[1]).op(b"s").stop();
    assert!(refusal(&torch_zip(&numbered)).starts_with("has a number as a key"));
}

#[test]
fn names_from_a_file_are_safe_to_print() {
    let key = format!("\u{1b}[2J{}", "x".repeat(10_000));
    let pickle = Pickler::new().op(b"}").text(&key).tensor(9, 0, &[10], &[1]).op(b"s").stop();
    let message = refusal(&torch_zip(&pickle));
    assert!(message.len() < 300 && !message.contains('\u{1b}'), "{message}");
}

/// Python 2's form: OrderedDict with its entries as an argument.
#[test]
fn an_ordered_dict_of_python_2_is_read() {
    let pickle = Pickler::new().global("collections", "OrderedDict").op(b"]]").text("a").op(b"a");
    let pickle = pickle.tensor(9, 0, &[9], &[1]).op(b"aa\x85R").stop();
    assert_eq!(read(&torch_zip(&pickle)).unwrap().tensors[0].0, "a");
}

/// The calls before and after `_rebuild_tensor_v2`, whose storages have no dtype.
#[test]
fn the_other_ways_to_rebuild_a_tensor_are_read() {
    let old = Pickler::new().op(b"}").text("a").global("torch._utils", "_rebuild_tensor").op(b"(");
    let old = old.storage("FloatStorage", 9).int(2).global("torch", "Size").ints(&[2]).op(b"\x85R");
    let old = old.ints(&[3]).op(b"tRs").stop();
    assert_eq!(read(&torch_zip(&old)).unwrap().tensors[0].1.to_f32().unwrap(), [2.0, 5.0]);

    let new = |dtype| {
        let start = Pickler::new().op(b"}").text("a").global("torch._utils", "_rebuild_tensor_v3").op(b"(");
        let start = start.storage("UntypedStorage", 36).int(1).ints(&[2]).ints(&[1]);
        torch_zip(&start.op(b"\x89}").global("torch", dtype).op(b"tRs").stop())
    };
    assert_eq!(read(&new("float32")).unwrap().tensors[0].1.to_f32().unwrap(), [1.0, 2.0]);
    insta::assert_snapshot!(refusal(&new("uint16")), @"the tensor `a` holds elements of kind `uint16`, which no model here uses; save it as float32");
}

#[test]
fn lying_lengths_take_no_memory() {
    let cases: [&[u8]; 7] = [
        b"\x80\x02X\xff\xff\xff\xffab.",
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xffab.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fab.",
        b"\x80\x02\x8b\xff\xff\xff\xffab.",
        b"\x80\x02B\xff\xff\xff\xffab.",
        b"\x80\x02}r\xff\xff\xff\xffj\xff\xff\xff\xff",
        b"\x80\x02\x8a\xff.",
    ];
    for pickle in cases {
        assert!(refusal(&torch_zip(pickle)).starts_with("is cut short"), "{pickle:?}");
    }
    for pickle in [
        &b"\x80\x02."[..],
        b"\x80\x020.",
        b"\x80\x02(((u.",
        b"\x80\x02h\x07.",
        b"\x80\x02Na.",
        b"\x80\x02\xfe.",
    ] {
        assert!(refusal(&torch_zip(pickle)).starts_with("is damaged"), "{pickle:?}");
    }
}
