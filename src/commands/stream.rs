//! The loop of `extract` and `predict` over any number of images: inputs are read one after the
//! other, rows are written in the same order, and a stopped run resumes after the last row.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::ProgressBar;

use super::terminal::Terminal;
use crate::data::{Given, Input, Inputs};
use crate::error::{Error, Result};
use crate::output::shard::Shard;
use crate::output::{Done, Output, OutputProgress};
use crate::text::path_text::path_text;
use crate::text::words::counted;
use crate::util::digest::Hasher;
use crate::util::signal::Signals;

/// Minimum number of images passed to the network's threads at a time. Their names are held in
/// memory.
const CHUNK: usize = 4096;

/// The images of a run, in order: the shard's part of the listing.
pub struct ImageStream {
    given: Given,
    inputs: Inputs,
    /// Read in advance, so that a command line without images is reported at once.
    first: Option<Input>,
    shard: Shard,
    /// Number of images of the listing so far, including other shards.
    listed: u64,
    /// Number of images of the shard so far.
    taken: u64,
    /// Over the names and labels of these.
    digest: Hasher,
    terminal: Terminal,
    /// Whether the listing is complete.
    complete: bool,
}

impl ImageStream {
    /// Lists as far as the first image.
    ///
    /// # Errors
    /// As [`Inputs::next`].
    pub fn open(given: Given, shard: Shard, terminal: Terminal) -> Result<Self> {
        let mut inputs = Inputs::of(&given);
        let first = inputs.next()?;
        Ok(ImageStream {
            given,
            inputs,
            first,
            shard,
            listed: 0,
            taken: 0,
            digest: Hasher::new(),
            terminal,
            complete: false,
        })
    }

    /// The given lists of paths, in words.
    pub fn lists(&self) -> Option<String> {
        self.given.lists()
    }

    /// The next image of the shard. At the end of the listing, its notes are shown.
    fn next(&mut self) -> Result<Option<Input>> {
        while !self.complete {
            let next = match self.first.take() {
                Some(first) => Some(first),
                None => self.inputs.next()?,
            };
            let Some(input) = next else {
                self.complete = true;
                self.inputs.notes().iter().for_each(|note| self.terminal.say(format!("note: {note}")));
                break;
            };
            self.listed += 1;
            if self.shard.takes(self.listed - 1) {
                self.taken += 1;
                return Ok(Some(input));
            }
        }
        Ok(None)
    }

    /// Skips images that are done, if they are those of `done`.
    ///
    /// # Errors
    /// [`Error::Usage`] if they are others.
    pub fn pass(&mut self, done: &OutputProgress, out: &std::path::Path) -> Result<()> {
        while self.taken < done.images {
            match self.next()? {
                Some(input) => digest(&mut self.digest, &input),
                None => break,
            }
        }
        if self.taken == done.images && (done.images == 0 || self.digest.hex() == done.fingerprint) {
            return Ok(());
        }
        Err(Error::usage(format!(
            "cannot go on with {}: {} done, and these are not the first ones of the images that are listed now, \
             because some were added, removed or renamed, or the paths are given in another way; to start over, \
             leave `--resume` out",
            path_text(out),
            counted(done.images as usize, "image is", "images are"),
        )))
    }

    /// Reports that an output is complete, if it contains all images.
    ///
    /// # Errors
    /// [`Error::Usage`] if there are other images or more.
    pub fn same_as(&mut self, done: &OutputProgress, out: &std::path::Path) -> Result<()> {
        self.pass(done, out)?;
        match self.next()? {
            None => {
                self.terminal.say(format!("{} is complete: nothing to do", path_text(out)));
                Ok(())
            }
            Some(input) => Err(Error::usage(format!(
                "{} is complete with {}, and there are more now, the first of them {}; to start over, leave \
                 `--resume` out",
                path_text(out),
                counted(done.images as usize, "image", "images"),
                input.name
            ))),
        }
    }

    /// The next images, up to a multiple of `length`, so that batches do not depend on the start of
    /// the run.
    fn chunk(&mut self, length: u64) -> Result<Vec<Input>> {
        let most = length - self.taken % length;
        let mut chunk = Vec::new();
        while (chunk.len() as u64) < most {
            match self.next()? {
                Some(input) => chunk.push(input),
                None => break,
            }
        }
        Ok(chunk)
    }
}

fn digest(digest: &mut Hasher, input: &Input) {
    for text in [&input.name, &input.label] {
        digest.update(text.as_bytes());
        // No name contains this byte.
        digest.update(&[0]);
    }
}

/// A walk ahead of the work: counts the images for the bar, and finds unreadable folders before
/// hours of work are done.
struct Ahead {
    stop: Arc<AtomicBool>,
    found: Arc<Mutex<Option<Error>>>,
}

