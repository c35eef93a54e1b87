//! Claims on files: one way of writing and its locks ([`esmm_files`]), what may not be written over, and checksums.

mod output;
mod sum;

pub use esmm_files::{
    FolderLock, LOCK_FILE, LockError, NewFile, NewFolder, folder_of, make_folders, remove_leftovers,
    remove_unfinished, sync_folder,
};
pub use output::Protected;
pub use sum::FileSum;

pub(crate) use esmm_files::{Unfinished, is_temporary};
