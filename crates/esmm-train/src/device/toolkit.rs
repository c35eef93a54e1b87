//! What kernels for CUDA need on a machine, beside the driver: CubeCL compiles them at run time.

use std::path::{Path, PathBuf};

/// Where CubeCL looks for the toolkit where `CUDA_PATH` is not set.
const USUAL: [&str; 2] = ["/usr/local/cuda", "/opt/cuda"];
/// Headers that a kernel includes.
const HEADERS: [&str; 2] = ["cuda_runtime.h", "crt/host_defines.h"];
const ADVICE: &str = "install the CUDA toolkit, 12 or newer";

/// Why a kernel could not be compiled, as far as one can tell: what is missing, where it was looked for, what to do.
pub(super) fn missing(reason: &str, cuda_path: Option<&Path>) -> Option<String> {
    if reason.contains("nvrtc") && reason.contains("load") {
        return Some(format!(
            "CUDA's compiler library (libnvrtc) was not found on the loader's path: {ADVICE}, or add its folder to \
             LD_LIBRARY_PATH"
        ));
    }
    let roots: Vec<PathBuf> = match cuda_path {
        Some(root) => vec![root.to_owned()],
        None => USUAL.map(PathBuf::from).into(),
    };
    // As CubeCL does: the first folder that is there.
    let root = roots.iter().find(|root| root.exists());
    let lacks = |root: &PathBuf| HEADERS.iter().find(|header| !root.join("include").join(header).exists());
    match (root, root.and_then(lacks)) {
        (Some(_), None) => None,
        (Some(root), Some(header)) => Some(format!(
            "CUDA's header {header} was not found in {}: {ADVICE}, or set CUDA_PATH to the folder whose include/ has it",
            root.join("include").display()
        )),
        (None, _) => {
            let looked: Vec<_> = roots.iter().map(|root| root.display().to_string()).collect();
            let (looked, set) =
                (looked.join(", "), if cuda_path.is_some() { "" } else { "CUDA_PATH (not set), " });
            Some(format!("CUDA's headers were looked for in {set}{looked}: {ADVICE}, or set CUDA_PATH"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let said = missing(r#"Unable to dynamically load the "nvrtc" shared library"#, Some(root)).unwrap();
        assert!(said.starts_with("CUDA's compiler library (libnvrtc) was not found"), "{said}");
        let nowhere = root.join("nowhere");
        let said = missing("", Some(&nowhere)).unwrap();
        assert!(said.contains("nowhere: install the CUDA toolkit") && !said.contains("not set"), "{said}");
        for header in HEADERS {
            let said = missing("", Some(root)).unwrap();
            assert!(said.contains(header) && said.contains("include"), "{said}");
            let path = root.join("include").join(header);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        assert_eq!(missing("something else", Some(root)), None);
    }
}