impl Ahead {
    fn start(given: Given, shard: Shard, bar: ProgressBar) -> Self {
        let (stop, found) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
        let ahead = Ahead { stop: Arc::clone(&stop), found: Arc::clone(&found) };
        let count = move || {
            let mut inputs = Inputs::of(&given);
            let mut listed = 0;
            while inputs.next()?.is_some() {
                listed += 1;
                if listed % 256 == 0 {
                    if stop.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    bar.set_length(shard.share(listed).max(bar.position()));
                }
            }
            bar.set_length(shard.share(listed));
            bar.set_message("");
            Ok(())
        };
        let walk = move || {
            if let Err(error) = count() {
                *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        };
        // Without a thread there is no count, but everything else works.
        let _ = std::thread::Builder::new().name("listing".into()).spawn(walk);
        ahead
    }

    fn check(&self) -> Result<()> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Takes rows in any order, and writes them in the order of the images.
pub struct Sink<'a, O: Output> {
    state: RefCell<State<O>>,
    ahead: Option<Ahead>,
    signals: &'a Signals,
    bar: ProgressBar,
}

struct State<O: Output> {
    output: O,
    chunk: Rc<Vec<Input>>,
    /// Index in the chunk of the next row to write.
    next: usize,
    /// Rows of the chunk that wait for those before them.
    waiting: BTreeMap<usize, Result<O::Row, String>>,
    images: u64,
    digest: Hasher,
    /// Nothing was written since [`Sink::batch_done`], except failed images.
    at_boundary: bool,
}

impl<O: Output> Sink<'_, O> {
    /// Adds the row of the chunk's image `index`, or the reason it has none.
    pub fn put(&self, index: usize, row: Result<O::Row>) -> Result<()> {
        let state = &mut *self.state.borrow_mut();
        state.waiting.insert(index, row.map_err(|error| reason(&error)));
        self.bar.inc(1);
        let chunk = Rc::clone(&state.chunk);
        while let Some(row) = state.waiting.remove(&state.next) {
            let input = &chunk[state.next];
            // A failed image is in no batch.
            let at_boundary = state.at_boundary && row.is_err();
            state.at_boundary = false;
            state.output.write(input, row)?;
            state.at_boundary = at_boundary;
            digest(&mut state.digest, input);
            state.next += 1;
            state.images += 1;
        }
        Ok(())
    }

    /// Declares that no image waits in an incomplete batch: a run that begins with the next one
    /// would make the same batches, and so the same rows to the last bit.
    pub fn batch_done(&self) -> Result<()> {
        let state = &mut *self.state.borrow_mut();
        if !state.waiting.is_empty() {
            return Ok(());
        }
        state.at_boundary = true;
        let done = state.done();
        state.output.batch_done(done)
    }

    /// The number of images in the list, as far as known from its first chunk: the same for a
    /// resumed run.
    pub fn images(&self) -> usize {
        let state = self.state.borrow();
        (state.images as usize - state.next + state.chunk.len()).min(CHUNK)
    }

    /// Whether to stop: because of a signal, or an unreadable folder.
    pub fn check(&self) -> Result<()> {
        self.signals.check(O::STOPPED)?;
        self.ahead.as_ref().map_or(Ok(()), Ahead::check)
    }
}

impl<O: Output> State<O> {
    fn done(&self) -> Done {
        Done { images: self.images, fingerprint: self.digest.hex() }
    }
}

/// Runs all images through `each`, chunk by chunk, and completes the output. `each` puts a row for
/// every image of the chunk into the sink before it returns.
///
/// # Errors
/// Those of listing, of `each` and of writing, and [`Error::Interrupted`], which tells what a later
/// run can resume.
pub fn run<O: Output>(
    mut images: ImageStream,
    output: O,
    batch_size: usize,
    signals: &Signals,
    bar: ProgressBar,
    each: impl FnMut(&[Input], &Sink<O>) -> Result<()>,
) -> Result<OutputProgress> {
    let length = (batch_size * CHUNK.div_ceil(batch_size)) as u64;
    bar.set_position(images.taken);
    bar.reset_eta();
    let state = State {
        output,
        chunk: Rc::default(),
        next: 0,
        waiting: BTreeMap::new(),
        images: images.taken,
        digest: images.digest.clone(),
        at_boundary: true,
    };
    let mut sink = Sink { state: RefCell::new(state), ahead: None, signals, bar };
    let worked = chunks(&mut images, &mut sink, length, each);
    sink.ahead = None;
    let Sink { state, bar, .. } = sink;
    bar.finish_and_clear();
    let mut state = state.into_inner();
    let done = state.done();
    let error = match worked {
        // The last rows are committed before the output is assembled: the disk may be full.
        Ok(()) => match state.output.commit(done.clone()) {
            Ok(()) => {
                let kept = state.output.kept();
                return state.output.finish(done).map_err(|error| explained(error, kept));
            }
            Err(error) => error,
        },
        Err(error) => {
            if state.at_boundary {
                // The error that ended the work is the one to report.
                let _ = state.output.commit(done);
            }
            error
        }
    };
    Err(explained(error, state.output.kept()))
}

fn chunks<O: Output>(
    images: &mut ImageStream,
    sink: &mut Sink<O>,
    length: u64,
    mut each: impl FnMut(&[Input], &Sink<O>) -> Result<()>,
) -> Result<()> {
    loop {
        let chunk = Rc::new(images.chunk(length)?);
        if chunk.is_empty() {
            return sink.check();
        }
        if images.complete {
            sink.bar.set_length(images.taken);
            sink.bar.set_message("");
        } else if sink.ahead.is_none() {
            sink.bar.set_length(images.taken);
            sink.bar.set_message("+");
            sink.ahead = Some(Ahead::start(images.given.clone(), images.shard, sink.bar.clone()));
        }
        let state = sink.state.get_mut();
        (state.chunk, state.next) = (Rc::clone(&chunk), 0);
        each(&chunk, sink)?;
        sink.batch_done()?;
    }
}

/// Adds to an error what was kept.
fn explained(error: Error, kept: Option<String>) -> Error {
    match (error, kept) {
        (error, None) => error,
        (Error::Interrupted { signal, .. }, Some(kept)) => {
            let message = format!("stopped: {kept}; to go on, run the same command with `--resume`");
            Error::Interrupted { signal, message }
        }
        (error, Some(kept)) => {
            Error::run(format!("{error}\n{kept}; to go on, run the same command with `--resume`"))
        }
    }
}

/// The text of an error without its file's name, which is shown beside it.
fn reason(error: &Error) -> String {
    match error {
        Error::File { message, .. } => message.clone(),
        other => other.to_string(),
    }
}
