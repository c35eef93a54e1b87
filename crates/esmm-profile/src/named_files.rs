//! Files that their names divide: train.csv, valid.csv, test.csv.

use std::path::Path;

use esmm_data::{DataError, SourceSpec};

use crate::words::{is_one_of, words};

/// Files of each split, as they are to be written into a run file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct NamedFiles {
    pub(crate) train: Vec<String>,
    pub(crate) valid: Vec<String>,
    pub(crate) test: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Train,
    Valid,
    Test,
}

/// Names of the parts.
const PARTS: [(Part, &str); 3] = [
    (Part::Train, "train training"),
    (Part::Valid, "valid validation val dev"),
    (Part::Test, "test testing holdout"),
];

impl NamedFiles {
    /// The parts of some files or globs; `None` unless each file has a part, one of them is for training and another is
    /// not.
    ///
    /// # Errors
    /// A path that names no file.
    pub(crate) fn of(paths: &[String]) -> Result<Option<Self>, DataError> {
        let mut found = Self::default();
        for path in paths {
            let files = SourceSpec::new([path.clone()]).files()?;
            let parts: Option<Vec<Part>> = files.iter().map(|file| part(file.path())).collect();
            let Some(parts) = parts else { return Ok(None) };
            match parts.split_first() {
                None => {}
                Some((first, others)) if others.iter().all(|other| other == first) => {
                    found.of_part(*first).push(path.clone());
                }
                _ => {
                    for (file, part) in files.iter().zip(parts) {
                        found.of_part(part).push(file.path().display().to_string());
                    }
                }
            }
        }
        let has_another = !found.valid.is_empty() || !found.test.is_empty();
        let divided = has_another && !found.train.is_empty();
        Ok(divided.then_some(found))
    }

    fn of_part(&mut self, part: Part) -> &mut Vec<String> {
        match part {
            Part::Train => &mut self.train,
            Part::Valid => &mut self.valid,
            Part::Test => &mut self.test,
        }
    }
}

/// The part that the name of a file tells, or that of its folder.
fn part(file: &Path) -> Option<Part> {
    let folder = file.parent().and_then(Path::file_name);
    let names = [file.file_stem(), folder];
    names.into_iter().flatten().find_map(|name| only_part(name.to_str()?))
}

/// The one part that a name has words of.
fn only_part(name: &str) -> Option<Part> {
    let words = words(name);
    let has = |names: &str| words.iter().any(|word| is_one_of(word, names));
    let mut parts = PARTS.into_iter().filter(|(_, names)| has(names)).map(|(part, _)| part);
    let part = parts.next()?;
    parts.next().is_none().then_some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_folders_tell_the_part() {
        let cases = [
            ("data/train.csv", Some(Part::Train)),
            ("clicks_validation_2024.parquet", Some(Part::Valid)),
            ("test/part-0.parquet", Some(Part::Test)),
            ("train/part-0-of-2.csv", Some(Part::Train)),
            ("test_of_train.csv", None),
            ("latest.csv", None),
        ];
        for (file, expected) in cases {
            assert_eq!(part(Path::new(file)), expected, "{file}");
        }
    }

    #[test]
    fn files_are_divided_where_each_has_a_part() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        for name in ["train-1.csv", "train-2.csv", "test.csv", "other.csv"] {
            std::fs::write(path(name), "a\n1\n").unwrap();
        }
        let found = NamedFiles::of(&[path("train-*.csv"), path("test.csv")]).unwrap().unwrap();
        assert_eq!((found.train, found.test), (vec![path("train-*.csv")], vec![path("test.csv")]));
        let found = NamedFiles::of(&[path("t*.csv")]).unwrap().unwrap();
        assert_eq!((found.train.len(), found.valid.len(), found.test.len()), (2, 0, 1));
        assert_eq!(NamedFiles::of(&[path("*.csv")]).unwrap(), None);
        assert_eq!(NamedFiles::of(&[path("train-1.csv")]).unwrap(), None);
        assert!(NamedFiles::of(&[path("gone.csv")]).is_err());
    }
}
