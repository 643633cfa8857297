//! Maps the keys of files from older versions or other libraries to those used here.

use std::collections::HashMap;

use super::vars::{Fill, Vars};
use super::{Architecture, Chain, DEFAULT_SIDE};
use crate::error::Result;

/// Map from keys in files to a network's keys.
pub struct Keys {
    /// Parts of keys.
    parts: &'static [(&'static str, &'static str)],
    /// Whole keys.
    whole: HashMap<String, String>,
}

impl Keys {
    /// The known keys of an architecture.
    pub fn of(architecture: &Architecture) -> Result<Self> {
        let whole = match architecture.also_keyed {
            Some(other) => listed(other)?.into_iter().zip(listed(architecture.build)?).collect(),
            None => HashMap::new(),
        };
        Ok(Keys { parts: architecture.renames, whole })
    }

    /// The network's key for a key in a file.
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
