//! From a tensor's recorded rebuild call to its bytes.
//!
//! The calls are those of `torch/_utils.py`. Errors are the text after "the tensor `key` ".

use super::pickle::{Object, Pickle, Value};
use super::tensor::{Dtype, RawTensor};
use super::{Parsed, quoted};
use crate::util::budget::Budget;

/// A parameter around a tensor subclass has two wrappers; no honest file has more.
const MAX_WRAPPERS: usize = 8;
/// PyTorch's own limit.
const MAX_DIMENSIONS: usize = 64;
/// Extra budget of small files beyond a multiple of their size: for expanded scalars, say.
const SPARE_BYTES: usize = 1 << 20;
/// What an empty tensor takes; its description in a file takes more.
const TENSOR_BYTES: usize = 64;
/// Longer keys of storages are none: PyTorch numbers them.
const LONGEST_KEY: usize = 256;

/// A container's storages, and its tensors if they have their own table (tar).
pub(super) trait Storages<'a> {
    /// The bytes of the storage with this key.
    fn storage(&self, key: &str) -> Option<&'a [u8]>;

    /// The tensor of a persistent id.
    fn tensor(&self, _id: Value<'a>) -> Option<Parsed<View<'a>>> {
        None
    }
}

/// A tensor in PyTorch's form: sizes and strides over a storage, in elements.
#[derive(Debug, Clone)]
pub(super) struct View<'a> {
    pub(super) storage: &'a [u8],
    pub(super) dtype: Dtype,
    pub(super) offset: u64,
    pub(super) shape: Vec<u64>,
    pub(super) stride: Vec<u64>,
}

/// What a file's tensors may take. Views share storages, and a stride of 0 makes a tensor of any
/// size out of one element: without a limit 1 KB could request a terabyte. One description may
/// serve all tensors, too.
#[derive(Debug)]
pub(super) struct Budgets {
    /// Bytes of the tensors.
    left: usize,
    /// Entries of their descriptions.
    work: Budget,
}

impl Budgets {
    /// Twice the size of the file for the tensors, and 16 entries a byte to find them.
    pub(super) fn for_file(bytes: &[u8]) -> Self {
        Budgets {
            left: bytes.len().saturating_mul(2).saturating_add(SPARE_BYTES),
            work: Budget::of_file("entries", bytes.len(), 16, SPARE_BYTES as u64),
        }
    }

    /// Takes the bytes of a tensor, and those that its place in memory needs.
    fn take(&mut self, bytes: Option<usize>, dimensions: usize) -> Parsed<()> {
        let all = bytes.and_then(|bytes| bytes.checked_add(TENSOR_BYTES + 8 * dimensions));
        self.left = all.and_then(|all| self.left.checked_sub(all)).ok_or(
            "makes the tensors larger than twice the file, which repeats its bytes: it is damaged or \
             hostile, or holds expanded tensors (save their `.clone()`)",
        )?;
        Ok(())
    }
}

/// The reference to a storage in a pickle: `('storage', class, key, location, elements, view)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct StorageRef<'a> {
    pub(super) key: &'a str,
    /// Elements.
    pub(super) numel: u64,
    /// Bytes an element.
    pub(super) element: usize,
    /// `None` for known dtypes that cannot be read: complex, quantised.
    dtype: Option<Dtype>,
    class: &'a str,
    /// Offset and length in elements of the referenced part (legacy stream only).
    part: Option<(u64, u64)>,
}

