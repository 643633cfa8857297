//! The pictures of the page: mistakes, suspected labels, and the data as the network sees it.

use std::cmp::Reverse;
use std::collections::HashSet;

use maud::{Markup, html};

use super::thumbnail::Thumbnail;
use crate::data::Sample;
use crate::error::Result;
use crate::preprocess::{Augmentation, DecodeLimits, DrawKey, Preprocessing, RgbImage};
use crate::stats::labels::suspected;
use crate::stats::scores::{Answer, Scores};
use crate::text::words::counted;

/// Wrong predictions that are shown, and suspected labels.
const WRONG: usize = 24;
const SUSPECTED: usize = 12;
/// Pictures of training images, over all classes, and of each class at most.
const EXAMPLES: usize = 48;
const OF_A_CLASS: usize = 4;
/// Training images that are shown augmented, and the views of each.
const AUGMENTED: usize = 2;
const VIEWS: u64 = 5;

/// Reads images for the page.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// The network's input.
    pub preprocessing: &'a Preprocessing,
    /// What is decoded.
    pub limits: DecodeLimits,
}

/// The map of what spoke for a class, over the pixels that a network sees; `None` where it has none.
pub type HeatMap<'a> = dyn Fn(&RgbImage, usize) -> Result<Option<RgbImage>> + 'a;

/// An image whose prediction is not its label.
#[derive(Clone, Debug)]
pub struct Wrong {
    name: String,
    truth: String,
    prediction: String,
    /// The probability of the prediction.
    confidence: f32,
    /// Absent where the image can no longer be read.
    picture: Option<Thumbnail>,
    /// What spoke for the prediction.
    heat: Option<Thumbnail>,
}

/// Wrong predictions in pictures.
#[derive(Clone, Debug, Default)]
pub struct Mistakes {
    /// The number of wrong predictions.
    wrong: usize,
    /// Of images whose label may be wrong, the most suspicious first, and their number.
    suspected: Vec<Wrong>,
    suspects: usize,
    /// The others, the surest first.
    surest: Vec<Wrong>,
}

impl Mistakes {
    /// Of `samples`, whose `scores` are in the same order.
    ///
    /// # Errors
    /// Those of `heat`.
    pub fn of(
        samples: &[Sample],
        scores: &Scores,
        classes: &[String],
        reader: Reader,
        heat: &HeatMap,
    ) -> Result<Self> {
        let answers: Vec<Answer> = scores.answers().collect();
        let doubted = suspected(scores);
        let wrong: Vec<usize> = (0..answers.len()).filter(|&image| !answers[image].right).collect();
        let apart: HashSet<usize> = doubted.iter().copied().collect();
        let mut surest: Vec<usize> = wrong.iter().copied().filter(|image| !apart.contains(image)).collect();
        surest.sort_by(|&a, &b| answers[b].confidence.total_cmp(&answers[a].confidence).then(a.cmp(&b)));
        let shown = |image: usize| -> Result<Wrong> {
            let (sample, Answer { class: prediction, confidence, .. }) = (&samples[image], answers[image]);
            let pixels = reader.preprocessing.read_eval(sample.image(), reader.limits).ok();
            let heat = pixels.as_ref().map(|pixels| heat(pixels, prediction)).transpose()?.flatten();
            Ok(Wrong {
                name: sample.name.clone(),
                truth: classes[sample.label].clone(),
                prediction: classes[prediction].clone(),
                confidence,
                picture: pixels.as_ref().map(Thumbnail::of).transpose()?,
                heat: heat.as_ref().map(Thumbnail::of).transpose()?,
            })
        };
        let all = |images: &[usize], most: usize| -> Result<Vec<Wrong>> {
            images.iter().take(most).map(|&image| shown(image)).collect()
        };
        Ok(Mistakes {
            wrong: wrong.len(),
            suspects: doubted.len(),
            suspected: all(&doubted, SUSPECTED)?,
            surest: all(&surest, WRONG)?,
        })
    }

    /// The number of labels that may be wrong.
    pub fn suspects(&self) -> usize {
        self.suspects
    }

    pub(super) fn section(&self, part: &str) -> Markup {
        html! {
            @if !self.suspected.is_empty() {
                h2 #labels { "Labels to look at" }
                p.soft {
                    (counted(self.suspects, "image", "images")) " of the " (part) " images, the most suspicious first: \
                     another class is fifty times as likely as their label, which may be wrong."
                }
                (pictures(&self.suspected))
            }
            @if !self.surest.is_empty() {
                h2 #mistakes { "Mistakes, the surest first" }
                p.soft {
                    (self.surest.len()) " of " (self.wrong) " wrong answers on " (part) " images"
                    @if self.surest.iter().any(|it| it.heat.is_some()) {
                        "; beside each, warm where it spoke for the wrong class (Grad-CAM)"
                    }
                    "."
                }
                (pictures(&self.surest))
            }
        }
    }
}

