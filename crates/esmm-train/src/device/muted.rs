//! Standard error while libraries of the system look for adapters and start devices.
//!
//! Mesa's Vulkan layers write lines such as `error: XDG_RUNTIME_DIR is invalid or not set in the environment.` there, on every
//! machine without a desktop, whether an adapter is found or not. Among a command's own lines they would be taken for a
//! failure of it. `VK_LOADER_DEBUG`, with which Vulkan's loader is asked to tell what it does, lets everything through.

#[cfg(unix)]
use std::os::fd::OwnedFd;

/// Nothing comes to standard error until this is dropped.
pub(super) struct Muted {
    #[cfg(unix)]
    stderr: Option<OwnedFd>,
}

impl Muted {
    /// From now on.
    pub(super) fn begin() -> Self {
        Self {
            #[cfg(unix)]
            stderr: muted(),
        }
    }
}

/// Standard error as it was; `None` where it still is.
#[cfg(unix)]
fn muted() -> Option<OwnedFd> {
    if std::env::var_os("VK_LOADER_DEBUG").is_some() {
        return None;
    }
    let nowhere = std::fs::File::options().write(true).open("/dev/null").ok()?;
    let stderr = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3).ok()?;
    rustix::stdio::dup2_stderr(nowhere).ok()?;
    Some(stderr)
}

#[cfg(unix)]
impl Drop for Muted {
    fn drop(&mut self) {
        if let Some(stderr) = self.stderr.take() {
            // Where it cannot be had back, nobody could be told.
            let _ = rustix::stdio::dup2_stderr(stderr);
        }
    }
}
