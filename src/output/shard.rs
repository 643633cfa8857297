//! Shards: a part of the images for each of several processes.
//!
//! Part I of N takes every N-th image of the sorted list, from image I on. So a process can start
//! before the list is complete, the parts have equal length, and large and small images are spread
//! over all of them.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, Result};

/// Parts at most.
const MOST: u64 = 1_000_000;

/// Part `index` of `count`, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: u64,
    count: u64,
}

/// `--shard` as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardChoice {
    /// `I/N`
    Part(Shard),
    /// `auto`: set by torchrun or Slurm.
    Auto,
    /// `auto/N`: the part is the index of a Kubernetes Job.
    AutoOf(u64),
}

impl Shard {
    /// All images.
    pub const WHOLE: Shard = Shard { index: 0, count: 1 };

    /// # Errors
    /// A message if the numbers are invalid.
    pub fn new(index: u64, count: u64) -> Result<Self, String> {
        match (index, count) {
            (_, 0) => Err("there are 0 parts: expected I/N with N at least 1".into()),
            (_, count) if count > MOST => Err(format!("there are {count} parts: expected at most {MOST}")),
            (index, count) if index >= count => Err(format!(
                "there is no part {index} of {count}: parts are counted from 0, so that the last one is {}/{count}",
                count - 1
            )),
            (index, count) => Ok(Shard { index, count }),
        }
    }

    /// Whether the image at `position` of the sorted list, counted from 0, is in this part.
    pub fn takes(&self, position: u64) -> bool {
        position % self.count == self.index
    }

    /// How many of `total` images are in this part.
    pub fn share(&self, total: u64) -> u64 {
        (total + self.count - 1 - self.index) / self.count
    }

    /// The path of this part of an output: `x.npy` → `x-00003-of-00016.npy`.
    pub fn path(&self, path: &Path) -> PathBuf {
        let mut name = path.file_stem().unwrap_or_default().to_os_string();
        name.push(format!("-{:05}-of-{:05}", self.index, self.count));
        if let Some(ending) = path.extension() {
            name.push(".");
            name.push(ending);
        }
        path.with_file_name(name)
    }
}

impl Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for ShardChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unreadable = || "expected I/N (part I of N, from 0), auto or auto/N".to_string();
        let number = |text: &str| -> Result<u64, String> {
            match text.bytes().all(|byte| byte.is_ascii_digit()) {
                true => text.parse().map_err(|_| unreadable()),
                false => Err(unreadable()),
            }
        };
        match text.split_once('/') {
            None if text == "auto" => Ok(ShardChoice::Auto),
            None => Err(unreadable()),
            Some(("auto", count)) => {
                let count = number(count)?;
                Shard::new(0, count).map(|_| ShardChoice::AutoOf(count))
            }
            Some((index, count)) => Ok(ShardChoice::Part(Shard::new(number(index)?, number(count)?)?)),
        }
    }
}

/// A launcher's pair of variables: the index of this process, and the number of processes.
struct Launcher {
    name: &'static str,
    index: &'static str,
    count: &'static str,
}

/// torchrun first: if Slurm starts torchrun, torchrun numbers the processes.
const LAUNCHERS: [Launcher; 2] = [
    Launcher { name: "torchrun", index: "RANK", count: "WORLD_SIZE" },
    Launcher { name: "Slurm", index: "SLURM_PROCID", count: "SLURM_NTASKS" },
];

const JOB_INDEX: &str = "JOB_COMPLETION_INDEX";

