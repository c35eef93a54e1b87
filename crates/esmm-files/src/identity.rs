//! Whether two paths lead to one file.

use std::path::Path;

/// What all paths to one file have in common: hard links and symbolic links included, where the system tells.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileIdentity(Inner);

#[cfg(unix)]
type Inner = (u64, u64);
#[cfg(not(unix))]
type Inner = std::path::PathBuf;

impl FileIdentity {
    /// Of a file, whatever links lead to it; `None` where there is none, or something that is no file.
    ///
    /// # Examples
    /// ```
    /// use esmm_files::FileIdentity;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let folder = tempfile::tempdir()?;
    /// let [first, second] = ["a.csv", "b.csv"].map(|name| folder.path().join(name));
    /// std::fs::write(&first, "click\n1\n")?;
    /// std::fs::hard_link(&first, &second)?;
    /// assert!(FileIdentity::of(&first).is_some());
    /// # #[cfg(unix)]
    /// assert_eq!(FileIdentity::of(&first), FileIdentity::of(&second));
    /// assert_eq!(FileIdentity::of(folder.path()), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
        Self::inner(path, &metadata).map(Self)
    }

    #[cfg(unix)]
    fn inner(_: &Path, metadata: &std::fs::Metadata) -> Option<Inner> {
        use std::os::unix::fs::MetadataExt;
        Some((metadata.dev(), metadata.ino()))
    }

    #[cfg(not(unix))]
    fn inner(path: &Path, _: &std::fs::Metadata) -> Option<Inner> {
        path.canonicalize().ok()
    }
}
