//! All guesses about some files, put together and tried.
use esmm_run::RunError;
use esmm_run::config::{RunFile, TrainConfig};

use crate::choose::Rows;
use crate::column::Column;
use crate::expect::Expected;
use crate::feature::LeftOut;
use crate::guesses::Guesses;
use crate::label::{LabelRows, Labels, Said};
use crate::named_files::NamedFiles;
use crate::sample::Sample;
use crate::split::SplitGuess;
use crate::{group, trial, write};

/// Names of the true rates of synthetic data.
const TRUTH: [&str; 3] = ["true_ctr", "true_cvr", "true_ctcvr"];

/// Files to look at, and what is known about them.
///
/// # Examples
/// ```no_run
/// use esmm_profile::ProfileRequest;
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("log.csv").display().to_string();
/// let mut text = String::from("item,price,click,conversion\n");
/// for row in 0..200 {
///     let click = u8::from(row % 4 == 0);
///     let conversion = u8::from(row % 8 == 0);
///     text += &format!("i{},{}.5,{click},{conversion}\n", row % 7, row % 31);
/// }
/// std::fs::write(&path, text).unwrap();
/// let draft = ProfileRequest { paths: vec![path], ..ProfileRequest::default() }.draft()?;
/// assert!(draft.run_file.contains("stages = [\"click\", \"conversion\"]"));
/// # Ok::<(), esmm_run::RunError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProfileRequest {
    /// Files or globs, CSV or Parquet.
    pub paths: Vec<String>,
    /// The column of the click, if it is known.
    pub click: Option<String>,
    /// The column of the conversion, if it is known.
    pub conversion: Option<String>,
}

/// A run file, and what is to be said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The run file, with a reason for every choice.
    pub run_file: String,
    /// What was looked at and found, a line each.
    pub found: Vec<String>,
    /// What was unsure, a line each, the weightiest first.
    pub unsure: Vec<String>,
}

impl ProfileRequest {
    /// Looks at the files and makes a run file that a training accepts.
    ///
    /// # Errors
    /// Files that cannot be read, columns that hold no labels, no column that could be a feature.
    pub fn draft(&self) -> Result<Draft, RunError> {
        let named = NamedFiles::of(&self.paths)?;
        let sample = Sample::read(named.as_ref().map_or(&self.paths, |named| &named.train))?;
        let columns = Column::all(&sample)?;
        let mut guesses = self.guess(&sample, &columns, named)?;
        let time = guesses.split.time.clone();
        let mut run_file = String::new();
        // Whatever the reader refuses in the rows that are at hand is left out, with the reader's reason.
        for _ in 0..2 {
            guesses.check_features(&sample)?;
            guesses.expected = Expected::of(&guesses.features, &columns, &guesses.labels, time.as_deref());
            run_file = write::run_file(&guesses, &sample, &self.paths);
            let file = RunFile::parse(&run_file, "the drafted run file", &[])?;
            let refused = trial::run(&TrainConfig::resolve(&file)?, &sample)?;
            if refused.is_empty() {
                break;
            }
            guesses.drop_features(refused);
        }
        Ok(Draft { run_file, found: guesses.found(&sample), unsure: guesses.unsure() })
    }

    fn guess(
        &self,
        sample: &Sample,
        columns: &[Column],
        named: Option<NamedFiles>,
    ) -> Result<Guesses, RunError> {
        let path = sample.path();
        let said = Said { click: self.click.as_deref(), conversion: self.conversion.as_deref() };
        let labels = Labels::find(columns, said, LabelRows { path: &path, chunks: &sample.chunks })?;
        let rows = Rows { total: sample.total, whole: sample.is_whole() };
        let split = SplitGuess::of(columns, rows.whole);
        let group = group::find(columns).map(|column| column.name.clone());
        let truth = columns.iter().filter(|column| is_truth(column)).map(|column| column.name.clone());
        let unreadable = sample.unreadable.iter().map(|(column, why)| LeftOut {
            column: column.clone(),
            kind: "columns without a name of their own",
            why: (*why).to_owned(),
            unsure: false,
        });
        let mut guesses = Guesses {
            labels,
            split,
            group,
            truth: truth.collect(),
            features: Vec::new(),
            left_out: unreadable.collect(),
            lists: None,
            rows,
            named,
            expected: None,
        };
        for column in columns {
            guesses.take(column);
        }
        guesses.settle_numbers();
        guesses.settle_lists();
        guesses.pair_weights(columns);
        guesses.share_tables(columns);
        Ok(guesses)
    }
}

fn is_truth(column: &Column) -> bool {
    let numbers = &column.stats.numbers;
    TRUTH.contains(&column.name.as_str())
        && column.stats.all_numbers()
        && column.stats.missing() == 0
        && (0.0..=1.0).contains(&numbers.min)
        && numbers.max <= 1.0
}
