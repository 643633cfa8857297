//! Parts of a dataset: the words that people use for them, and folders that are parts and not
//! classes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::text::path_text::path_text;
use crate::text::words::{counted, first_few};

/// Part of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Trained on.
    Train,
    /// Measured on after each epoch.
    Val,
    /// Measured on once, at the end.
    Test,
}

impl Part {
    /// All parts, in order.
    pub const ALL: [Part; 3] = [Part::Train, Part::Val, Part::Test];

    /// Its key in the recipe's `data`.
    pub fn key(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::Val => "val",
            Part::Test => "test",
        }
    }

    /// The part that a name stands for, in any case and many languages, also with a number and
    /// words such as `images`.
    pub fn of_word(name: &str) -> Option<Part> {
        match Name::of(name) {
            Name { part: Some(part), rest, .. } if rest.is_empty() => Some(part),
            _ => None,
        }
    }
}

/// Words for the parts, in lower case.
const WORDS: [(Part, &str); 3] = [
    (
        Part::Train,
        "train training trainings trn tr trained trainval entrenamiento entreno entrainement apprentissage \
         addestramento allenamento treino treinamento trening träning træning treningowe treningowy uczące uczący \
         trénovací trénink eğitim обучение обучающая обучающие обучающий тренировка тренировочная тренировочный \
         тренировочные навчання навчальна тренування antrenament antrenare tanító tanulás koulutus opetus latih \
         pelatihan εκπαίδευση 训练 訓練 学習 學習 トレーニング 훈련 학습 تدريب प्रशिक्षण אימון",
    ),
    (
        Part::Val,
        "val vals valid validate validation validating validations dev devel development eval evaluate evaluation \
         validierung validierungs bewertung validación evaluación évaluation validazione valutazione validação \
         avaliação validatie validering walidacja walidacyjne walidacyjny validace validační doğrulama валидация \
         валидационная валидационный проверка проверочная валідація validare validálás validointi validasi επικύρωση \
         验证 驗證 検証 评估 評価 검증 تحقق אימות",
    ),
    (
        Part::Test,
        "test tests testing tst ts holdout heldout prueba pruebas essai prova collaudo teste testes testowe testowy \
         testovací тест тестовая тестовый тестовые тестирование тестування teszt testare testi uji pengujian δοκιμή 测试 \
         測試 テスト 시험 테스트 اختبار परीक्षण בדיקה",
    ),
];

/// Words beside one of [`WORDS`], or joined to it, that have no meaning of their own.
const BESIDE: &str = "images image imgs img pictures picture pics photos photo data dataset datasets sets set splits split samples \
    folder files public private bilder bild daten datensatz fotos imágenes imagens immagini 集 データ 画像 图像 图片 数据 用 데이터 세트";

/// Words that with a number name one of several equal parts, as of a cross-validation.
const FOLDS: [&str; 8] = ["fold", "folds", "kfold", "cv", "part", "split", "partition", "subset"];

/// A parsed name.
#[derive(Default)]
struct Name {
    part: Option<Part>,
    /// Whether it is a numbered fold.
    fold: bool,
    /// Its other words.
    rest: Vec<String>,
}

impl Name {
    fn of(name: &str) -> Name {
        let (mut read, mut fold, mut numbered) = (Name::default(), false, false);
        for word in words(name) {
            numbered |= word.chars().all(char::is_numeric);
            fold |= FOLDS.contains(&word.as_str());
            match (part_of(&word), read.part) {
                (Some(part), None) => read.part = Some(part),
                (Some(part), Some(first)) if part == first => {}
                // `train_val` is trained on; other pairs name all parts together.
                (Some(Part::Val), Some(Part::Train)) => {}
                (Some(_), Some(_)) => return Name { rest: vec![name.into()], ..Name::default() },
                (None, _) => {
                    let says_nothing = tables().1.contains(&word) || FOLDS.contains(&word.as_str());
                    if !says_nothing && !word.chars().all(char::is_numeric) {
                        read.rest.push(word);
                    }
                }
            }
        }
        read.fold = fold && numbered && read.part.is_none() && read.rest.is_empty();
        read
    }
}

/// Lower case, without accents.
fn folded(text: &str) -> String {
    text.nfkd().filter(|&letter| !is_combining_mark(letter)).flat_map(char::to_lowercase).collect()
}

/// The words of a name: `01_imagesTrain` has `01`, `images`, `train`.
fn words(name: &str) -> Vec<String> {
    let (mut words, mut last) = (vec![String::new()], ' ');
    for letter in name.nfkc() {
        let apart = !letter.is_alphanumeric() && !is_combining_mark(letter)
            || letter.is_numeric() != last.is_numeric()
            || letter.is_uppercase() && last.is_lowercase();
        if apart {
            words.push(String::new());
        }
        if letter.is_alphanumeric() || is_combining_mark(letter) {
            words.last_mut().into_iter().for_each(|word| word.push(letter));
        }
        last = letter;
    }
    words.iter().map(|word| folded(word)).filter(|word| !word.is_empty()).collect()
}

