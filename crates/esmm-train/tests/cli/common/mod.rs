//! The `esmm` command in a folder of its own.

#![allow(dead_code, reason = "each test file uses its own part of this module")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A folder with a small training in it.
pub(crate) struct Workspace {
    folder: TempDir,
}

/// What a command said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) const RUN_FILE: &str = r#"
features = [
  { name = "user", side = "user" },
  { name = "tags", side = "item", pooling = "mean" },
  { name = "price", side = "item", encode = "standardize" },
]

[data]
path = "data.csv"
split = { by = "random", valid = 0.2, test = 0.2, seed = 3 }

[model]
embedding_dim = 4
hidden = [8]

[train]
epochs = 2
batch_size = 64
"#;

/// The funnels that commands are tried with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Funnel {
    /// Impression, click, conversion.
    Two,
    /// And a purchase.
    Three,
}

impl Funnel {
    pub(crate) const ALL: [Self; 2] = [Self::Two, Self::Three];

    /// Rows of data.
    pub(crate) fn csv(self, rows: usize) -> String {
        let text = csv(rows);
        match self {
            Self::Two => text,
            Self::Three => with_purchases(&text),
        }
    }

    /// A run file for a file of data.
    pub(crate) fn run_file(self) -> String {
        match self {
            Self::Two => RUN_FILE.to_owned(),
            Self::Three => {
                format!("{RUN_FILE}\n[labels]\nstages = [\"click\", \"conversion\", \"purchase\"]\n")
            }
        }
    }

    /// The tasks of `metrics.json`.
    pub(crate) fn tasks(self) -> &'static [&'static str] {
        match self {
            Self::Two => &["ctr", "cvr", "ctcvr"],
            Self::Three => &["click", "conversion|click", "conversion", "purchase|conversion", "purchase"],
        }
    }

    /// The tasks that all rows count for: the probabilities of reaching each stage.
    pub(crate) fn reached(self) -> &'static [&'static str] {
        match self {
            Self::Two => &["ctr", "ctcvr"],
            Self::Three => &["click", "conversion", "purchase"],
        }
    }

    /// The stages of the funnel, named as their columns are.
    pub(crate) fn stages(self) -> &'static [&'static str] {
        match self {
            Self::Two => &["click", "conversion"],
            Self::Three => &["click", "conversion", "purchase"],
        }
    }

    /// The columns of predictions.
    pub(crate) fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Two => &["pctr", "pcvr", "pctcvr"],
            Self::Three => &[
                "p_click",
                "p_conversion_given_click",
                "p_conversion",
                "p_purchase_given_conversion",
                "p_purchase",
            ],
        }
    }

    /// The counts of `metrics.json`.
    pub(crate) fn counts(self) -> &'static [&'static str] {
        match self {
            Self::Two => &["clicks", "conversions"],
            Self::Three => &["click", "conversion", "purchase"],
        }
    }
}

/// The probabilities of a file of predictions, row by row.
pub(crate) fn probabilities(text: &str) -> Vec<Vec<f64>> {
    let row = |line: &str| line.split(',').map(|cell| cell.parse().unwrap()).collect();
    text.lines().skip(1).map(row).collect()
}

/// The probabilities of a row of predictions that multiply: of each later stage the one of reaching the stage before, of
/// going on from there, and of reaching this one.
pub(crate) fn chain(row: &[f64]) -> Vec<[f64; 3]> {
    row.windows(3).step_by(2).map(|three| [three[0], three[1], three[2]]).collect()
}

/// With a third label: about every second conversion is a purchase, whoever the user is.
fn with_purchases(text: &str) -> String {
    let lines = text.lines().enumerate().map(|(row, line)| match row {
        0 => format!("{line},purchase\n"),
        _ => format!("{line},{}\n", u8::from(line.ends_with('1') && row / 4 % 2 == 0)),
    });
    lines.collect()
}

impl Workspace {
    /// With `data.csv` (400 rows) and `run.toml`.
    pub(crate) fn new() -> Self {
        Self::of(Funnel::Two)
    }

    /// The same with the labels of a funnel.
    pub(crate) fn of(funnel: Funnel) -> Self {
        let workspace = Self { folder: tempfile::tempdir().unwrap() };
        workspace.write("data.csv", &funnel.csv(400));
        workspace.write("run.toml", &funnel.run_file());
        workspace
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_esmm"));
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        // Mesa's Vulkan complains on stderr where there is none.
        command.env("XDG_RUNTIME_DIR", self.folder.path());
        command
    }

    /// As [`command`](Self::command), listening to signals even where the tests run with some of them ignored, as a job in
    /// the background of a script does. `env` is that of coreutils.
    pub(crate) fn command_that_hears(&self, args: &[&str]) -> Command {
        let mut command = Command::new("env");
        command.args(["--default-signal=INT,TERM,HUP", env!("CARGO_BIN_EXE_esmm")]).args(args);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("XDG_RUNTIME_DIR", self.folder.path());
        command
    }

    pub(crate) fn esmm(&self, args: &[&str]) -> Said {
        Said::from(self.command(args).output().unwrap())
    }

    /// A trained model in `run`.
    pub(crate) fn trained() -> Self {
        Self::trained_of(Funnel::Two)
    }

    /// The same with the labels of a funnel.
    pub(crate) fn trained_of(funnel: Funnel) -> Self {
        let workspace = Self::of(funnel);
        let said = workspace.esmm(&["train", "run.toml", "--run-dir", "run"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        workspace
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Said {
    /// The error, which must be one line, the last one, and the only one of its kind.
    pub(crate) fn error(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "stderr: {}", self.stderr);
        let errors: Vec<&str> = self.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "one line of error, in: {}", self.stderr);
        assert_eq!(self.stderr.lines().last(), Some(errors[0]), "the error comes last: {}", self.stderr);
        assert!(self.stdout.is_empty(), "results on stdout: {}", self.stdout);
        errors[0].trim_start_matches("error: ")
    }
}

/// Rows `user,tags,price,click,conversion`, the labels depending on the user.
pub(crate) fn csv(rows: usize) -> String {
    let mut text = String::from("user,tags,price,click,conversion\n");
    for row in 0..rows {
        let user = row * 7 % 20;
        let click = u8::from((row * 13 + user * user) % 5 < 2);
        let conversion = click * u8::from((row + user) % 3 == 0);
        text.push_str(&format!("u{user},t{}|t{},{}.5,{click},{conversion}\n", row % 6, row % 4, row % 9));
    }
    text
}

/// Files of a folder, so that a test can see that nothing was left behind.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
