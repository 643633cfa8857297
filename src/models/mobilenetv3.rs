//! mobilenetv3

use super::Architecture;

pub(super) const TABLE: &[Architecture] = &[];
