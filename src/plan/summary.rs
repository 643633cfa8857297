//! The plan in a few lines for a person: findings, decisions, and reasons.

use super::defaults::passes_of_a_step;
use super::fit;
use super::{
    Candidate, OptimizerSettings, Plan, ScheduleSettings, Settings, SourceHead, TrainSettings, Training,
};
use crate::device::precision::Precision;
use crate::linear::{UNKNOWN_C, folds};
use crate::recipe::Monitor;
use crate::text::words::{counted, first_few};

impl Plan {
    /// The lines at the head of `tl finetune`, which `tl plan` shows too.
    pub fn lines(&self) -> Vec<String> {
        let settings = &self.settings;
        let mut lines = vec![
            format!("{} · {} · weights {}", settings.model, settings.candidate.method, settings.weights),
            format!("size        {}", settings.strategy.size.line()),
        ];
        lines.extend(fit::line(&settings.preprocessing));
        lines.extend(settings.strategy.similarity.iter().map(|it| format!("similarity  {}", it.line())));
        lines.push(format!("method      {}: {}", settings.candidate.method, settings.reason));
        match &settings.candidate.training {
            Training::Race { race } => lines.extend(race.lines()),
            _ => lines.extend(self.method_lines()),
        }
        lines.extend(self.head_line());
        lines.extend(settings.rival.iter().map(|rival| rival_line(settings, rival)));
        let test = match self.data.test.as_ref().map(Vec::len) {
            Some(test) => format!(", {} to test on at the end", counted(test, "image", "images")),
            None => String::new(),
        };
        lines.push(format!(
            "measured on {} for validation{test}",
            counted(self.data.val.len(), "image", "images")
        ));
        lines.extend(self.cost());
        lines
    }

    /// How the source's own head is used, if it knows classes of this run.
    fn head_line(&self) -> Option<String> {
        let (head, settings) = (self.head?, &self.settings);
        let SourceHead { known, new, of } = head;
        let model = &settings.weights;
        let classes = counted(known + new, "class", "classes");
        let trained = std::iter::once(&settings.candidate).chain(&settings.rival).find_map(Candidate::train);
        let knows = match head.is_the_same() {
            true => format!("{model} has the same {classes}"),
            false => format!("{model} knows {known} of the {classes}"),
        };
        let line = match (&settings.candidate.training, trained) {
            (Training::Race { .. }, _) => {
                format!(
                    "{knows}, and its head may have learnt from what the race holds out: it is not taken over"
                )
            }
            (_, Some(_)) if settings.candidate.method.is_from_random() => return None,
            (_, Some(train)) if train.source_head.is_some() => match (head.is_the_same(), new) {
                (true, _) => {
                    format!(
                        "that of {model}, which has the same {classes} (`linear_head_first: true` fits a new one)"
                    )
                }
                (false, 0) => {
                    format!("that of {model}: its rows for the {classes}, which are among its {of}")
                }
                _ => format!(
                    "the rows of {model} for {known} of the {classes}, by their names; those of {} begin anew",
                    self.new_classes()
                ),
            },
            (_, Some(_)) if head.is_the_same() => {
                format!("fitted to these images, as the recipe says, though {knows}")
            }
            (_, Some(_)) => {
                format!(
                    "fitted to these images: {knows} (`linear_head_first: false` begins with its rows for them)"
                )
            }
            (_, None) => {
                format!("fitted to these images: {knows}, but the best head for them needs no beginning")
            }
        };
        Some(format!("head        {line}"))
    }

    /// The classes that the source's head does not know.
    fn new_classes(&self) -> String {
        let rows =
            self.opened.as_ref().map(|opened| opened.head_rows(&self.data.classes)).unwrap_or_default();
        let new = rows.iter().zip(&self.data.classes).filter(|(row, _)| row.is_none());
        first_few(&new.map(|(_, class)| class.as_str()).collect::<Vec<_>>())
    }

    /// Description of the method.
    pub fn method_lines(&self) -> [String; 2] {
        let settings = &self.settings;
        let training = match &settings.candidate.training {
            Training::Gradient { train, .. } => {
                format!("training    {}", training(train, self.data.train.len()))
            }
            Training::Heads { linear } => format!(
                "training    logistic regression (Newton's method), its strength {}",
                match linear.c {
                    Some(c) => format!("C = {c}, as the recipe says"),
                    None => match folds(&self.data.counts(), linear.folds) {
                        Some(_) => {
                            format!(
                                "chosen by {}-fold cross-validation inside the training images",
                                linear.folds
                            )
                        }
                        None => format!("C = {UNKNOWN_C}, as no class has two images to choose it by"),
                    },
                }
            ),
            Training::Race { .. } => String::new(),
        };
        [format!("stages      {}", stages(settings)), training]
    }

