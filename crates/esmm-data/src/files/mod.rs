//! One way of writing: a file appears whole or not at all, and what is unfinished goes with the process.

mod new_file;
mod unfinished;

pub use new_file::{NewFile, folder_of, is_temporary, remove_leftovers, sync_folder};
pub use unfinished::{Unfinished, remove_unfinished};
