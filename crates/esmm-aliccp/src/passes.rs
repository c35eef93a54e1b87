//! What the passes over one split have in common.

use std::path::PathBuf;
use std::sync::mpsc::Receiver;

use crate::error::{AliCcpError, BadRow};
use crate::field::Layout;
use crate::lines::{Block, blocks, total_bytes};
use crate::memory::Memory;
use crate::progress::{Meter, StepKind};
use crate::raw::RawFiles;
use crate::report::BadRows;

/// Why an attempt ended early.
#[derive(Debug)]
pub(crate) enum Halt {
    Error(AliCcpError),
    /// A field has several values, or one that is not 1, where the layout has room for one.
    Widen {
        field: usize,
        place: BadRow,
    },
}

impl From<AliCcpError> for Halt {
    fn from(error: AliCcpError) -> Self {
        Self::Error(error)
    }
}

/// The passes over one split.
pub(crate) struct Passes<'a, 'm> {
    pub(crate) split: &'static str,
    pub(crate) files: &'a RawFiles,
    pub(crate) folder: PathBuf,
    pub(crate) memory: Memory,
    pub(crate) layout: Layout,
    pub(crate) bad: &'a mut BadRows,
    pub(crate) meter: &'a mut Meter<'m>,
}

impl Passes<'_, '_> {
    /// Begins a pass over the files that it reads.
    pub(crate) fn begin(
        &mut self,
        kind: StepKind,
    ) -> Result<Receiver<Result<Block, AliCcpError>>, AliCcpError> {
        let files = match kind {
            StepKind::Common => &self.files.common,
            StepKind::Scan | StepKind::Convert => &self.files.skeleton,
        };
        self.meter.begin(self.split, kind, total_bytes(files)?);
        Ok(blocks(files))
    }

    /// How the names of files begin that a sorter writes.
    pub(crate) fn spill(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{}-{name}", self.split))
    }
}
