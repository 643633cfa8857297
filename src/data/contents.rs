//! Finds images that are copies of each other, by the bytes of their files, whatever their names.

use std::collections::HashMap;
use std::fs::{self, File};
use std::hash::Hash;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;

use sha2::{Digest, Sha256};

use crate::data::loader::for_each_ordered;
use crate::error::Result;
use crate::preprocess::ImageAt;

/// Bytes at the end of a file that are compared first: images of one size from the same camera or
/// program begin alike, but hardly end alike.
const TAIL: u64 = 4096;

/// How many files threads may be ahead.
const WINDOW: usize = 256;

type Hashed = [u8; 32];

/// For each image the index of the first one with the same bytes; its own if there is none before
/// it.
///
/// Few files are read whole: those whose length and last 4 KiB (as sha256) equal another's. Two
/// names of one file (links) are not read at all. A file that is empty or cannot be read equals no
/// other. Images stored together in a file are compared by their pixels, never with files.
///
/// # Errors
/// No thread can be started.
pub fn first_of_each_content(images: &[ImageAt], threads: usize) -> Result<Vec<usize>> {
    let mut lengths = vec![0; images.len()];
    // By device and inode: this settles links to one file.
    let mut first: Vec<usize> = (0..images.len()).collect();
    let mut inodes = HashMap::new();
    for_each_ordered(
        images.len(),
        threads,
        WINDOW,
        |index| match images[index] {
            ImageAt::File(path) => fs::metadata(path).ok().filter(|facts| facts.is_file() && facts.len() > 0),
            ImageAt::Record(_) => None,
        },
        |index, facts| {
            if let Some(facts) = facts {
                first[index] = *inodes.entry((facts.dev(), facts.ino())).or_insert(index);
                lengths[index] = facts.len();
            }
            Ok(())
        },
    )?;
    let distinct: Vec<usize> =
        (0..images.len()).filter(|&index| first[index] == index && lengths[index] > 0).collect();
    let by_length = shared(distinct.iter().map(|&index| (lengths[index], index)));
    let tails = hashes(
        images,
        &by_length,
        threads,
        |file, length| {
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
            Ok(())
        },
        &lengths,
    )?;
    let by_tail = shared(tails.into_iter().map(|(index, hash)| ((lengths[index], hash), index)));
    let wholes = hashes(images, &by_tail, threads, |_, _| Ok(()), &lengths)?;
    let mut contents: HashMap<(u64, Hashed), usize> = HashMap::new();
    let mut copy_of: HashMap<usize, usize> = HashMap::new();
    for (index, hash) in wholes {
        let original = *contents.entry((lengths[index], hash)).or_insert(index);
        copy_of.insert(index, original);
    }
    copy_of.extend(copies_of_records(images, threads)?);
    Ok(first.into_iter().map(|index| copy_of.get(&index).copied().unwrap_or(index)).collect())
}

/// For each image the first 64 bits of the sha256 of its file's bytes, or of its pixels if it is one
/// of many in a file; `None` if it cannot be read. `check` is called for each.
///
/// # Errors
/// Those of `check`; no thread can be started.
pub fn content_hashes(
    images: &[ImageAt],
    threads: usize,
    mut check: impl FnMut() -> Result<()>,
) -> Result<Vec<Option<u64>>> {
    let whole = |index: usize| -> Option<Hashed> {
        match images[index] {
            ImageAt::Record(record) => Some(Sha256::digest(record.bytes().ok()?).into()),
            ImageAt::File(path) => sha256(File::open(path).ok()?).ok(),
        }
    };
    let mut found = Vec::with_capacity(images.len());
    for_each_ordered(images.len(), threads, WINDOW, whole, |_, hash| {
        check()?;
        found.push(hash.map(|hash| u64::from_be_bytes(std::array::from_fn(|byte| hash[byte]))));
        Ok(())
    })?;
    Ok(found)
}

/// For each record of a file of many images, the index of the first one with the same pixels.
fn copies_of_records(images: &[ImageAt], threads: usize) -> Result<HashMap<usize, usize>> {
    let hash = |index: usize| -> Option<Hashed> {
        let ImageAt::Record(record) = images[index] else { return None };
        Some(Sha256::digest(record.bytes().ok()?).into())
    };
    let (mut contents, mut copy_of) = (HashMap::new(), HashMap::new());
    for_each_ordered(images.len(), threads, WINDOW, hash, |index, hash| {
        copy_of.extend(hash.map(|hash| (index, *contents.entry(hash).or_insert(index))));
        Ok(())
    })?;
    Ok(copy_of)
}

