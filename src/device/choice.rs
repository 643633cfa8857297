//! `device`, and `--device`, as typed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `device`, and `--device`: the device to compute on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The first GPU if there is one, otherwise the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU, counted from 0. `cuda` is `cuda:0`.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, String> {
        let index = typed.strip_prefix("cuda:").filter(|n| !n.is_empty() && n.len() <= 3);
        match (typed, index) {
            ("auto", _) => Ok(DeviceChoice::Auto),
            ("cpu", _) => Ok(DeviceChoice::Cpu),
            ("cuda", _) => Ok(DeviceChoice::Cuda(0)),
            (_, Some(digits)) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map(DeviceChoice::Cuda).map_err(|_| expected_device())
            }
            _ => Err(expected_device()),
        }
    }
}

fn expected_device() -> String {
    "expected one of auto, cpu, cuda, cuda:N (cuda:0 is the first GPU)".into()
}

impl TryFrom<String> for DeviceChoice {
    type Error = String;

    fn try_from(typed: String) -> Result<Self, String> {
        typed.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(device: DeviceChoice) -> String {
        device.to_string()
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}
