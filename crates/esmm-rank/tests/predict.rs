//! The engine against `esmm predict` on raw rows: random features of every encoding, spellings, catalogues from files.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::Float32Type;
use burn_ndarray::NdArray;
use esmm_data::LoadOptions;
use esmm_rank::{Encoded, ItemSource, Part, RankModel, Request, Scratch, SharePrecision};
use esmm_run::config::{RunFile, TrainConfig};
use esmm_run::manifest::Manifest;
use esmm_run::run_dir::{Existing, RunDir, write_json};
use esmm_run::scorer::Scorer;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

/// Largest difference of two probabilities: both sides add in other orders.
const TOLERANCE: f32 = 1e-6;
/// Candidates of a request.
const CANDIDATES: usize = 40;

/// The run file's keys of each encoding, and what its cells are.
const ENCODINGS: [(&str, Cells); 12] = [
    ("", Cells::Words),
    ("min_count = 3", Cells::Words),
    ("encode = \"hash\", buckets = 17", Cells::Words),
    ("encode = \"raw\", num_embeddings = 12", Cells::Small),
    ("encode = \"quantile\", buckets = 5", Cells::Reals),
    ("pooling = \"sum\"", Cells::Bags),
    ("pooling = \"mean\"", Cells::Bags),
    ("pooling = \"mean\", weighted = true", Cells::Weighted),
    ("encode = \"dense\", missing = 1.5", Cells::Reals),
    ("encode = \"standardize\", missing = 0", Cells::Reals),
    ("encode = \"log1p\", missing = 2", Cells::Reals),
    ("encode = \"ple\", bins = 4, missing = 3", Cells::Reals),
];

#[derive(Debug, Clone, Copy)]
enum Cells {
    Words,
    Small,
    Reals,
    Bags,
    Weighted,
}

/// A feature and where its cells come from.
struct Column {
    name: String,
    side: &'static str,
    cells: Cells,
}

impl Cells {
    /// A cell; of a European spreadsheet with a decimal comma.
    fn cell(self, rng: &mut ChaCha8Rng, comma: bool) -> String {
        let word = |rng: &mut ChaCha8Rng| match rng.random_range(0..5) {
            0 => rng.random_range(-3..9).to_string(),
            1 => format!("{}.0", rng.random_range(0..9)).replace('.', if comma { "," } else { "." }),
            _ => format!("w{}", rng.random_range(0..9)),
        };
        let missing = rng.random_range(0..9) == 0;
        match self {
            Self::Words if missing => [" ", "NULL", ""][rng.random_range(0..3)].to_owned(),
            Self::Words => word(rng),
            Self::Small => rng.random_range(0..12).to_string(),
            Self::Reals if missing => String::new(),
            Self::Reals => {
                let text = format!("{:.2}", rng.random_range(0.0..20.0_f64));
                if comma { text.replace('.', ",") } else { text }
            }
            Self::Bags | Self::Weighted => {
                let items = (0..rng.random_range(0..4)).map(|_| match self {
                    Self::Weighted => {
                        format!("w{}:{}", rng.random_range(0..9), [0, 1, 2][rng.random_range(0..3)])
                    }
                    _ => format!("w{}", rng.random_range(0..9)),
                });
                items.collect::<Vec<_>>().join("|")
            }
        }
    }
}

/// A run directory with initial weights, and rows of one user.
struct Case {
    folder: TempDir,
    columns: Vec<Column>,
    per_candidate: Vec<String>,
    /// The cells that are asked, `[row][column]`.
    rows: Vec<Vec<String>>,
}