fn pictures(images: &[Wrong]) -> Markup {
    html! {
        .pictures {
            @for image in images {
                figure {
                    .pair {
                        (picture(image.picture.as_ref(), &image.name))
                        @if let Some(heat) = &image.heat { (picture(Some(heat), "heat map")) }
                    }
                    figcaption title=(image.name) {
                        b.good { (image.truth) } br;
                        span.bad { (image.prediction) } " " (format!("{:.2}", image.confidence)) br;
                        code { (file_name(&image.name)) }
                    }
                }
            }
        }
    }
}

fn picture(thumbnail: Option<&Thumbnail>, name: &str) -> Markup {
    html! {
        @match thumbnail {
            Some(picture) => img src=(picture.uri()) alt=(name) width="96" height="96";,
            None => span.missing { "no longer readable" },
        }
    }
}

fn file_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// Training images in pictures.
#[derive(Clone, Debug, Default)]
pub struct Examples {
    /// Class, number of training images, a few of them.
    classes: Vec<(String, usize, Vec<Thumbnail>)>,
    /// An image, and random views of it.
    augmented: Vec<Vec<Thumbnail>>,
}

impl Examples {
    /// Of `train`, as the network sees it in evaluation and, with `augmentation`, in training.
    ///
    /// # Errors
    /// If a picture cannot be made; what cannot be read is left out.
    pub fn of(
        train: &[Sample],
        classes: &[String],
        reader: Reader,
        augmentation: Option<&Augmentation>,
        seed: u64,
    ) -> Result<Self> {
        let mut of_class: Vec<Vec<&Sample>> = vec![Vec::new(); classes.len()];
        train.iter().for_each(|sample| of_class[sample.label].push(sample));
        let read =
            |sample: &&Sample| Thumbnail::read(sample.image(), reader.preprocessing, reader.limits).ok();
        let each = (EXAMPLES / classes.len().max(1)).clamp(1, OF_A_CLASS);
        // The largest and the smallest classes, where there are too many for all.
        let mut order: Vec<usize> = (0..classes.len()).collect();
        if classes.len() > EXAMPLES {
            order.sort_by_key(|&class| (Reverse(of_class[class].len()), class));
            order.drain(EXAMPLES / 2..classes.len() - EXAMPLES / 2);
        }
        let row = |&class: &usize| {
            let images = &of_class[class];
            // Spread over the class, as neighbours in a folder are often alike.
            let step = images.len().div_ceil(each).max(1);
            let pictures = images.iter().step_by(step).filter_map(read).collect();
            (classes[class].clone(), images.len(), pictures)
        };
        let augmented = match augmentation.filter(|it| !it.is_none()) {
            None => Vec::new(),
            Some(augmentation) => augmented(train, reader, augmentation, seed)?,
        };
        Ok(Examples { classes: order.iter().map(row).collect(), augmented })
    }

    pub(super) fn section(&self) -> Markup {
        html! {
            @if !self.classes.is_empty() {
                h2 #data { "The training images" }
                p.soft { "As the network sees them." }
                .examples {
                    @for (class, images, pictures) in &self.classes {
                        figure {
                            .strip { @for thumbnail in pictures { (picture(Some(thumbnail), class)) } }
                            figcaption { (class) ", " (images) }
                        }
                    }
                }
            }
            @if !self.augmented.is_empty() {
                p.soft { "An image, and as it is seen while learning:" }
                @for row in &self.augmented {
                    .strip { @for thumbnail in row { (picture(Some(thumbnail), "augmented")) } }
                }
            }
        }
    }
}

/// The first image of the set and the one in its middle, and random views of them.
fn augmented(
    train: &[Sample],
    reader: Reader,
    augmentation: &Augmentation,
    seed: u64,
) -> Result<Vec<Vec<Thumbnail>>> {
    let Reader { preprocessing, limits } = reader;
    let places = (0..AUGMENTED).map(|row| row * train.len() / AUGMENTED);
    let mut rows = Vec::new();
    for image in places.filter(|&place| place < train.len()) {
        let whole = preprocessing.read_eval(train[image].image(), limits);
        let views = (0..VIEWS).map(|epoch| {
            let key = DrawKey { seed, epoch, image: image as u64 };
            Ok(preprocessing.read_train(augmentation, train[image].image(), limits, key)?.pixels)
        });
        let pixels: Result<Vec<RgbImage>> = std::iter::once(whole).chain(views).collect();
        if let Ok(pixels) = pixels {
            rows.push(pixels.iter().map(Thumbnail::of).collect::<Result<_>>()?);
        }
    }
    Ok(rows)
}