/// [`WORDS`] and [`BESIDE`] after [`folded`].
fn tables() -> &'static (HashMap<String, Part>, Vec<String>) {
    static TABLES: OnceLock<(HashMap<String, Part>, Vec<String>)> = OnceLock::new();
    TABLES.get_or_init(|| {
        let read = |(part, words): &(Part, &str)| {
            words.split_whitespace().map(|word| (folded(word), *part)).collect::<Vec<_>>()
        };
        (WORDS.iter().flat_map(read).collect(), BESIDE.split_whitespace().map(folded).collect())
    })
}

/// The part of `train`, `trainset` or `testbilder`: a word of a part, possibly joined to one of
/// [`BESIDE`].
fn part_of(word: &str) -> Option<Part> {
    let (parts, beside) = tables();
    let within = |word: &str| parts.get(word).copied();
    within(word).or_else(|| {
        beside.iter().find_map(|beside| {
            let core = word.strip_suffix(beside.as_str()).or_else(|| word.strip_prefix(beside.as_str()))?;
            within(core)
        })
    })
}

/// A folder's contents: the number of its images, and its sub-folders that contain any.
#[derive(Default)]
pub(super) struct Tree {
    images: usize,
    folders: BTreeMap<String, Tree>,
}

/// Parts are searched for this many folders deep.
const DEEPEST: usize = 3;

impl Tree {
    /// From names of images, sorted so that those of a folder are adjacent.
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Tree {
        let mut tree = Tree::default();
        let mut add = |folder: &str, images: usize| {
            let parts = folder.split('/').filter(|part| !part.is_empty());
            let place = parts.fold(&mut tree, |tree, part| tree.folders.entry(part.into()).or_default());
            place.images += images;
        };
        let (mut current, mut images) = (String::new(), 0);
        for name in names {
            let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
            if folder != current {
                add(&current, std::mem::take(&mut images));
                current = folder.into();
            }
            images += 1;
        }
        add(&current, images);
        tree
    }

    fn total(&self) -> usize {
        self.images + self.folders.values().map(Tree::total).sum::<usize>()
    }

    /// Whether its images lie in sub-folders, all but a few.
    fn holds_folders(&self) -> bool {
        !self.folders.is_empty() && 10 * self.images <= self.total()
    }

    fn shares_folders(&self, other: &Tree) -> usize {
        self.folders.keys().filter(|name| other.folders.contains_key(*name)).count()
    }

    /// The parts of a dataset, if these are below `root` in the place of classes: each with its path,
    /// and why they are no classes.
    pub(super) fn parts_for_classes(&self, root: &Path) -> Option<(Vec<(Part, PathBuf)>, String)> {
        let found = self.find("", DEEPEST, true)?;
        let (parts, _) = found.divided();
        let parts = parts.into_iter().map(|(part, member)| (part, root.join(&member.name)));
        Some((parts.collect(), found.message(root)))
    }

    /// A warning where every class is called as a part is, and holds images alone.
    fn parts_of_images(&self) -> Option<String> {
        let parts: Option<BTreeSet<Part>> = self.folders.keys().map(|name| Part::of_word(name)).collect();
        let unsorted = self.folders.values().all(|tree| tree.folders.is_empty());
        (parts?.len() > 1 && unsorted).then(|| {
            format!(
                "all classes are called as the parts of a dataset are ({}): if they are its parts, sort the images of \
                 each into a folder a class",
                first_few(&self.folders.keys().collect::<Vec<_>>())
            )
        })
    }

    fn find(&self, at: &str, depth: usize, alone: bool) -> Option<Found> {
        let alone = alone && self.images == 0 && self.folders.len() == 1;
        let here = |name: &str| if at.is_empty() { name.into() } else { format!("{at}/{name}") };
        let named: Vec<(&String, &Tree, Name)> =
            self.folders.iter().map(|(name, tree)| (name, tree, Name::of(name))).collect();
        let beside = |(_, tree, name): &(&String, &Tree, Name)| {
            let pairs = named.iter().filter(|(_, other, _)| !std::ptr::eq(*other, *tree));
            pairs.into_iter().any(|(_, other, second)| match (name.part, second.part) {
                (Some(a), Some(b)) if a != b => {
                    (tree.holds_folders() || other.holds_folders())
                        && (name.rest == second.rest || tree.shares_folders(other) > 0)
                }
                (a, b) => {
                    let equal = a.is_some() && a == b && name.rest.is_empty() && second.rest.is_empty();
                    (equal || name.fold && second.fold)
                        && tree.holds_folders()
                        && other.holds_folders()
                        && tree.shares_folders(other) > 1
                }
            })
        };
        let mut found: Vec<Member> = named
            .iter()
            .filter(|it| beside(it))
            .map(|(name, tree, read)| Member {
                name: here(name),
                part: read.part,
                classes: tree.holds_folders(),
            })
            .collect();
        // The only part with images; its siblings are empty.
        if let [(name, tree, Name { part: part @ Some(_), rest, .. })] = &named[..]
            && alone
            && rest.is_empty()
            && tree.holds_folders()
            && tree.folders.len() > 1
        {
            found = vec![Member { name: here(name), part: *part, classes: true }];
        }
        if !found.is_empty() {
            found.sort_by_key(|member| member.part);
            return Some(Found { members: found });
        }
        if depth == 1 {
            return None;
        }
        self.folders.iter().find_map(|(name, tree)| tree.find(&here(name), depth - 1, alone))
    }

