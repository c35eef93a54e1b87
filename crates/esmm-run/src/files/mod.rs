//! Claims on files: one way of writing, locks, what may not be written over, and checksums.

mod lock;
mod output;
mod sum;

pub use esmm_data::files::{NewFile, folder_of, remove_leftovers, remove_unfinished, sync_folder};
pub use lock::{FolderLock, LOCK_FILE, LockError};
pub use output::Protected;
pub use sum::FileSum;

pub(crate) use esmm_data::files::{Unfinished, is_temporary};
