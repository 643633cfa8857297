//! What a file may cost to read: work in proportion to its size, counted as it is done.
//!
//! A few bytes can say "a million times this", "the same again", or "nothing, and then nothing".
//! Limits on each number in a file do not see that, because each is harmless alone. So a reader
//! counts what it does (bytes unpacked, entries visited) against an allowance that the file's size
//! determines, far above what any real file needs.

use std::io::{self, Read};

/// The bytes of a file, unless there are more than `most`: a sparse one of a terabyte takes no room.
///
/// # Errors
/// Those of the file.
pub fn bytes_up_to(file: impl Read, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= most))
}

/// An allowance of units of work, and what is left of it.
#[derive(Debug, Clone)]
pub struct Budget {
    /// What is counted, in the plural: `bytes of strips`.
    what: &'static str,
    allowed: u64,
    left: u64,
}

impl Budget {
    /// `allowed` units of `what`.
    pub fn new(what: &'static str, allowed: u64) -> Self {
        Budget { what, allowed, left: allowed }
    }

    /// `times` the size of a file, and `spare` units for small ones.
    pub fn of_file(what: &'static str, bytes: usize, times: u64, spare: u64) -> Self {
        Budget::new(what, (bytes as u64).saturating_mul(times).saturating_add(spare))
    }

    /// Takes `units`.
    ///
    /// # Errors
    /// If fewer are left: words that follow the name of the file or of a part of it.
    pub fn spend(&mut self, units: u64) -> Result<(), String> {
        match self.left.checked_sub(units) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(format!(
                "takes more than {} {} to read, far more than a file of its size holds: it is damaged or hostile",
                self.allowed, self.what
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_a_limit_is_read() {
        assert_eq!(bytes_up_to(&b"12345"[..], 5).unwrap().as_deref(), Some(&b"12345"[..]));
        assert_eq!(bytes_up_to(&b"12345"[..], 4).unwrap(), None);
        assert_eq!(bytes_up_to(io::repeat(0), 1 << 20).unwrap(), None);
    }

    #[test]
    fn a_budget_is_spent_to_the_last_unit() {
        let mut budget = Budget::of_file("entries", 10, 2, 5);
        assert_eq!(budget.spend(24), Ok(()));
        assert_eq!(budget.spend(1), Ok(()));
        let message = budget.spend(1).unwrap_err();
        assert!(message.starts_with("takes more than 25 entries to read"), "{message}");
        // What is too much takes nothing.
        assert!(Budget::new("entries", 1).spend(u64::MAX).is_err());
        assert_eq!(Budget::of_file("bytes", usize::MAX, 9, 9).allowed, u64::MAX);
    }
}
