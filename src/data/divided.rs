//! Columns of a CSV that tell the part of the data an image belongs to.

use csv::ByteRecord;

use super::part::Part;
use crate::text::look_alikes::looks;
use crate::text::words::{first_few, shown};

/// Names of columns with a word for the part, as [`looks`] normalises them.
const WORDS: [&str; 10] =
    ["split", "data split", "set", "data set", "dataset", "subset", "partition", "usage", "phase", "part"];
/// Names of yes/no columns, and the part that each asks about.
const ASKING: [(&str, Part); 6] = [
    ("is train", Part::Train),
    ("is training", Part::Train),
    ("is val", Part::Val),
    ("is valid", Part::Val),
    ("is validation", Part::Val),
    ("is test", Part::Test),
];
/// Names of columns that number the folds of a cross-validation.
const FOLDS: [&str; 5] = ["fold", "folds", "fold id", "kfold", "k fold"];

/// Further values of a column are ignored: this many are not parts.
const MOST: usize = 50;

#[derive(Clone, Copy)]
enum Kind {
    Word,
    Asks(Part),
    Fold,
}

/// The part that a value gives its image.
#[derive(Clone, Copy)]
enum Says {
    Is(Part),
    Not(Part),
}

impl Kind {
    fn of(name: &str) -> Option<Kind> {
        let asks = || ASKING.iter().find(|(known, _)| *known == name).map(|&(_, part)| Kind::Asks(part));
        match () {
            () if WORDS.contains(&name) => Some(Kind::Word),
            () if FOLDS.contains(&name) => Some(Kind::Fold),
            () => asks(),
        }
    }

    fn says(self, value: &str) -> Option<Says> {
        match (self, value.to_ascii_lowercase().as_str()) {
            (Kind::Word, _) => Part::of_word(value).map(Says::Is),
            (Kind::Asks(part), "true" | "1" | "yes") => Some(Says::Is(part)),
            (Kind::Asks(part), "false" | "0" | "no") => Some(Says::Not(part)),
            _ => None,
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Kind::Asks(_) => "true or false",
            _ => "train, val or test",
        }
    }
}

impl Says {
    /// Images not trained on are for testing; images not measured on are trained on.
    fn part(self) -> Part {
        match self {
            Says::Is(part) => part,
            Says::Not(Part::Train) => Part::Test,
            Says::Not(_) => Part::Train,
        }
    }

    fn contradicts(self, part: Part) -> bool {
        match self {
            Says::Is(said) => said != part,
            Says::Not(said) => said == part,
        }
    }
}

struct Column {
    place: usize,
    name: String,
    kind: Kind,
    /// Its distinct values.
    values: Vec<String>,
    /// The index of each image's value.
    rows: Vec<u8>,
}

impl Column {
    fn value(&self, record: &ByteRecord) -> String {
        String::from_utf8_lossy(record[self.place].trim_ascii()).into_owned()
    }
}

/// The columns of a CSV that divide its rows, while it is read.
#[derive(Default)]
pub(super) struct Columns(Vec<Column>);

impl Columns {
    pub(super) fn of(header: &ByteRecord) -> Columns {
        let fields = header.iter().enumerate().filter_map(|(place, field)| {
            let name = shown(&String::from_utf8_lossy(field.trim_ascii()));
            let kind = Kind::of(&looks(&name))?;
            Some(Column { place, name, kind, values: Vec::new(), rows: Vec::new() })
        });
        Columns(fields.collect())
    }

    /// Adds the row of another image.
    pub(super) fn add(&mut self, record: &ByteRecord) {
        for column in &mut self.0 {
            let value = column.value(record);
            let known = column.values.iter().position(|it| *it == value);
            let index = known.unwrap_or(column.values.len()).min(MOST);
            if index == column.values.len() {
                column.values.push(value);
            }
            column.rows.push(index as u8);
        }
    }

    /// How another row of image number `image` contradicts its first one about the part, if it
    /// does.
    pub(super) fn moved(&self, record: &ByteRecord, image: usize) -> Option<String> {
        self.0.iter().filter(|column| !matches!(column.kind, Kind::Fold)).find_map(|column| {
            let (here, first) = (column.value(record), &column.values[usize::from(column.rows[image])]);
            (here != *first).then(|| {
                format!("has \"{}\" in `{}` here and \"{}\"", shown(&here), column.name, shown(first))
            })
        })
    }