impl<'a> StorageRef<'a> {
    /// Reads a persistent id; `None` if it is no storage of a known dtype.
    pub(super) fn of(pickle: &Pickle<'a>, id: Value<'a>) -> Option<Self> {
        let [Value::Str("storage"), class, Value::Str(key), _location, Value::Int(numel), view @ ..] =
            pickle.sequence(id)?
        else {
            return None;
        };
        if key.len() > LONGEST_KEY {
            return None;
        }
        let (_, class) = pickle.global(*class)?;
        let (dtype, element) = storage_class(class)?;
        let part = match view.first() {
            None | Some(Value::None) => None,
            Some(&view) => match pickle.sequence(view)? {
                [_, Value::Int(offset), Value::Int(numel)] => {
                    Some((u64::try_from(*offset).ok()?, u64::try_from(*numel).ok()?))
                }
                _ => return None,
            },
        };
        Some(StorageRef { key, numel: u64::try_from(*numel).ok()?, element, dtype, class, part })
    }
}

/// Dtype and element size, by the name of PyTorch's storage class.
pub(super) fn storage_class(name: &str) -> Option<(Option<Dtype>, usize)> {
    let dtype = match name {
        "DoubleStorage" => Dtype::F64,
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" | "UntypedStorage" => Dtype::U8,
        "BoolStorage" => Dtype::Bool,
        "ComplexDoubleStorage" => return Some((None, 16)),
        "ComplexFloatStorage" => return Some((None, 8)),
        "QInt32Storage" => return Some((None, 4)),
        "QInt8Storage" | "QUInt8Storage" | "QUInt4x2Storage" | "QUInt2x4Storage" => return Some((None, 1)),
        _ => return None,
    };
    Some((Some(dtype), dtype.size()))
}

/// Dtype by `torch.dtype`'s name.
fn dtype_named(name: &str) -> Option<Dtype> {
    use Dtype::*;
    [F64, F32, F16, BF16, I64, I32, I16, I8, U8, Bool].into_iter().find(|dtype| dtype.name() == name)
}

/// Whether a value is a tensor of any kind.
pub(super) fn is_tensor<'a>(pickle: &Pickle<'a>, storages: &impl Storages<'a>, value: Value<'a>) -> bool {
    match pickle.object(value) {
        Some(Object::Persistent(id)) => storages.tensor(*id).is_some(),
        Some(Object::Call { callee, .. }) => {
            pickle.global(*callee).is_some_and(|(module, name)| match module {
                "torch._utils" => name.starts_with("_rebuild_"),
                "torch._tensor" | "torch.tensor" => name.starts_with("_rebuild_from_type"),
                "torch.nn.parameter" => matches!(name, "Parameter" | "Buffer"),
                _ => false,
            })
        }
        _ => false,
    }
}

/// Follows the recorded calls down to a storage.
pub(super) fn view<'a>(
    pickle: &Pickle<'a>,
    storages: &impl Storages<'a>,
    value: Value<'a>,
    budgets: &mut Budgets,
) -> Parsed<View<'a>> {
    let mut value = value;
    for _ in 0..MAX_WRAPPERS {
        let (mut callee, mut args) = match pickle.object(value) {
            Some(Object::Persistent(id)) => return storages.tensor(*id).unwrap_or_else(|| Err(malformed())),
            Some(Object::Call { callee, args, .. }) => (*callee, pickle.arguments(*args)),
            _ => return Err(malformed()),
        };
        // A tensor with attributes: (function, class, its arguments, attributes).
        if let Some(("torch._tensor" | "torch.tensor", "_rebuild_from_type_v2" | "_rebuild_from_type")) =
            pickle.global(callee)
        {
            let [function, _class, inner, ..] = args else { return Err(malformed()) };
            (callee, args) = (*function, pickle.arguments(*inner));
        }
        let Some((module, name)) = pickle.global(callee) else { return Err(malformed()) };
        match (module, name, args) {
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state", [inner, ..])
            | ("torch.nn.parameter", "Parameter" | "Buffer", [inner, ..]) => value = *inner,
            (
                "torch._utils",
                "_rebuild_tensor" | "_rebuild_tensor_v2",
                [storage, Value::Int(offset), shape, stride, rest @ ..],
            ) => {
                // requires_grad, hooks, metadata
                plain(pickle, rest.get(2), budgets)?;
                return strided(pickle, storages, *storage, None, *offset, *shape, *stride);
            }
            (
                "torch._utils",
                "_rebuild_tensor_v3",
                [storage, Value::Int(offset), shape, stride, _, _, dtype, rest @ ..],
            ) => {
                plain(pickle, rest.first(), budgets)?;
                let name = pickle.global(*dtype).map_or("", |(_, name)| name);
                let dtype = dtype_named(name).ok_or_else(|| unsupported(name))?;
                return strided(pickle, storages, *storage, Some(dtype), *offset, *shape, *stride);
            }
            ("torch._utils", "_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor", _) => {
                return Err("is sparse, which no model here is; save the dense tensor (`.to_dense()`)".into());
            }
            ("torch._utils", "_rebuild_qtensor", _) => {
                return Err("is quantised, which no model here is; save the floating-point model".into());
            }
            ("torch._utils", "_rebuild_meta_tensor_no_storage", _) => {
                return Err("has no values (it was saved on PyTorch's `meta` device)".into());
            }
            _ => {
                let name = quoted(&format!("{module}.{name}"));
                return Err(format!("is to be made by {name}, which is no plain tensor; save it as one"));
            }
        }
    }
    Err(malformed())
}

