//! Compiled kernels, kept for the next start of this program: CUDA's take seconds to compile.

use std::ffi::OsString;
use std::path::PathBuf;

/// `off`, or a folder instead of the user's cache folder.
pub(super) const VARIABLE: &str = "ESMM_KERNEL_CACHE";

/// Makes CubeCL keep what it compiles, unless [`VARIABLE`] or a `cubecl.toml` says otherwise. CubeCL tells kernels apart by
/// name and shape, not by their source, so the folder belongs to this build of the program: to its version and its bytes.
#[cfg(feature = "cuda")]
pub(super) fn keep() {
    use burn_cubecl::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig, cache::CacheConfig};
    use std::sync::Once;

    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if CubeClRuntimeConfig::storage().lock().is_some() {
            return;
        }
        let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
        if config.compilation.cache.is_none() {
            let folder = folder(|name| std::env::var_os(name)).zip(build());
            config.compilation.cache = folder.map(|(folder, build)| CacheConfig::File(folder.join(build)));
        }
        CubeClRuntimeConfig::set(config);
    });
}

/// The folder of all builds; `None` where nothing is to be kept, or nobody knows where.
fn folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = |name| variable(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    match path(VARIABLE) {
        Some(off) if off.as_os_str() == "off" => None,
        Some(folder) => Some(folder),
        None => path("XDG_CACHE_HOME")
            .or_else(|| path("LOCALAPPDATA"))
            .or_else(|| path("HOME").map(|home| home.join(".cache")))
            .map(|folder| folder.join("esmm").join("kernels")),
    }
}

/// The version of this program and a hash of its bytes.
#[cfg(any(feature = "cuda", test))]
fn build() -> Option<String> {
    let program = std::fs::read(std::env::current_exe().ok()?).ok()?;
    let hash = twox_hash::XxHash64::oneshot(0, &program);
    Some(format!("{}-{hash:016x}", env!("CARGO_PKG_VERSION")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_kept_where_the_user_says() {
        let of = |set: &[(&str, &str)]| {
            folder(|name| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
            })
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("HOME", "/home/a")]), Some("/home/a/.cache/esmm/kernels".into()));
        assert_eq!(of(&[("HOME", "/home/a"), ("XDG_CACHE_HOME", "/c")]), Some("/c/esmm/kernels".into()));
        assert_eq!(of(&[("HOME", "/home/a"), (VARIABLE, "off")]), None);
        assert_eq!(of(&[("HOME", "/home/a"), (VARIABLE, "/k")]), Some("/k".into()));
    }

    #[test]
    fn a_build_is_its_version_and_its_bytes() {
        let name = build().unwrap();
        assert!(name.starts_with(env!("CARGO_PKG_VERSION")) && name.len() > 17, "{name}");
        assert_eq!(build().unwrap(), name);
    }
}