    /// Expected duration, if the speed of the network was measured.
    fn cost(&self) -> Option<String> {
        let (rate, settings) = (self.rate?, &self.settings);
        let measured = self.data.val.len() + self.data.test.as_ref().map_or(0, Vec::len);
        let train = self.data.train.len();
        let passes = |candidate: &Candidate| match candidate.train() {
            None => (train + measured) as f64,
            Some(training) => {
                let step = passes_of_a_step(candidate.method);
                let epochs = training.epochs as f64;
                epochs * (step * train as f64 + self.data.val.len() as f64) + measured as f64
            }
        };
        let passes: f64 = std::iter::once(&settings.candidate).chain(&settings.rival).map(passes).sum();
        Some(format!(
            "time        about {} ({rate:.0} images/s through the network on {})",
            duration(passes / rate),
            counted(settings.threads, "thread", "threads")
        ))
    }
}

/// Description of `auto`'s two methods, if its choice has a rival.
fn rival_line(settings: &Settings, rival: &Candidate) -> String {
    let what = match rival.training {
        Training::Heads { .. } => "fitted first, and kept alone if it leaves nothing to gain",
        _ => "trained too, unless the heads leave nothing to gain",
    };
    let kept = match settings.average {
        true => "each counts by what it says of the validation images",
        false => "the better one on the validation images is kept",
    };
    format!("rival       {}: {what}; {kept}", rival.method)
}

fn stages(settings: &Settings) -> String {
    let span = |stages: &[String]| match stages {
        [] => String::new(),
        [single] => single.clone(),
        [first, .., last] => format!("{first} to {last}"),
    };
    let candidate = &settings.candidate;
    let (frozen, trained) = (span(&candidate.frozen_stages), span(&candidate.trained_stages));
    match candidate.linear() {
        Some(linear) if !linear.stages.is_empty() => {
            format!(
                "a head on each of {} and on all of them{}; the network stays as it is",
                linear.stages.join(", "),
                if linear.average { ", averaged" } else { "" }
            )
        }
        Some(_) => "a new head on the features; the network stays as it is".into(),
        None if frozen.is_empty() => "all are trained".into(),
        None => format!("{trained} and the head are trained; {frozen} stay as they are"),
    }
}

fn training(train: &TrainSettings, images: usize) -> String {
    let optimizer = match train.optimizer {
        OptimizerSettings::Sgd { momentum, .. } => format!("SGD with momentum {momentum}"),
        OptimizerSettings::AdamW => "AdamW".into(),
    };
    let schedule = match train.schedule {
        ScheduleSettings::Constant => "constant",
        ScheduleSettings::Step { .. } => "in steps",
        ScheduleSettings::Cosine => "falling as a cosine",
        ScheduleSettings::Plateau { .. } => "cut when validation stalls",
    };
    let head = match (&train.linear_head, train.head_lr == train.lr) {
        (Some(_), _) => ", from a head that is fitted first".into(),
        (None, true) => String::new(),
        (None, false) if train.source_head.is_some() => format!(" ({} for the head)", train.head_lr),
        (None, false) => format!(" ({} for the new head)", train.head_lr),
    };
    let steps = train.steps(images);
    let early = match train.early_stopping {
        None => String::new(),
        Some(patience) => {
            format!(", ended after {} without a better one", counted(patience, "epoch", "epochs"))
        }
    };
    let kept = match train.monitor {
        Monitor::Accuracy => String::new(),
        other => format!(", the epoch with the best validation {other} is kept"),
    };
    let numbers = match train.precision {
        Precision::Fp32 => String::new(),
        lower => format!(", in {lower}"),
    };
    format!(
        "{} of {}, {optimizer}, learning rate {}{head}, {schedule}{numbers}{early}{kept}",
        counted(train.epochs, "epoch", "epochs"),
        counted(steps, "step", "steps"),
        train.lr
    )
}

fn duration(seconds: f64) -> String {
    match seconds {
        ..1. => "a second".into(),
        ..90. => format!("{seconds:.0} s"),
        ..5400. => format!("{:.0} min", seconds / 60.),
        _ => format!("{:.1} h", seconds / 3600.),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_unit_of_their_size() {
        let cases = [(0.3, "a second"), (42.4, "42 s"), (600., "10 min"), (9000., "2.5 h")];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
    }
}