fn malformed() -> String {
    "is described in a way that makes no sense: the file is damaged or hostile".into()
}

fn unsupported(kind: &str) -> String {
    format!("holds elements of kind {}, which no model here uses; save it as float32", quoted(kind))
}

/// Refuses lazily conjugated and negated tensors: their bytes are not their values.
fn plain<'a>(pickle: &Pickle<'a>, metadata: Option<&Value<'a>>, budgets: &mut Budgets) -> Parsed<()> {
    let Some(flags) = metadata.and_then(|&value| pickle.mapping(value)) else { return Ok(()) };
    budgets.work.spend(flags.len() as u64)?;
    match flags.iter().any(|(_, flag)| flag == Value::Bool(true)) {
        true => Err("is a lazily negated or conjugated view; save its `.contiguous()`".into()),
        false => Ok(()),
    }
}

fn strided<'a>(
    pickle: &Pickle<'a>,
    storages: &impl Storages<'a>,
    storage: Value<'a>,
    dtype: Option<Dtype>,
    offset: i64,
    shape: Value<'a>,
    stride: Value<'a>,
) -> Parsed<View<'a>> {
    let Some(Object::Persistent(id)) = pickle.object(storage) else { return Err(malformed()) };
    let Some(reference) = StorageRef::of(pickle, *id) else {
        let class = match pickle.sequence(*id) {
            Some([_, class, ..]) => pickle.global(*class).map(|(_, name)| name),
            _ => None,
        };
        return Err(match class {
            Some(class) if storage_class(class).is_none() => unsupported(class),
            _ => malformed(),
        });
    };
    let dtype = dtype.or(reference.dtype).ok_or_else(|| unsupported(reference.class))?;
    let bytes = storages
        .storage(reference.key)
        .ok_or_else(|| format!("refers to the storage {}, which the file lacks", quoted(reference.key)))?;
    if reference.numel.checked_mul(reference.element as u64) != Some(bytes.len() as u64) {
        return Err(format!(
            "should have a storage of {} elements of {} bytes, but it has {} bytes: the file is damaged",
            reference.numel,
            reference.element,
            bytes.len()
        ));
    }
    let bytes = match reference.part {
        None => bytes,
        Some((start, numel)) => {
            let start = start.checked_mul(reference.element as u64);
            let count = numel.checked_mul(reference.element as u64);
            start.zip(count).and_then(|(start, count)| part(bytes, start, count)).ok_or_else(beyond)?
        }
    };
    Ok(View {
        storage: bytes,
        dtype,
        offset: u64::try_from(offset).map_err(|_| beyond())?,
        shape: sizes(pickle, shape)?,
        stride: sizes(pickle, stride)?,
    })
}

