//! Groups of stages: the steps in which learning rates decay and stages are unfrozen.

use std::ops::Range;

use super::{Network, Var};

/// Consecutive stages that are treated alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageGroup {
    /// Its name: `layer4`, or `layer4.1` if only that is trained.
    pub name: String,
    /// Its stages.
    pub stages: Range<usize>,
}

impl Network {
    /// The trained stages in groups, first to last: stages with the same name up to the first dot,
    /// such as `layer4.0` and `layer4.1`. So a network of fifty blocks has a handful of groups, and
    /// a rate that falls from group to group does not vanish. In a network whose blocks are all in
    /// one group (vision transformers) each block is one.
    pub fn trained_groups(&self) -> Vec<StageGroup> {
        let group_of = |name: &str| name.split('.').next().unwrap_or_default().to_string();
        let all = runs(self.stage_names().map(group_of));
        let blocks = all.iter().filter(|(_, stages)| stages.len() > 1).count();
        let all = match blocks {
            1 => self.stage_names().map(str::to_string).zip((0..).map(|i| i..i + 1)).collect(),
            _ => all,
        };
        let trained = all.into_iter().filter(|(_, stages)| stages.end > self.frozen);
        trained
            .map(|(name, stages)| {
                let kept = stages.start.max(self.frozen)..stages.end;
                let name = match kept == stages {
                    true => name,
                    false => self.span_name(kept.clone()),
                };
                StageGroup { name, stages: kept }
            })
            .collect()
    }

    /// `layer4.0`, or `conv1 to layer3.1`; empty for no stage.
    pub fn span_name(&self, stages: Range<usize>) -> String {
        let name = |index: usize| self.stages[index].name.as_str();
        match stages.len() {
            0 => String::new(),
            1 => name(stages.start).into(),
            _ => format!("{} to {}", name(stages.start), name(stages.end - 1)),
        }
    }

    /// The parameters that training updates, with the index of their stage; `None` for those of the
    /// head and of auxiliary classifiers. Parameters between the last stage and the classifier
    /// count to that stage.
    pub fn trained_by_stage(&self) -> impl Iterator<Item = (&Var, Option<usize>)> {
        let first = self.first_trained_var();
        let stage_of = |index: usize| {
            let stage = self.stages.iter().position(|stage| index < stage.vars.end);
            stage.or(self.stages.len().checked_sub(1))
        };
        self.vars
            .iter()
            .enumerate()
            .skip(first)
            .filter(|(_, var)| var.role.is_parameter())
            .map(move |(index, var)| {
                (var, if self.head.vars.contains(&index) { None } else { stage_of(index) })
            })
            .chain(self.auxiliary_vars().filter(|var| var.role.is_parameter()).map(|var| (var, None)))
    }
}

/// Runs of equal names, with their ranges.
fn runs(names: impl Iterator<Item = String>) -> Vec<(String, Range<usize>)> {
    let mut runs: Vec<(String, Range<usize>)> = Vec::new();
    for (index, name) in names.enumerate() {
        match runs.last_mut() {
            Some((last, stages)) if *last == name => stages.end = index + 1,
            _ => runs.push((name, index..index + 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use crate::models::{Fill, Network, find};

    fn groups(name: &str, frozen: usize) -> Vec<String> {
        let mut network = Network::new(find(name).unwrap(), 2, Device::Cpu, Fill::Shapes).unwrap();
        network.freeze(frozen).unwrap();
        network.trained_groups().into_iter().map(|group| group.name).collect()
    }

    #[test]
    fn blocks_of_a_layer_are_a_group_and_a_transformers_are_each_their_own() {
        assert_eq!(groups("resnet50", 0), ["conv1", "layer1", "layer2", "layer3", "layer4"]);
        // Within a group only trained stages count: conv1, 3 + 4 + 6 blocks, then the first of
        // layer4.
        assert_eq!(groups("resnet50", 14), ["layer4"]);
        assert_eq!(groups("resnet50", 15), ["layer4.1 to layer4.2"]);
        assert_eq!(groups("resnet50", 16), ["layer4.2"]);
        assert_eq!(groups("resnet50", 17), [""; 0]);
        assert_eq!(groups("vit_b_16", 10), ["encoder.9", "encoder.10", "encoder.11"]);
        assert_eq!(groups("alexnet", 4), ["conv5", "fc6", "fc7"]);
    }

    #[test]
    fn every_trained_parameter_has_a_stage_that_is_trained_or_is_the_heads() {
        for name in ["resnet18", "vit_b_16", "convnext_tiny", "densenet121", "swin_t", "squeezenet1_1"] {
            let mut network = Network::new(find(name).unwrap(), 2, Device::Cpu, Fill::Shapes).unwrap();
            for frozen in [0, network.stage_count() - 1, network.stage_count()] {
                network.freeze(frozen).unwrap();
                let by_stage: Vec<_> = network.trained_by_stage().collect();
                let plain: Vec<_> = network.trained().collect();
                assert_eq!(by_stage.len(), plain.len());
                for ((var, stage), (same, is_head)) in by_stage.into_iter().zip(plain) {
                    assert_eq!(var.key, same.key);
                    assert_eq!(stage.is_none(), is_head, "{name}: {}", var.key);
                    assert!(stage.is_none_or(|stage| stage >= frozen.min(network.stage_count() - 1)));
                }
            }
        }
    }
}
