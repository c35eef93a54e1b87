//! Claims on files: one way of writing, locks, what may not be written over, and checksums.

mod lock;
mod new_file;
mod output;
mod sum;
mod unfinished;

pub use lock::{FolderLock, LOCK_FILE, LockError};
pub use new_file::{NewFile, folder_of, remove_leftovers, sync_folder};
pub use output::Protected;
pub use sum::FileSum;
pub use unfinished::remove_all as remove_unfinished;

pub(crate) use new_file::is_temporary;
pub(crate) use unfinished::Unfinished;