    /// The result; what cannot be used is added to `told`.
    pub(super) fn finish(self, told: &mut Vec<String>) -> Divided {
        let (divided, alike): (Vec<Column>, Vec<Column>) =
            self.0.into_iter().partition(|column| column.values.len() > 1);
        let alike = alike.into_iter().filter_map(|Column { name, kind, mut values, .. }| {
            let value = values.pop()?;
            Some((kind.says(&value)?, format!("its column `{name}` has {} in each row", shown(&value))))
        });
        let mut result = Divided { alike: alike.collect(), parts: None };
        let names: Vec<String> = divided.iter().map(|column| format!("`{}`", column.name)).collect();
        if names.len() > 1 {
            told.push(format!(
                "its columns {} all say which part an image belongs to: keep one of them",
                names.join(", ")
            ));
            return result;
        }
        for column in divided {
            let named = |value: &String| if value.is_empty() { "nothing".into() } else { value.clone() };
            let values: Vec<String> = column.values.iter().map(named).collect();
            let (name, found) = (&column.name, first_few(&values));
            let says: Option<Vec<Says>> = column.values.iter().map(|value| column.kind.says(value)).collect();
            match (column.kind, says) {
                (Kind::Fold, _) => told.push(format!(
                    "its column `{name}` has {found}, and folds are not used: write a .csv of the rows to train on and one of those \
                     to measure on for each fold, and name them as `data: {{ train: …, val: … }}`"
                )),
                (kind, None) => told.push(format!(
                    "its column `{name}` has {found}: expected {} in each row; call the column otherwise if it does not say which \
                     part an image belongs to",
                    kind.expected()
                )),
                (_, Some(says)) => {
                    let parts = column.rows.iter().map(|&value| says[usize::from(value)].part());
                    result.parts = Some((column.name.clone(), parts.collect()));
                }
            }
        }
        result
    }
}

/// Result of the part columns of a CSV.
#[derive(Default)]
pub(super) struct Divided {
    /// Columns with the same value in every row.
    alike: Vec<(Says, String)>,
    /// The column that divides the rows, and the part of each image.
    pub(super) parts: Option<(String, Vec<Part>)>,
}