/// The indices, ascending, whose key is shared.
fn shared<K: Eq + Hash>(keyed: impl Iterator<Item = (K, usize)>) -> Vec<usize> {
    let mut groups: HashMap<K, Vec<usize>> = HashMap::new();
    for (key, index) in keyed {
        groups.entry(key).or_default().push(index);
    }
    let mut indices: Vec<usize> = groups.into_values().filter(|group| group.len() > 1).flatten().collect();
    indices.sort_unstable();
    indices
}

/// sha256 of the files at `indices`, from the position set by `seek` to the end; unreadable files
/// are left out.
fn hashes(
    images: &[ImageAt],
    indices: &[usize],
    threads: usize,
    seek: impl Fn(&mut File, u64) -> io::Result<()> + Sync,
    lengths: &[u64],
) -> Result<Vec<(usize, Hashed)>> {
    let hash = |position: usize| -> io::Result<Hashed> {
        let index = indices[position];
        // Only files get a length here.
        let ImageAt::File(path) = images[index] else { return Err(io::ErrorKind::InvalidInput.into()) };
        let mut file = File::open(path)?;
        seek(&mut file, lengths[index])?;
        sha256(file)
    };
    let mut found = Vec::with_capacity(indices.len());
    for_each_ordered(indices.len(), threads, WINDOW, hash, |position, hash| {
        found.extend(hash.ok().map(|hash| (indices[position], hash)));
        Ok(())
    })?;
    Ok(found)
}

/// The sha256 of the rest of a file.
fn sha256(mut file: File) -> io::Result<Hashed> {
    let (mut sha, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(sha.finalize().into()),
            read => sha.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf cat | sha256sum`, and of `dog`.
    #[test]
    fn a_file_is_known_by_the_first_bits_of_its_sha256() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["cat", "missing", "dog"].map(|name| folder.path().join(name));
        for path in [&paths[0], &paths[2]] {
            fs::write(path, path.file_name().unwrap().as_encoded_bytes()).unwrap();
        }
        let images: Vec<ImageAt> = paths.iter().map(ImageAt::from).collect();
        let mut checked = 0;
        let hashes = content_hashes(&images, 2, || {
            checked += 1;
            Ok(())
        });
        assert_eq!(hashes.unwrap(), [Some(0x77af_778b_51ab_d4a3), None, Some(0xcd63_57ef_dd96_6de8)]);
        assert_eq!(checked, 3);
    }
    use crate::preprocess::{Bytes, Channels, Packed, Record};

    #[test]
    fn copies_are_found_by_content_alone() {
        let folder = tempfile::tempdir().unwrap();
        let long = vec![7u8; 10_000];
        let mut other = long.clone();
        other[0] = 8;
        let files: Vec<(&str, &[u8])> = vec![
            ("a", b"cat"),
            ("b", b"dog"),
            ("c", b"cat"),
            ("long", &long),
            // Same length and end, but not the same.
            ("other", &other),
            ("copy", &long),
            ("empty", b""),
            ("void", b""),
        ];
        let mut paths: Vec<_> = files.iter().map(|(name, _)| folder.path().join(name)).collect();
        for (path, (_, bytes)) in paths.iter().zip(&files) {
            fs::write(path, bytes).unwrap();
        }
        paths.push(folder.path().join("missing"));
        paths.push(folder.path().join("link"));
        std::os::unix::fs::symlink(folder.path().join("other"), &paths[9]).unwrap();
        paths.push(folder.path().to_path_buf());
        let mut images: Vec<ImageAt> = paths.iter().map(ImageAt::from).collect();
        // Two of three records are the same, and the same as a file.
        let bytes = Bytes::Memory(b"catdogcat".to_vec());
        let (path, channels) = ("x.bin".into(), Channels::Planes);
        let packed = Packed { path, bytes, start: 0, stride: 3, size: (1, 1), channels };
        let packed = std::sync::Arc::new(packed);
        let records: Vec<Record> = (0..4).map(|index| Record::new(&packed, index)).collect();
        images.extend(records.iter().map(ImageAt::Record));
        for threads in [1, 3] {
            let first = first_of_each_content(&images, threads).unwrap();
            assert_eq!(first, [0, 1, 0, 3, 4, 3, 6, 7, 8, 4, 10, 11, 12, 11, 14]);
        }
    }
}