/// The bytes from `start` on, if present.
pub(super) fn part(bytes: &[u8], start: u64, count: u64) -> Option<&[u8]> {
    let start = usize::try_from(start).ok()?;
    bytes.get(start..start.checked_add(usize::try_from(count).ok()?)?)
}

fn beyond() -> String {
    "reaches beyond its storage: the file is damaged or hostile".into()
}

fn sizes<'a>(pickle: &Pickle<'a>, value: Value<'a>) -> Parsed<Vec<u64>> {
    let size = |value: &Value| match value {
        Value::Int(size) => u64::try_from(*size).map_err(|_| beyond()),
        _ => Err(malformed()),
    };
    pickle.sequence(value).ok_or_else(malformed)?.iter().map(size).collect()
}

/// Copies a view into a contiguous tensor.
pub(super) fn materialise(view: &View, budgets: &mut Budgets) -> Parsed<RawTensor> {
    let View { storage, dtype, offset, shape, stride } = view;
    let element = dtype.size();
    if shape.len() != stride.len() || shape.len() > MAX_DIMENSIONS {
        return Err(malformed());
    }
    let whole = |size: &u64| usize::try_from(*size).map_err(|_| beyond());
    let sizes = shape.iter().map(whole).collect::<Parsed<Vec<_>>>()?;
    let mut strides = stride.iter().map(whole).collect::<Parsed<Vec<_>>>()?;
    // The stride of a dimension of size 1 is never used, and may be any number.
    for (stride, _) in strides.iter_mut().zip(&sizes).filter(|(_, size)| **size == 1) {
        *stride = 0;
    }
    let offset = whole(offset)?;
    if sizes.contains(&0) {
        budgets.take(Some(0), sizes.len())?;
        return Ok(RawTensor { dtype: *dtype, shape: sizes, bytes: Vec::new() });
    }

    // The last element's position and the number of elements, both of which may overflow.
    let last = sizes
        .iter()
        .zip(&strides)
        .try_fold(offset, |last, (size, stride)| last.checked_add((size - 1).checked_mul(*stride)?));
    let end = last.and_then(|last| last.checked_add(1)?.checked_mul(element));
    if end.is_none_or(|end| end > storage.len()) {
        return Err(beyond());
    }
    let count = sizes.iter().try_fold(element, |count, size| count.checked_mul(*size));
    budgets.take(count, sizes.len())?;
    let count = count.unwrap_or_default();

    let start = offset * element;
    let bytes = match is_contiguous(&sizes, &strides) {
        true => storage[start..start + count].to_vec(),
        false => gather(&storage[start..], element, count, &sizes, &strides),
    };
    Ok(RawTensor { dtype: *dtype, shape: sizes, bytes })
}

/// Whether the elements are contiguous in row-major order. Strides of dimensions of size 1 do not
/// matter.
fn is_contiguous(sizes: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    sizes.iter().zip(strides).rev().all(|(&size, &stride)| {
        let fits = size == 1 || stride == expected;
        expected *= size;
        fits
    })
}

/// Collects a view's elements in row-major order; its last element lies inside `storage`.
fn gather(storage: &[u8], element: usize, count: usize, sizes: &[usize], strides: &[usize]) -> Vec<u8> {
    // Axes of size 1 would be walked for every element.
    let axes: Vec<(usize, usize)> =
        sizes.iter().copied().zip(strides.iter().copied()).filter(|(size, _)| *size > 1).collect();
    let mut bytes = Vec::with_capacity(count);
    let mut index = vec![0; axes.len()];
    let mut at = 0;
    while bytes.len() < count {
        bytes.extend_from_slice(&storage[at * element..][..element]);
        for (index, &(size, stride)) in index.iter_mut().zip(&axes).rev() {
            *index += 1;
            at += stride;
            if *index < size {
                break;
            }
            at -= stride * size;
            *index = 0;
        }
    }
    bytes
}
