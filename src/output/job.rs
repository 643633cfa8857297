//! Identity of a job: two runs with equal jobs and equal images write the same rows.

use serde::{Deserialize, Serialize};

/// Settings of a run, as names and values, in the order in which differences are reported.
///
/// It excludes the images (their names are hashed as they are done) and settings that change only
/// rounding: batch size, threads, device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobIdentity(Vec<(String, String)>);

impl JobIdentity {
    /// A job of a command of this version of `tl`.
    pub fn new(command: &str) -> Self {
        JobIdentity::default().with("command", command).with("version of tl", env!("CARGO_PKG_VERSION"))
    }

    /// Adds a setting that the rows depend on.
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.0.push((name.into(), value.to_string()));
        self
    }

    /// The differences of `now`, a phrase each.
    pub fn differences(&self, now: &JobIdentity) -> Vec<String> {
        let find = |job: &JobIdentity, name: &str| {
            job.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
        };
        let shown = |value: Option<String>| value.unwrap_or_else(|| "absent".into());
        let lost = self.0.iter().filter(|(name, _)| find(now, name).is_none());
        now.0
            .iter()
            .chain(lost)
            .map(|(name, _)| (name, find(self, name), find(now, name)))
            .filter(|(_, was, is)| was != is)
            .map(|(name, was, is)| format!("the {name} was {}, is {}", shown(was), shown(is)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_by_name() {
        let job = JobIdentity::new("extract").with("stage", "layer3").with("shard", "0/2");
        assert!(job.differences(&job.clone()).is_empty());
        let other = JobIdentity::new("extract").with("stage", "layer4").with("max-pixels", 9);
        assert_eq!(
            job.differences(&other),
            [
                "the stage was layer3, is layer4",
                "the max-pixels was absent, is 9",
                "the shard was 0/2, is absent"
            ]
        );
    }
}