impl Divided {
    /// Why the CSV cannot be used as `part`.
    pub(super) fn contradiction(&self, part: Part) -> Option<String> {
        let (says, said) = self.alike.iter().find(|(says, _)| says.contradicts(part))?;
        let key = part.key();
        Some(match says {
            Says::Is(other) => {
                format!(
                    "{said}, and is given as `data.{key}`: name it as `data.{}`, or take the column out",
                    other.key()
                )
            }
            Says::Not(_) => {
                format!("{said}, and is given as `data.{key}`: name another file, or take the column out")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, read_labelled, read_labelled_with};

    /// A CSV of these rows, with its images beside it.
    fn with<T>(rows: &str, read: impl Fn(&std::path::Path) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        for name in ["1", "2", "3", "4", "5", "6"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let path = folder.path().join("l.csv");
        std::fs::write(&path, rows).unwrap();
        read(&path)
    }

    fn parts(rows: &str) -> Result<[String; 3], String> {
        let names = |samples: &[crate::data::Sample]| -> String {
            samples.iter().map(|sample| sample.name.as_str()).collect()
        };
        let told = |Dataset { samples, aside, .. }| match aside {
            None => [names(&samples), "-".into(), "-".into()],
            Some(aside) => [names(&samples), names(&aside.val), names(&aside.test)],
        };
        let plain =
            |error: crate::error::Error| error.to_string().split_once("l.csv: ").unwrap().1.to_string();
        with(rows, |path| read_labelled(path).map(told).map_err(plain))
    }

    #[test]
    fn a_column_divides_the_rows() {
        let rows = |column: &str, values: [&str; 6]| {
            let mut text = format!("path,label,{column}\n");
            for (image, value) in values.iter().enumerate() {
                let label = ["a", "b"][image % 2];
                text.push_str(&format!("{},{label},{value}\n", image + 1));
            }
            parts(&text).unwrap()
        };
        assert_eq!(rows("split", ["train", "train", "val", "val", "test", "test"]), ["12", "34", "56"]);
        assert_eq!(
            rows("Set", ["Train", " train", "VALID", "validation", "train", "dev"]),
            ["125", "346", ""]
        );
        assert_eq!(rows("split", ["test", "train", "train", "test", "train", "test"]), ["235", "", "146"]);
        assert_eq!(rows("is_valid", ["True", "False", "0", "1", "false", "0"]), ["2356", "14", ""]);
        assert_eq!(rows("is_test", ["1", "0", "0", "1", "0", "0"]), ["2356", "", "14"]);
        assert_eq!(rows("is_train", ["1", "1", "0", "0", "1", "1"]), ["1256", "", "34"]);
        assert_eq!(
            rows("Data Set", ["train", "train", "valid", "test", "train", "train"]),
            ["1256", "3", "4"]
        );
        // The same everywhere: no rows are set aside.
        assert_eq!(rows("split", ["train"; 6]), ["123456", "-", "-"]);
        assert_eq!(rows("is_valid", ["false"; 6]), ["123456", "-", "-"]);
        assert_eq!(rows("fold", ["1"; 6]), ["123456", "-", "-"]);
        let kaggle =
            "class id,filepaths,labels,card type,data set\n0,1,a,x,train\n1,2,b,y,train\n0,3,a,x,test\n";
        assert_eq!(parts(kaggle).unwrap(), ["12", "", "3"]);
        let said = with("path,label,split\n1,a,train\n2,b,train\n3,a,test\n", |path| {
            read_labelled(path).unwrap().notes.join("; ")
        });
        let expected = "`split` divides the images: 2 to train on, 1 to test on";
        assert!(said.contains(expected), "{said}");
        assert!(said.contains("in its test rows, 1 class has no image here: b"), "{said}");
    }

    #[test]
    fn what_does_not_divide_them_is_refused() {
        for (rows, expected) in [
            (
                "path,label,split\n1,a,train\n2,b,other\n3,b,\n",
                "its column `split` has train, other, nothing: expected train, val or test in each row; call the column otherwise if it \
                 does not say which part an image belongs to",
            ),
            (
                "path,label,is_valid\n1,a,0\n2,b,2\n",
                "its column `is_valid` has 0, 2: expected true or false in each row; call the column otherwise if it does not say \
                 which part an image belongs to",
            ),
            (
                "path,label,fold\n1,a,0\n2,b,1\n",
                "its column `fold` has 0, 1, and folds are not used: write a .csv of the rows to train on and one of those to \
                 measure on for each fold, and name them as `data: { train: …, val: … }`",
            ),
            (
                "path,label,split,is_test\n1,a,train,0\n2,b,test,1\n",
                "its columns `split`, `is_test` all say which part an image belongs to: keep one of them",
            ),
            (
                "path,label,split\n1,a,val\n2,b,test\n",
                "its column `split` leaves no row to train on: expected train in some of them",
            ),
            (
                "path,label,split\n1,a,test\n2,b,test\n",
                "its column `split` has test in each row, and is given as `data.train`: name it as `data.test`, or take the column \
                 out",
            ),
            (
                "path,label,split\n1,a,train\n1,a,test\n2,b,train\n",
                "line 3: 1 has \"test\" in `split` here and \"train\" on line 2; keep one",
            ),
            (
                "path,label,split\n1,a,train\n2,b,train\n3,c,test\n",
                "in its test rows, 1 class that the training images lack: \"c\"; rename or remove, or train on them too",
            ),
        ] {
            assert_eq!(parts(rows).unwrap_err(), expected);
        }
        let many: String = (0..300).map(|row| format!("{},a,{row}\n", row % 6 + 1)).collect();
        let told = parts(&format!("path,label,part\n{many}")).unwrap_err();
        assert!(
            told.contains("and 289 such lines more") && told.contains("has 0, 1, 2, 3, 4 and 1 more"),
            "{told}"
        );
    }

    #[test]
    fn a_part_is_what_it_says() {
        let read = |rows: &str, part| {
            with(rows, |path| {
                let read = read_labelled_with(path, &["a".into(), "b".into()], part);
                let plain =
                    |error: crate::error::Error| error.to_string().replace(path.to_str().unwrap(), "l.csv");
                read.map(|dataset| dataset.samples.len()).map_err(plain)
            })
        };
        let tests = "path,label,split\n1,a,test\n2,b,test\n";
        assert_eq!(read(tests, Part::Test), Ok(2));
        insta::assert_snapshot!(read(tests, Part::Val).unwrap_err(), @"l.csv: its column `split` has test in each row, and is given as `data.val`: name it as `data.test`, or take the column out");
        let not_valid = "path,label,is_valid\n1,a,0\n2,b,0\n";
        assert_eq!(read(not_valid, Part::Test), Ok(2));
        insta::assert_snapshot!(read(not_valid, Part::Val).unwrap_err(), @"l.csv: its column `is_valid` has 0 in each row, and is given as `data.val`: name another file, or take the column out");
        let both = "path,label,split\n1,a,val\n2,b,test\n";
        insta::assert_snapshot!(read(both, Part::Val).unwrap_err(), @"l.csv: its column `split` has rows of several parts: give it as `data.train` alone, or write a .csv of the rows for `data.val`");
        assert_eq!(read("path,label,part\n1,a,wheel\n2,b,wheel\n", Part::Val), Ok(2));
    }
}
