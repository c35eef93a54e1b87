//! Paths of `config.json`, independent of where one stands.

use std::env;
use std::path::Path;

use esmm_data::{SourceSpec, SplitSpec};

use super::train_config::TrainConfig;

/// Standard input.
const STDIN: &str = "-";

impl TrainConfig {
    /// As it was read from a file: paths that were relative lead where they led when it was saved.
    pub(crate) fn found(mut self) -> Self {
        if let Some(folder) = self.folder.take().filter(|folder| here().as_ref() != Some(folder)) {
            self.in_folder(&folder);
        }
        self.folder = here();
        self
    }

    /// Puts a folder before paths that are relative.
    fn in_folder(&mut self, folder: &str) {
        let sources = sources(&mut self.data);
        let paths = sources.into_iter().flat_map(|source| &mut source.paths);
        for path in paths.filter(|path| *path != STDIN && Path::new(path.as_str()).is_relative()) {
            if let Some(joined) = Path::new(folder).join(&path).to_str() {
                joined.clone_into(path);
            }
        }
    }

    /// The same with all paths absolute, to be compared.
    pub(super) fn absolute(&self) -> Self {
        let mut config = self.clone();
        if let Some(folder) = here() {
            config.in_folder(&folder);
        }
        config.folder = None;
        config
    }
}

/// All sources of a split.
fn sources(split: &mut SplitSpec) -> Vec<&mut SourceSpec> {
    match split {
        SplitSpec::Files { train, valid, test } => {
            [Some(train), valid.as_mut(), test.as_mut()].into_iter().flatten().collect()
        }
        SplitSpec::Time { source, .. }
        | SplitSpec::Date { source, .. }
        | SplitSpec::Hash { source, .. }
        | SplitSpec::Random { source, .. } => vec![source],
        SplitSpec::Window { of, .. } => sources(of),
    }
}

/// The folder in which this process stands, where its name is UTF-8.
pub(super) fn here() -> Option<String> {
    env::current_dir().ok()?.into_os_string().into_string().ok()
}