    /// Warnings about class folders that look like something else, a sentence each.
    pub(super) fn odd_classes(&self, root: &Path) -> Vec<String> {
        let mut notes: Vec<String> = self.parts_of_images().into_iter().collect();
        let parts = |tree: &Tree| -> BTreeSet<Part> {
            tree.folders.keys().filter_map(|name| Part::of_word(name)).collect()
        };
        let of = |wanted: &dyn Fn(&String, &Tree) -> bool| -> Vec<&String> {
            self.folders.iter().filter(|(name, tree)| wanted(name, tree)).map(|(name, _)| name).collect()
        };
        let divided = of(&|_, tree| parts(tree).len() > 1);
        if !divided.is_empty() {
            notes.push(format!(
                "{} named as the parts of a dataset are ({}): all of their images are taken; to keep the parts apart, \
                 list the images in a .csv of path,label,split",
                counted(divided.len(), "class folder holds folders", "class folders hold folders"),
                first_few(&divided)
            ));
        }
        let inside = |tree: &Tree| first_few(&tree.folders.keys().collect::<Vec<_>>());
        for name in of(&|name, tree| Part::of_word(name).is_some() && tree.holds_folders()) {
            let advice = match Part::of_word(name) {
                Some(Part::Train) => format!("write `data: {{ train: {} }}`", in_recipe(&root.join(name))),
                // Nobody trains on what is measured on.
                _ => "name the folder to train on as `data.train`, and this one beside it".into(),
            };
            notes.push(format!(
                "{name} counts as a class, though it is called as a part of a dataset is, and holds {}: if these are the \
                 classes, {advice}",
                inside(&self.folders[name])
            ));
        }
        let mut trees = self.folders.values();
        if let (true, Some(first), true) = (notes.is_empty(), trees.next(), self.folders.len() > 1)
            && first.folders.len() > 1
            && first.holds_folders()
            && trees.all(|tree| tree.holds_folders() && tree.folders.keys().eq(first.folders.keys()))
        {
            notes.push(format!(
                "all class folders hold the same folders ({}): if these are the classes, list the images in a .csv of \
                 path,label",
                inside(first)
            ));
        }
        notes
    }
}

/// A folder that is a part.
struct Member {
    /// Relative to the root.
    name: String,
    /// `None`: a fold.
    part: Option<Part>,
    classes: bool,
}

struct Found {
    members: Vec<Member>,
}

impl Found {
    /// A folder for each part, and those beyond.
    fn divided(&self) -> (BTreeMap<Part, &Member>, Vec<&String>) {
        let mut parts = BTreeMap::new();
        let mut more = Vec::new();
        for member in self.members.iter().filter(|member| member.classes) {
            // Folds have no order: any is as good to train on.
            let free = || Part::ALL.into_iter().find(|part| !parts.contains_key(part));
            match member.part.or_else(free) {
                Some(part) if !parts.contains_key(&part) => {
                    parts.insert(part, member);
                }
                _ => more.push(&member.name),
            }
        }
        (parts, more)
    }

    fn message(&self, root: &Path) -> String {
        let names: Vec<&String> = self.members.iter().map(|member| &member.name).collect();
        let (written, more) = self.divided();
        let key = |(part, member): (&Part, &&Member)| {
            format!("{}: {}", part.key(), in_recipe(&root.join(&member.name)))
        };
        let keys: Vec<String> = written.iter().map(key).collect();
        let keys = match written.contains_key(&Part::Train) {
            true => format!("write `data: {{ {} }}`", keys.join(", ")),
            false => format!("write `{}` beside the `train` that they belong to", keys.join(", ")),
        };
        let (look, parts) = match names.len() {
            1 => ("looks", "a part"),
            _ => ("look", "the parts"),
        };
        let more = match more.is_empty() {
            true => String::new(),
            false => format!(
                "; to use {} too, put the images of each class together, or list all in a .csv of path,label,split",
                first_few(&more)
            ),
        };
        format!(
            "holds {}, which {look} like {parts} of a dataset, not like {}; expected one sub-folder per class: \
             {keys}{more}",
            first_few(&names),
            if names.len() == 1 { "a class" } else { "classes" }
        )
    }
}

/// A path, valid in any recipe: relative ones start at the recipe's folder, which is unknown here.
fn in_recipe(path: &Path) -> String {
    in_yaml(&std::path::absolute(path).unwrap_or(path.to_path_buf()))
}

/// A path as YAML takes it.
pub fn in_yaml(path: &Path) -> String {
    let path = path_text(path).into_owned();
    let plain = |letter: char| letter.is_alphanumeric() || " _-./".contains(letter);
    match path.chars().all(plain) && path.trim() == path {
        true => path,
        // JSON's quotes are YAML's too, and keep what Rust would escape: combining marks.
        false => serde_json::Value::from(path).to_string(),
    }
}