impl Case {
    fn random(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let comma: bool = rng.random();
        let mut text = String::from("features = [\n");
        let mut columns: Vec<Column> = Vec::new();
        let mut per_candidate = Vec::new();
        for place in 0..rng.random_range(2..8) {
            let (keys, cells) = ENCODINGS[rng.random_range(0..ENCODINGS.len())];
            let side = if place == 0 { "item" } else { ["user", "item", "context"][rng.random_range(0..3)] };
            let name = format!("f{place}");
            // A table of words may be shared with an earlier one of words.
            let owner = columns.iter().find(|other| matches!(other.cells, Cells::Words));
            let shares = match (owner, keys) {
                (Some(owner), "") if rng.random() => format!(", shares = \"{}\"", owner.name),
                _ => String::new(),
            };
            let keys = if keys.is_empty() { String::new() } else { format!(", {keys}") };
            writeln!(text, "  {{ name = \"{name}\", side = \"{side}\"{keys}{shares} }},").unwrap();
            if side == "context" && rng.random() {
                per_candidate.push(name.clone());
            }
            columns.push(Column { name, side, cells });
        }
        text.push_str("]\n");
        let stages = [
            "[labels]\nstages = [\"click\", \"conversion\"]\n",
            "[labels]\nstages = [\"click\", \"cart\", \"conversion\"]\n",
        ];
        text.push_str(stages[rng.random_range(0..2)]);
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data.csv");
        let decimal = if comma { "decimal = \",\"\ndelimiter = \";\"\n" } else { "" };
        writeln!(
            text,
            "[data]\n{decimal}path = {data:?}\nsplit = {{ by = \"random\", valid = 0.1, test = 0.1 }}"
        )
        .unwrap();
        let hidden = ["[]", "[9]", "[17, 5]"][rng.random_range(0..3)];
        let shared: bool = rng.random();
        writeln!(
            text,
            "[model]\nembedding_dim = {}\nembedding_init_std = 0.7\nhidden = {hidden}",
            rng.random_range(1..9)
        )
        .unwrap();
        writeln!(
            text,
            "shared_embeddings = {shared}\n[train]\nseeds = {}",
            [1, 1, 3][rng.random_range(0..3)]
        )
        .unwrap();
        let mark = if comma { ";" } else { "," };
        let mut rows: Vec<Vec<String>> = Vec::new();
        for _ in 0..300 {
            rows.push(columns.iter().map(|column| column.cells.cell(&mut rng, comma)).collect());
        }
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let mut csv = format!("{}{mark}click{mark}cart{mark}conversion\n", names.join(mark));
        for (place, row) in rows.iter().enumerate() {
            let labels = [["0", "0", "0"], ["1", "0", "0"], ["1", "1", "0"], ["1", "1", "1"]][place % 4];
            writeln!(csv, "{}{mark}{}", row.join(mark), labels.join(mark)).unwrap();
        }
        std::fs::write(&data, csv).unwrap();
        // One user with some candidates; values that the training has not seen among them.
        rows.truncate(CANDIDATES);
        let first = rows[0].clone();
        for (number, row) in rows.iter_mut().enumerate() {
            for (place, column) in columns.iter().enumerate() {
                let is_of_user = column.side == "user"
                    || column.side == "context" && !per_candidate.contains(&column.name);
                if is_of_user {
                    row[place].clone_from(&first[place]);
                } else if number % 7 == 3 && matches!(column.cells, Cells::Words) {
                    row[place] = "never".to_owned();
                }
            }
        }
        let case = Self { folder, columns, per_candidate, rows };
        case.train(&text, rng.random(), mark);
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn train(&self, text: &str, seed: u64, mark: &str) {
        let file = RunFile::parse(text, "run.toml", &[]).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let config = TrainConfig::resolve(&file).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let loaded = config
            .data_spec()
            .load(&LoadOptions::default())
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
        let mut model = config.model(loaded.encoders.schema().clone()).unwrap();
        model.seed = seed / 2;
        let run = RunDir::create(&self.path("run"), Existing::Refuse).unwrap();
        let seeds = config.train.seeds;
        std::fs::create_dir_all(run.encoders()).unwrap();
        loaded.encoders.save(&run.encoders()).unwrap();
        write_json(&run.schema(), &model).unwrap();
        write_json(&run.config(), &config).unwrap();
        Manifest::begin(&run).unwrap();
        for member in run.members(seeds) {
            model.seed += 1;
            std::fs::create_dir_all(member.own_path()).unwrap();
            let weights = model.init::<NdArray>(&Default::default()).unwrap();
            Manifest::replace_weights(&member, &weights.state_dict()).unwrap();
        }
        let names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let mut asked = format!("{}{mark}id\n", names.join(mark));
        for (number, row) in self.rows.iter().enumerate() {
            writeln!(asked, "{}{mark}i{number}", row.join(mark)).unwrap();
        }
        std::fs::write(self.path("asked.csv"), asked).unwrap();
    }

    /// What `esmm predict` says, a column each.
    fn predicted(&self) -> Vec<Vec<f32>> {
        let run = RunDir::open(&self.path("run")).unwrap();
        let mut scorer = Scorer::<NdArray>::open(&run, &Default::default()).unwrap();
        let source = scorer.source(&[self.path("asked.csv").display().to_string()]);
        let chunk = source.open(&scorer.required_columns()).unwrap().next().unwrap().unwrap();
        let scores = scorer.score(&chunk).unwrap();
        scores.columns().iter().map(|column| column.as_primitive::<Float32Type>().values().to_vec()).collect()
    }

    /// The columns of a part, as texts of the first rows.
    fn encode(&self, model: &RankModel, part: Part, rows: usize) -> Encoded {
        let columns = model.columns(part);
        let values = columns.iter().map(|name| {
            let place = self.columns.iter().position(|column| column.name == *name).unwrap();
            let cells: StringArray = self.rows[..rows].iter().map(|row| Some(row[place].clone())).collect();
            (*name, Arc::new(cells) as ArrayRef)
        });
        model.encode(part, "asked", rows, &values.collect::<Vec<_>>()).unwrap()
    }
}

#[track_caller]
fn assert_near(what: &str, model: &RankModel, scores: &esmm_rank::Scores<'_>, expected: &[Vec<f32>]) {
    assert_eq!(scores.len(), CANDIDATES, "{what}");
    for (output, expected) in model.outputs().iter().zip(expected) {
        for (candidate, expected) in expected.iter().enumerate() {
            let found = scores.get(candidate, output.kind);
            let name = &output.name;
            assert!(
                (found - expected).abs() <= TOLERANCE,
                "{what}, {name} of {candidate}: {found} {expected}"
            );
        }
    }
}

#[test]
fn scores_of_raw_rows_are_those_of_predict() {
    let mut scratch = Scratch::default();
    for seed in 0..60 {
        let case = Case::random(seed);
        let model = RankModel::open(&case.path("run"), &case.per_candidate).unwrap();
        let expected = case.predicted();
        let query = case.encode(&model, Part::Query, 1);
        let items = case.encode(&model, Part::Item, CANDIDATES);
        let pairs = case.encode(&model, Part::Pair, CANDIDATES);
        let (query, items, pairs) = (query.borrow(), items.borrow(), pairs.borrow());
        let pairs = if model.columns(Part::Pair).is_empty() { Default::default() } else { pairs.columns() };
        let request = Request { query: query.columns(), listed: None, items: items.columns(), pairs };
        let scores = model.ranker.score(&request, &mut scratch).unwrap();
        assert_near(&format!("seed {seed}"), &model, &scores, &expected);
        let source = ItemSource {
            paths: vec![case.path("asked.csv").display().to_string()],
            key: "id".to_owned(),
            values: Vec::new(),
            precision: SharePrecision::F32,
            memory: None,
        };
        let catalogue = model.catalogue(&source).unwrap();
        let places: Vec<u32> =
            (0..CANDIDATES).map(|item| catalogue.place(&format!("i{item}")).unwrap()).collect();
        let listed = Request { listed: Some((&catalogue, &places)), items: Default::default(), ..request };
        let scores = model.ranker.score(&listed, &mut scratch).unwrap();
        assert_near(&format!("seed {seed}, catalogue"), &model, &scores, &expected);
    }
}

/// A catalogue whose numbers have a decimal comma, and whose ids are numbers that were written as floats.
#[test]
fn catalogues_are_spelled_as_the_training_was() {
    let case = (0..).map(Case::random).find(|case| decimal_of(&case.path("run")) == ",").unwrap();
    let model = RankModel::open(&case.path("run"), &case.per_candidate).unwrap();
    let items: Vec<&Column> = case.columns.iter().filter(|column| column.side == "item").collect();
    let names: Vec<&str> = items.iter().map(|column| column.name.as_str()).collect();
    let cells: Vec<String> = items.iter().map(|column| case.rows[0][place(&case, column)].clone()).collect();
    let text = |price: &str| format!("id;price;{}\n42,0;{price};{}\n", names.join(";"), cells.join(";"));
    let read = |price: &str| {
        std::fs::write(case.path("items.csv"), text(price)).unwrap();
        model.catalogue(&ItemSource {
            paths: vec![case.path("items.csv").display().to_string()],
            key: "id".to_owned(),
            values: vec!["price".to_owned()],
            precision: SharePrecision::F16,
            memory: None,
        })
    };
    let catalogue = read("9,50").unwrap();
    assert_eq!((catalogue.place("42"), catalogue.values("price")), (Some(0), Some(&[9.5][..])));
    assert_eq!(model.spelling().key("42,0").as_deref(), Some("42"));
    for wrong in ["9.50", "", "much"] {
        let error = read(wrong).unwrap_err().to_string();
        assert!(error.contains("items.csv:2") && error.contains("`price`"), "{error}");
    }
}

fn place(case: &Case, column: &Column) -> usize {
    case.columns.iter().position(|other| other.name == column.name).unwrap()
}

fn decimal_of(run: &Path) -> String {
    let config = RunDir::open(run).unwrap().read_config().unwrap();
    config.data.train_source().spelling.decimal.to_string()
}
