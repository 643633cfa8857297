//! Heads on fixed features, then fine-tuning, and the choice between the two: see
//! [`crate::strategy::decide`].

use crate::error::{Error, Result};
use crate::strategy::Contest;
use crate::strategy::decide::{MethodResult, nothing_to_gain};

/// Trains both methods; tests use a double.
pub trait Trainer {
    /// A trained model.
    type Model;
    /// Fits heads to the features of the frozen network.
    fn fit_heads(&mut self) -> Result<(Self::Model, MethodResult)>;
    /// Fine-tunes.
    fn fine_tune(&mut self) -> Result<(Self::Model, MethodResult)>;
    /// Shows a line to the user.
    fn say(&self, line: &str);
}

/// Result of a contest.
pub struct ContestResult<M> {
    /// The kept model, or the one with the greater weight.
    pub kept: M,
    /// The other model and its weight, if both are kept.
    pub partner: Option<(M, f64)>,
    /// The comparison.
    pub contest: Contest,
    /// Why.
    pub reason: String,
}

/// Fits heads, fine-tunes unless these leave nothing to gain, and keeps the better by the
/// validation images, or both, weighted, if they are `averaged`.
pub fn contest<T: Trainer>(trainer: &mut T, averaged: bool) -> Result<ContestResult<T::Model>> {
    let (model, heads) = trainer.fit_heads()?;
    let alone = |kept, reason| ContestResult { kept, partner: None, contest: Contest::alone(&heads), reason };
    if let Some(reason) = nothing_to_gain(&heads) {
        return Ok(alone(model, reason));
    }
    let (tuned_model, tuned) = match trainer.fine_tune() {
        Ok(tuned) => tuned,
        // The heads are there, and fine-tuning with too high a rate is no reason to drop them.
        Err(Error::Diverged(message)) => {
            trainer.say(&format!("note: fine-tuning is given up: {message}"));
            return Ok(alone(model, "fine-tuning diverged".into()));
        }
        Err(error) => return Err(error),
    };
    let contest = Contest::between(&heads, &tuned, averaged);
    let reason = contest.reason();
    let (kept, other) =
        if contest.kept() == Some(tuned.method) { (tuned_model, model) } else { (model, tuned_model) };
    let partner = contest.partner().map(|weight| (other, weight));
    Ok(ContestResult { kept, partner, contest, reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Method;
    use crate::stats::metrics::Counter;

    /// A double with given results. Its models are names.
    struct Scripted {
        heads: MethodResult,
        /// `None` for one that diverges.
        tuned: Option<MethodResult>,
        log: Vec<String>,
    }

    impl Trainer for Scripted {
        type Model = &'static str;

        fn fit_heads(&mut self) -> Result<(&'static str, MethodResult)> {
            self.log.push("heads".into());
            Ok(("heads", self.heads.clone()))
        }

        fn fine_tune(&mut self) -> Result<(&'static str, MethodResult)> {
            self.log.push("fine-tuning".into());
            let diverged = || Error::Diverged("the loss became NaN".into());
            Ok(("tuned", self.tuned.clone().ok_or_else(diverged)?))
        }

        fn say(&self, _: &str) {}
    }

    /// A method that is right on this many of `images` validation images: the true class has a
    /// probability of 0.9 on them, and of 0.1 on the others.
    fn candidate(method: Method, right: usize, images: usize) -> MethodResult {
        let mut counter = Counter::new(2);
        for image in 0..images {
            counter.confusion.add(0, usize::from(image >= right));
            let loss = -f64::ln(if image < right { 0.9 } else { 0.1 });
            counter.losses.push(loss);
            counter.loss_sum += loss;
        }
        MethodResult { method, val: counter.finish(), held_out: None, seconds: 1. }
    }

    fn scripted(heads: usize, tuned: usize, images: usize) -> Scripted {
        Scripted {
            heads: candidate(Method::Stages, heads, images),
            tuned: Some(candidate(Method::Full, tuned, images)),
            log: Vec::new(),
        }
    }

    #[test]
    fn heads_that_leave_nothing_to_gain_are_kept_alone() {
        let mut it = scripted(100, 100, 100);
        let decided = contest(&mut it, true).unwrap();
        assert_eq!((decided.kept, decided.partner.is_none()), ("heads", true));
        assert_eq!(it.log, ["heads"]);
        assert_eq!((decided.contest.methods.len(), &decided.contest.shares[..]), (1, &[1.][..]));
        insta::assert_snapshot!(decided.reason, @"`stages` is right on 1.0000 of the images that it has not learnt from, which leaves nothing to gain");
    }

    #[test]
    fn fine_tuning_that_is_clearly_better_is_kept_alone() {
        let mut it = scripted(50, 95, 100);
        let decided = contest(&mut it, true).unwrap();
        assert_eq!((decided.kept, decided.partner.is_none()), ("tuned", true));
        assert_eq!(it.log, ["heads", "fine-tuning"]);
        assert_eq!(decided.contest.kept(), Some(Method::Full));
        assert!(decided.reason.starts_with("on 100 validation images `full` is right on 0.9500"));
    }

    #[test]
    fn fine_tuning_that_explains_nothing_is_left_out() {
        let decided = contest(&mut scripted(80, 5, 100), true).unwrap();
        assert_eq!((decided.kept, decided.partner.is_none()), ("heads", true));
        assert_eq!(decided.contest.methods.len(), 2);
    }

    #[test]
    fn both_are_kept_where_they_are_right_on_different_images() {
        let mut it = scripted(60, 60, 100);
        // Right on the last 60, while the heads are right on the first 60.
        it.tuned.as_mut().unwrap().val.losses.reverse();
        let decided = contest(&mut it, true).unwrap();
        let (other, weight) = decided.partner.unwrap();
        assert_eq!((decided.kept, other), ("heads", "tuned"));
        assert!((weight - 0.5).abs() < 1e-6, "{weight}");
        assert!((decided.contest.shares[0] + weight - 1.).abs() < 1e-9);
        assert!(decided.reason.contains("both are kept"), "{}", decided.reason);

        let decided = contest(&mut it, false).unwrap();
        assert_eq!((decided.kept, decided.partner.is_none()), ("heads", true));
    }

    #[test]
    fn the_fewer_the_images_the_more_equal_the_weights() {
        let weight = |heads, tuned, images| {
            let decided = contest(&mut scripted(heads, tuned, images), true).unwrap();
            if decided.kept == "tuned" { decided.contest.shares[0] } else { 1. - decided.contest.shares[0] }
        };
        let shares = [weight(1, 2, 2), weight(5, 10, 10), weight(10, 20, 20)];
        assert!(0.5 < shares[0] && shares[0] < shares[1] && shares[1] < shares[2], "{shares:?}");
        assert!(shares[0] < 0.6, "{shares:?}");
        assert_eq!(weight(100, 200, 200), 1.);
    }

    #[test]
    fn fine_tuning_that_diverges_leaves_the_heads() {
        let mut it = Scripted { tuned: None, ..scripted(50, 0, 100) };
        let decided = contest(&mut it, true).unwrap();
        assert_eq!((decided.kept, decided.contest.methods.len()), ("heads", 1));
        assert_eq!(decided.reason, "fine-tuning diverged");
    }

    #[test]
    fn other_errors_are_not_hidden() {
        struct Broken;
        impl Trainer for Broken {
            type Model = ();
            fn fit_heads(&mut self) -> Result<((), MethodResult)> {
                Err(Error::run("no disk"))
            }
            fn fine_tune(&mut self) -> Result<((), MethodResult)> {
                Err(Error::run("not reached"))
            }
            fn say(&self, _: &str) {}
        }
        assert_eq!(contest(&mut Broken, true).err().unwrap().to_string(), "no disk");
    }
}
