//! `MODEL_CARD.md`: what a model is for and how good it is, with the fields that the Hugging Face hub
//! reads (its "Model Cards" documentation; Mitchell et al., "Model Cards for Model Reporting", 2019).

use serde_yaml::Value;

use super::Report;
use super::html::percent;
use super::judged::Judged;
use crate::stats::significance::Interval;
use crate::text::words::{counted, harmless};

/// Classes that are named; the model file has all.
const NAMED: usize = 50;

impl Report {
    /// The card, as Markdown behind a header of YAML. `data` is a name for the images.
    pub fn model_card(&self, judged: &Judged, data: &str) -> String {
        let header = serde_yaml::to_string(&self.card_header(judged, data)).unwrap_or_default();
        let body =
            [self.card_about(data), self.card_use(), self.card_figures(judged), self.card_limits(judged)];
        format!(
            "---\n{header}---\n\n# {}\n\n{}",
            plain(&format!("{data}, by {}", self.model)),
            body.join("\n")
        )
    }

    fn card_header(&self, judged: &Judged, data: &str) -> Value {
        let metric =
            |kind: &str, value: f64| serde_json::json!({"type": kind, "value": (value * 1e4).round() / 1e4});
        let mut metrics = vec![metric("accuracy", judged.metrics.accuracy)];
        if let Some(figures) = &judged.metrics.figures {
            metrics.push(serde_json::json!({
                "type": "f1", "name": "macro F1", "value": (figures.macro_f1 * 1e4).round() / 1e4
            }));
        }
        let split = if judged.part == "test" { "test" } else { "validation" };
        let header = serde_json::json!({
            "library_name": "transferkit",
            "metrics": ["accuracy", "f1"],
            "model-index": [{
                "name": format!("{data} {}", self.model),
                "results": [{
                    "dataset": {"name": data, "split": split, "type": "imagefolder"},
                    "metrics": metrics,
                    "task": {"type": "image-classification"},
                }],
            }],
            "pipeline_tag": "image-classification",
            "tags": ["image-classification", "torchvision", self.model],
        });
        serde_yaml::to_value(header).unwrap_or_default()
    }

    fn card_about(&self, data: &str) -> String {
        let names: Vec<String> = self.classes.iter().take(NAMED).map(|class| plain(class)).collect();
        let more = match self.classes.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!(
            "An image classifier: `{}` of torchvision with the weights `{}`, method `{}`, trained on {} of {}.\n\n\
             {}: {}{more}.\n",
            plain(&self.model),
            plain(&self.weights),
            self.method,
            counted(self.train.images, "image", "images"),
            plain(data),
            counted(self.classes.len(), "Class", "Classes"),
            names.join(", "),
        )
    }

    fn card_use(&self) -> String {
        "## Use\n\n```sh\ntl predict --model model.safetensors PATH...\n```\n\nThe weights have torchvision's keys: \
         `load_state_dict(load_file(\"model.safetensors\"), strict=True)`; the metadata entry `tl` has the classes and \
         the preprocessing.\n"
            .into()
    }

    fn card_figures(&self, judged: &Judged) -> String {
        let metrics = judged.metrics;
        let Interval(low, high) = metrics.interval;
        let mut rows = vec![(
            "accuracy".to_string(),
            format!("{} ({} to {})", percent(metrics.accuracy), percent(low), percent(high)),
        )];
        if let Some(figures) = &metrics.figures {
            rows.push(("balanced accuracy".into(), percent(figures.balanced_accuracy)));
            rows.push(("macro F1".into(), format!("{:.4}", figures.macro_f1)));
            rows.push(("log-loss".into(), format!("{:.4}", figures.log_loss)));
            rows.push(("expected calibration error".into(), percent(figures.ece)));
        }
        let rows: Vec<String> =
            rows.into_iter().map(|(name, value)| format!("| {name} | {value} |\n")).collect();
        let verdict = judged.verdict().map(|sentence| plain(&sentence)).join(" ");
        format!(
            "## How good\n\n| on {} {} images | |\n| --- | --- |\n{}\n{verdict}\n",
            metrics.images,
            judged.part,
            rows.concat(),
        )
    }

    fn card_limits(&self, judged: &Judged) -> String {
        let chosen = match judged.part {
            "test" => "The test images had no part in training or in any choice.",
            _ => {
                "There was no test set: the validation images also chose the model, and flatter it a little."
            }
        };
        format!(
            "## Limits\n\n- It answers with one of its classes, whatever it is shown; \
             `--reject` keeps it from answering to what is unlike its images, not always.\n- The figures hold for images like \
             those that were measured: the same cameras, places and time.\n- {chosen}\n- The licence is yours to choose; \
             the pretrained weights and the images have theirs.\n"
        )
    }
}

/// Text from outside that must not become Markdown.
fn plain(text: &str) -> String {
    let mut safe = String::new();
    for letter in harmless(text).replace(['\n', '\r'], " ").chars() {
        if matches!(letter, '<' | '>' | '[' | ']' | '`' | '*' | '|' | '#' | '\\' | '&' | '!' | '_') {
            safe.push('\\');
        }
        safe.push(letter);
    }
    safe
}
