//! The keys of files that an older version or another library wrote, and what they are called here.

use std::collections::HashMap;

use super::vars::{Fill, Vars};
use super::{Architecture, Chain, DEFAULT_SIDE};
use crate::error::Result;

/// From keys in files to those of a network.
pub struct Keys {
    /// Parts of keys.
    parts: &'static [(&'static str, &'static str)],
    /// Whole keys.
    whole: HashMap<String, String>,
}

impl Keys {
    /// What is known for an architecture.
    pub fn of(architecture: &Architecture) -> Result<Self> {
        let whole = match architecture.also_keyed {
            Some(other) => listed(other)?.into_iter().zip(listed(architecture.build)?).collect(),
            None => HashMap::new(),
        };
        Ok(Keys { parts: architecture.renames, whole })
    }

    /// The network's key for one in a file.
    pub fn current(&self, key: &str) -> String {
        match self.whole.get(key) {
            Some(current) => current.clone(),
            None => self.parts.iter().fold(key.to_string(), |key, (old, new)| key.replace(old, new)),
        }
    }
}

/// The keys of a network, in order.
fn listed(build: fn(&mut Chain) -> Result<()>) -> Result<Vec<String>> {
    let vars = Vars::new(tch::Device::Cpu, Fill::Shapes);
    build(&mut Chain::new(&vars, 1, DEFAULT_SIDE))?;
    Ok(vars.into_inner().into_iter().map(|var| var.key).collect())
}
