//! squeezenet

use super::Architecture;

pub(super) const TABLE: &[Architecture] = &[];
