//! Kinds of PATHs on a command line: images, folders, lists of paths, published data sets.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::list::slashed;
use super::paths::{List, STDIN, is_list};
use super::published::{self, Opened};
use crate::error::{Error, Result};
use crate::text::path_text::{path_text, typed};

/// PATHs after a first look: lists and published sets are read, folders are not.
#[derive(Clone)]
pub struct Given {
    pub(super) sources: Arc<Vec<Source>>,
}

/// Kind of a path.
pub(super) enum Source {
    /// A file, reported as `name`.
    File { path: PathBuf, name: String },
    /// A folder to search; its contents are reported below `shown`.
    Folder { path: PathBuf, shown: PathBuf },
    /// Files of a published set, sorted by path; each is reported below `shown`.
    Set { files: Vec<Arc<Opened>>, shown: PathBuf },
    /// One image of a published set.
    One { file: Arc<Opened>, index: usize, name: String },
    /// A list of paths.
    List(List),
}

impl Given {
    /// Looks at the given paths themselves, not into folders.
    ///
    /// # Errors
    /// [`Error::Usage`] naming every path that does not exist or is neither file nor folder, or an
    /// invalid list; [`Error::File`] for a damaged published set; [`Error::Io`] for a list that
    /// cannot be read.
    pub fn read(paths: &[PathBuf]) -> Result<Given> {
        let (mut sources, mut wrong, mut last) = (Vec::new(), Vec::new(), None);
        let is_stdin = |path: &&PathBuf| path.as_path() == Path::new(STDIN);
        if paths.iter().filter(is_stdin).count() > 1 {
            return Err(Error::usage("`-` is given twice: standard input can be read once"));
        }
        for path in paths {
            if is_stdin(&path) {
                sources.push(Source::List(List::read(path)?));
                continue;
            }
            // As the outputs spell a name that is no UTF-8.
            let path = &typed(path);
            match std::fs::metadata(path) {
                Ok(about) if about.is_file() && is_list(path) => {
                    sources.push(Source::List(List::read(path)?))
                }
                Ok(about) if !about.is_file() && !about.is_dir() => {
                    wrong.push(format!(
                        "{}: expected an image, a folder or a list, found none of them (`-` is a list on \
                         standard input)",
                        path_text(path)
                    ));
                }
                found => match (Source::of(path, path, &mut last)?, found) {
                    // A dangling link exists, and cannot be read.
                    (Source::File { .. }, Err(error)) => {
                        wrong.push(Error::io("read", path)(error).to_string());
                    }
                    (source, _) => sources.push(source),
                },
            }
        }
        match wrong.is_empty() {
            true => Ok(Given { sources: Arc::new(sources) }),
            false => Err(Error::usage(wrong.join("\n"))),
        }
    }

    /// The lists among them, as text: another list is another job.
    pub fn lists(&self) -> Option<String> {
        let lists = self.sources.iter().filter_map(|source| match source {
            Source::List(list) => Some(list.describe()),
            _ => None,
        });
        let lists: Vec<String> = lists.collect();
        (!lists.is_empty()).then(|| lists.join(", "))
    }
}

/// The file of a set that was opened last: lines of a list may name many of its images.
pub(super) type Last = Option<Arc<Opened>>;

impl Source {
    /// The source at `path`, reported as `shown`. A missing path counts as a file: reading it tells
    /// why.
    ///
    /// # Errors
    /// Those of opening a published set.
    pub(super) fn of(path: &Path, shown: &Path, last: &mut Last) -> Result<Source> {
        let about = std::fs::metadata(path);
        if about.as_ref().is_ok_and(|about| about.is_dir()) {
            let (path, shown) = (path.to_path_buf(), shown.to_path_buf());
            return Ok(match published::find(&path)? {
                Some(set) => Source::Set { files: set.open()?.into_iter().map(Arc::new).collect(), shown },
                None => Source::Folder { path, shown },
            });
        }
        let name = slashed(shown);
        if about.is_ok() {
            if let Some(file) = open(path, last)? {
                let shown = shown.parent().unwrap_or(Path::new("")).to_path_buf();
                return Ok(Source::Set { files: vec![file], shown });
            }
        } else if let Some((whole, index)) = numbered(path)
            && let Some(file) = open(&whole, last)?
            && index < file.count()
        {
            return Ok(Source::One { file, index, name });
        }
        Ok(Source::File { path: path.into(), name })
    }
}

/// The file and the number of `data_batch_1.bin#12`.
fn numbered(path: &Path) -> Option<(PathBuf, usize)> {
    let (name, index) = path.file_name()?.to_str()?.rsplit_once('#')?;
    let whole = path.with_file_name(name);
    (index.bytes().all(|byte| byte.is_ascii_digit()) && whole.is_file())
        .then_some((whole, index.parse().ok()?))
}

fn open(path: &Path, last: &mut Last) -> Result<Option<Arc<Opened>>> {
    if last.as_ref().is_none_or(|last| last.path() != path) {
        *last = match published::open_file(path)? {
            Some(file) => Some(Arc::new(file)),
            None => return Ok(None),
        };
    }
    Ok(last.clone())
}
