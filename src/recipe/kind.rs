//! Types of values, and their descriptions.

/// Type of a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A mapping of the keys whose path starts with this one's.
    Section,
    /// A name, not empty.
    Name,
    /// A list of names, one at least.
    Names,
    /// A file or a folder, relative to the recipe's folder (`out`: to the working directory).
    Path,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of these words, one at least.
    Choices(&'static [&'static str]),
    /// `true` or `false`.
    Bool,
    /// A whole number from the first to the second, both included.
    Whole(u64, u64),
    /// One of these whole numbers.
    WholeOf(&'static [u64]),
    /// A list of whole numbers from the first to the second, both included; at least one.
    Wholes(u64, u64),
    /// A number within limits.
    Number(Limits),
    /// A list of exactly this many numbers within limits.
    Numbers(usize, Limits),
    /// `[low, high]` within limits, the first not above the second.
    Range(Limits),
    /// `[low, high]`, whole numbers from the first to the second, the first not above the second.
    WholeRange(u64, u64),
    /// Red, green and blue, whole numbers from 0 to 255.
    Color,
    /// A fraction between 0 and 1, both excluded, or a path.
    FractionOrPath,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    Device,
    /// The name of a weights entry, or a mapping of the keys below.
    NameOrSection,
}

/// Limits of a number; numbers are always finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limits {
    /// Any finite number.
    Any,
    /// Above 0.
    Positive,
    /// 0 or above.
    FromZero,
    /// Between 0 and 1, both excluded.
    Inside,
    /// From 0, below 1.
    BelowOne,
    /// From 0 to 1, both included.
    ZeroToOne,
    /// Above 0, up to 1.
    UpToOne,
    /// From 0 to 0.5, both included.
    ZeroToHalf,
}

impl Limits {
    pub(super) fn hold(self, x: f64) -> bool {
        x.is_finite()
            && match self {
                Limits::Any => true,
                Limits::Positive => x > 0.0,
                Limits::FromZero => x >= 0.0,
                Limits::Inside => x > 0.0 && x < 1.0,
                Limits::BelowOne => (0.0..1.0).contains(&x),
                Limits::ZeroToOne => (0.0..=1.0).contains(&x),
                Limits::UpToOne => x > 0.0 && x <= 1.0,
                Limits::ZeroToHalf => (0.0..=0.5).contains(&x),
            }
    }

    fn words(self) -> &'static str {
        match self {
            Limits::Any => "",
            Limits::Positive => " above 0",
            Limits::FromZero => " from 0 up",
            Limits::Inside => " between 0 and 1 (both excluded)",
            Limits::BelowOne => " from 0, below 1",
            Limits::ZeroToOne => " from 0 to 1",
            Limits::UpToOne => " above 0, up to 1",
            Limits::ZeroToHalf => " from 0 to 0.5",
        }
    }
}

/// Upper limits from here on only protect the arithmetic; messages name them only if exceeded.
pub(super) const MANY: u64 = 1_000_000;

impl Kind {
    /// The expected value in words, for messages and for the reference: "a whole number from 1 up".
    pub fn expected(self) -> String {
        match self {
            Kind::Section => "a section (`key: value` lines)".into(),
            Kind::Name => "a name".into(),
            Kind::Names => "a list of names".into(),
            Kind::Path => "a path".into(),
            Kind::Choice(names) => format!("one of {}", names.join(", ")),
            Kind::Choices(names) => format!("a list out of {}", names.join(", ")),
            Kind::Bool => "true or false".into(),
            Kind::Whole(low, MANY..) => format!("a whole number from {low} up"),
            Kind::Whole(low, high) => format!("a whole number from {low} to {high}"),
            Kind::WholeOf(numbers) => numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" or "),
            Kind::Wholes(low, high) => format!("a list of whole numbers from {low} to {high}"),
            Kind::Number(limits) => format!("a number{}", limits.words()),
            Kind::Numbers(count, limits) => format!("a list of {count} numbers{}", limits.words()),
            Kind::Range(limits) => format!("`[low, high]`, two numbers{}", limits.words()),
            Kind::WholeRange(low, high) => format!("`[low, high]`, two whole numbers from {low} to {high}"),
            Kind::Color => "`[red, green, blue]`, whole numbers from 0 to 255".into(),
            Kind::FractionOrPath => "a fraction between 0 and 1 (both excluded), or a path".into(),
            Kind::Device => "one of auto, cpu, cuda, cuda:N (cuda:0 is the first GPU)".into(),
            Kind::NameOrSection => "a weights name such as IMAGENET1K_V2, or a section".into(),
        }
    }

    /// Whether the value may be a mapping with its own keys.
    pub(super) fn is_section(self) -> bool {
        matches!(self, Kind::Section | Kind::NameOrSection)
    }
}
