//! vision_transformer

use super::Architecture;

pub(super) const TABLE: &[Architecture] = &[];