impl ShardChoice {
    /// The chosen part, and the environment variables it comes from, if any. `variable` reads the
    /// environment.
    ///
    /// # Errors
    /// [`Error::Usage`] that names the expected variables, and what was found.
    pub fn resolve(&self, variable: impl Fn(&str) -> Option<String>) -> Result<(Shard, Option<String>)> {
        let found = |name: &str| match variable(name) {
            Some(value) => format!("{name} is {value:?}"),
            None => format!("{name} is not set"),
        };
        match *self {
            ShardChoice::Part(shard) => Ok((shard, None)),
            ShardChoice::AutoOf(count) => {
                let index = variable(JOB_INDEX).and_then(|value| value.trim().parse().ok());
                let Some(index) = index else {
                    return Err(Error::usage(format!(
                        "`--shard auto/{count}` needs the index of an indexed Kubernetes Job, a number in \
                         {JOB_INDEX}, and {}",
                        found(JOB_INDEX)
                    )));
                };
                let shard = Shard::new(index, count).map_err(|wrong| {
                    Error::usage(format!("`--shard auto/{count}`: {JOB_INDEX} is {index}, and {wrong}"))
                })?;
                Ok((shard, Some(format!("by {JOB_INDEX}"))))
            }
            ShardChoice::Auto => {
                let pair = |launcher: &Launcher| variable(launcher.index).zip(variable(launcher.count));
                let Some(launcher) = LAUNCHERS.iter().find(|launcher| pair(launcher).is_some()) else {
                    let names = LAUNCHERS.iter().flat_map(|launcher| [launcher.index, launcher.count]);
                    let names: Vec<String> = names.map(found).collect();
                    let job = match variable(JOB_INDEX) {
                        Some(_) => format!(
                            "; in an indexed Kubernetes Job of N, write auto/N ({})",
                            found(JOB_INDEX)
                        ),
                        None => String::new(),
                    };
                    return Err(Error::usage(format!(
                        "`--shard auto` needs RANK and WORLD_SIZE (torchrun) or SLURM_PROCID and SLURM_NTASKS \
                         (Slurm): {}{job}",
                        names.join(", ")
                    )));
                };
                let numbers = pair(launcher).and_then(|(index, count)| {
                    Some((index.trim().parse().ok()?, count.trim().parse().ok()?))
                });
                let (index, count) = (found(launcher.index), found(launcher.count));
                let wrong = |why: String| {
                    Error::usage(format!(
                        "`--shard auto`: {index}, {count}, as {} sets them: {why}",
                        launcher.name
                    ))
                };
                let (index, count) = numbers.ok_or_else(|| wrong("expected two numbers".into()))?;
                let shard = Shard::new(index, count).map_err(wrong)?;
                Ok((shard, Some(format!("by {} and {} ({})", launcher.index, launcher.count, launcher.name))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_is_in_one_part() {
        for count in 1..9 {
            for total in 0..40 {
                let shards: Vec<Shard> = (0..count).map(|index| Shard::new(index, count).unwrap()).collect();
                for position in 0..total {
                    assert_eq!(shards.iter().filter(|shard| shard.takes(position)).count(), 1);
                }
                for shard in shards {
                    let taken = (0..total).filter(|&position| shard.takes(position)).count() as u64;
                    assert_eq!(shard.share(total), taken, "{shard} of {total}");
                }
            }
        }
    }

    #[test]
    fn parts_are_named_after_the_whole() {
        let shard = Shard::new(3, 16).unwrap();
        let path = |path: &str| shard.path(Path::new(path)).display().to_string();
        assert_eq!(path("a/x.y.parquet"), "a/x.y-00003-of-00016.parquet");
        assert_eq!(path("x.npy"), "x-00003-of-00016.npy");
    }

    #[test]
    fn wrong_parts_are_refused() {
        let parse = |text: &str| text.parse::<ShardChoice>();
        assert_eq!(parse("3/16"), Ok(ShardChoice::Part(Shard { index: 3, count: 16 })));
        assert_eq!(parse("auto"), Ok(ShardChoice::Auto));
        assert_eq!(parse("auto/4"), Ok(ShardChoice::AutoOf(4)));
        insta::assert_snapshot!(parse("16/16").unwrap_err(), @"there is no part 16 of 16: parts are counted from 0, so that the last one is 15/16");
        for text in ["0/0", "auto/0"] {
            assert!(parse(text).unwrap_err().contains("0 parts"), "{text}");
        }
        for text in ["a/b", "3", "", "/", "-1/3", "+1/3", "1/2/3", "auto/", "1 / 2", "99999999999999999999/3"]
        {
            assert!(parse(text).unwrap_err().starts_with("expected I/N"), "{text}");
        }
    }

    fn auto(choice: ShardChoice, set: &[(&str, &str)]) -> Result<(Shard, Option<String>), String> {
        let variable =
            |name: &str| set.iter().find(|(other, _)| *other == name).map(|(_, value)| value.to_string());
        choice.resolve(variable).map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_is_asked_for_pairs() {
        let (torchrun, slurm) =
            ([("RANK", "3"), ("WORLD_SIZE", "8")], [("SLURM_PROCID", "0"), ("SLURM_NTASKS", "2")]);
        let shard = |index, count| Shard { index, count };
        assert_eq!(auto(ShardChoice::Auto, &torchrun).unwrap().0, shard(3, 8));
        assert_eq!(auto(ShardChoice::Auto, &slurm).unwrap().0, shard(0, 2));
        // torchrun inside a Slurm job.
        let both = auto(ShardChoice::Auto, &[torchrun, slurm].concat()).unwrap();
        assert_eq!(both, (shard(3, 8), Some("by RANK and WORLD_SIZE (torchrun)".into())));
        assert_eq!(auto(ShardChoice::Auto, &[&torchrun[..1], &slurm].concat()).unwrap().0, shard(0, 2));

        let told = |set: &[(&str, &str)]| auto(ShardChoice::Auto, set).unwrap_err();
        assert_eq!(
            told(&[("RANK", "1")]),
            "`--shard auto` needs RANK and WORLD_SIZE (torchrun) or SLURM_PROCID and SLURM_NTASKS (Slurm): RANK is \
             \"1\", WORLD_SIZE is not set, SLURM_PROCID is not set, SLURM_NTASKS is not set"
        );
        insta::assert_snapshot!(told(&[("JOB_COMPLETION_INDEX", "1")]), @r#"`--shard auto` needs RANK and WORLD_SIZE (torchrun) or SLURM_PROCID and SLURM_NTASKS (Slurm): RANK is not set, WORLD_SIZE is not set, SLURM_PROCID is not set, SLURM_NTASKS is not set; in an indexed Kubernetes Job of N, write auto/N (JOB_COMPLETION_INDEX is "1")"#);
        insta::assert_snapshot!(told(&[("RANK", "x"), ("WORLD_SIZE", "2")]), @r#"`--shard auto`: RANK is "x", WORLD_SIZE is "2", as torchrun sets them: expected two numbers"#);
        insta::assert_snapshot!(told(&[("RANK", "2"), ("WORLD_SIZE", "2")]), @r#"`--shard auto`: RANK is "2", WORLD_SIZE is "2", as torchrun sets them: there is no part 2 of 2: parts are counted from 0, so that the last one is 1/2"#);

        let job = |value: &str| auto(ShardChoice::AutoOf(4), &[("JOB_COMPLETION_INDEX", value)]);
        assert_eq!(job("3").unwrap().0, shard(3, 4));
        insta::assert_snapshot!(job("4").unwrap_err(), @"`--shard auto/4`: JOB_COMPLETION_INDEX is 4, and there is no part 4 of 4: parts are counted from 0, so that the last one is 3/4");
        insta::assert_snapshot!(job("four").unwrap_err(), @r#"`--shard auto/4` needs the index of an indexed Kubernetes Job, a number in JOB_COMPLETION_INDEX, and JOB_COMPLETION_INDEX is "four""#);
        insta::assert_snapshot!(auto(ShardChoice::AutoOf(4), &[]).unwrap_err(), @"`--shard auto/4` needs the index of an indexed Kubernetes Job, a number in JOB_COMPLETION_INDEX, and JOB_COMPLETION_INDEX is not set");
    }
}
