//! One way of writing for all of ESMM: a file or a folder appears whole or not at all, one process works in a folder at a
//! time, and what is unfinished goes with the process, however that ends.
//!
//! What is not finished has a name that begins with `.esmm-`, beside its target, and is locked by the process that writes
//! it. A process that ends by itself, or by a signal that it hears ([`remove_unfinished`]), takes it along. What a killed
//! one leaves is nobody's: its lock has gone with it, and whoever writes there next removes it ([`remove_leftovers`]).
//!
//! # Examples
//! ```
//! use std::io::Write;
//!
//! # fn main() -> std::io::Result<()> {
//! # let folder = tempfile::tempdir()?;
//! let target = folder.path().join("scores.csv");
//! let mut file = esmm_files::NewFile::beside(&target)?;
//! file.write_all(b"pctr\n0.25\n")?;
//! assert!(!target.exists());
//! file.finish()?;
//! assert_eq!(std::fs::read_to_string(&target)?, "pctr\n0.25\n");
//! # Ok(())
//! # }
//! ```

mod identity;
mod lock;
mod new_file;
mod new_folder;
mod temporary;
mod unfinished;

pub use identity::FileIdentity;
pub use lock::{FolderLock, LOCK_FILE, LockError};
pub use new_file::NewFile;
pub use new_folder::NewFolder;
pub use temporary::{folder_of, is_temporary, remove_leftovers, sync_folder};
pub use unfinished::{Unfinished, make_folders, remove_unfinished};
