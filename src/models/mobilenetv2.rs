//! mobilenetv2

use super::Architecture;

pub(super) const TABLE: &[Architecture] = &[];
