//! Hostile files, written byte by byte.

/// Writes pickles of protocol 2.
#[derive(Clone, Default)]
pub(super) struct Pickler(Vec<u8>);

impl Pickler {
    pub(super) fn new() -> Self {
        Pickler(b"\x80\x02".to_vec())
    }

    pub(super) fn op(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    pub(super) fn text(self, text: &str) -> Self {
        self.op(b"X").op((text.len() as u32).to_le_bytes()).op(text)
    }

    pub(super) fn int(self, value: i64) -> Self {
        self.op(b"\x8a\x08").op(value.to_le_bytes())
    }

    pub(super) fn ints(self, values: &[i64]) -> Self {
        values.iter().fold(self.op(b"("), |pickler, &value| pickler.int(value)).op(b"t")
    }

    pub(super) fn global(self, module: &str, name: &str) -> Self {
        self.op(format!("c{module}\n{name}\n"))
    }

    /// `os.system("true")`.
    pub(super) fn attack(self) -> Self {
        self.global("os", "system").text("true").op(b"\x85R")
    }

    /// Storage `0` of `numel` elements, on a GPU.
    pub(super) fn storage(self, class: &str, numel: i64) -> Self {
        let start = self.op(b"(").text("storage").global("torch", class);
        start.text("0").text("cuda:0").int(numel).op(b"tQ")
    }

    /// A float tensor in storage `0` of `numel` elements.
    pub(super) fn tensor(self, numel: i64, offset: i64, shape: &[i64], stride: &[i64]) -> Self {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .op(b"(")
            .storage("FloatStorage", numel)
            .int(offset)
            .ints(shape)
            .ints(stride)
            .op(b"\x89}tR")
    }

    pub(super) fn stop(self) -> Vec<u8> {
        self.op(b".").0
    }
}

/// A dictionary with one float tensor under `a`.
pub(super) fn dict_of(numel: i64, offset: i64, shape: &[i64], stride: &[i64]) -> Vec<u8> {
    Pickler::new().op(b"}").text("a").tensor(numel, offset, shape, stride).op(b"s").stop()
}

/// A zip of stored entries, with checksums; `names` may repeat.
pub(super) fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    archive(entries, false)
}

/// The same, with sizes and offsets in the directory's zip64 fields.
pub(super) fn zip64(entries: &[(&str, &[u8])]) -> Vec<u8> {
    archive(entries, true)
}

fn archive(entries: &[(&str, &[u8])], wide: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for (name, data) in entries {
        let start = out.len() as u32;
        let mut fields = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        fields.extend(crc32fast::hash(data).to_le_bytes());
        fields.extend((data.len() as u32).to_le_bytes());
        fields.extend((data.len() as u32).to_le_bytes());
        fields.extend((name.len() as u16).to_le_bytes());
        fields.extend([0, 0]);
        out.extend(b"PK\x03\x04");
        out.extend(&fields);
        out.extend(name.as_bytes());
        out.extend(*data);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&fields);
        directory.extend([0; 10]);
        directory.extend(start.to_le_bytes());
        if wide {
            // Both sizes, the extra field's length, the offset.
            let record = directory.len() - 46;
            directory[record + 20..record + 28].fill(0xff);
            directory[record + 30] = 28;
            directory[record + 42..record + 46].fill(0xff);
        }
        directory.extend(name.as_bytes());
        if wide {
            directory.extend([1, 0, 24, 0]);
            for number in [data.len() as u64, data.len() as u64, start.into()] {
                directory.extend(number.to_le_bytes());
            }
        }
    }
    let start = out.len() as u32;
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend((entries.len() as u16).to_le_bytes());
    out.extend((entries.len() as u16).to_le_bytes());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}

/// A checkpoint of this pickle and a storage of 9 floats.
pub(super) fn torch_zip(pickle: &[u8]) -> Vec<u8> {
    let data: Vec<u8> = (0..9).flat_map(|value| (value as f32).to_le_bytes()).collect();
    zip(&[("any/data.pkl", pickle), ("any/data/0", &data)])
}
