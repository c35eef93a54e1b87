//! Files that are no weights are told in one line, and a failed write costs nothing.

use std::fs;
use std::path::Path;

use crate::common::model::{config, user_price_item};
use crate::common::{Plain, golden, golden_json, notebook, one_line};
use esmm_core::StateDict;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Why a file cannot be read: one line, after its path.
fn unreadable(path: &Path) -> String {
    let text = one_line(StateDict::read(path).unwrap_err());
    let reason = text.strip_prefix(&format!("{}: ", path.display()));
    reason.unwrap_or_else(|| panic!("{text} names no file")).to_owned()
}

#[test]
fn a_truncated_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["notebook.pt", "notebook.safetensors"] {
        let bytes = fs::read(golden(file)).unwrap();
        let path = folder.path().join(file);
        for len in [0, 1, 7, 8, 9, 100, bytes.len() / 2, bytes.len() - 100, bytes.len() - 1] {
            fs::write(&path, &bytes[..len]).unwrap();
            let reason = unreadable(&path);
            let kind = if file.ends_with("pt") {
                "is no PyTorch state dict: "
            } else {
                "is no whole safetensors file: "
            };
            assert!(reason.starts_with(kind) && reason.len() > kind.len(), "{len} bytes: {reason}");
        }
    }
}

#[test]
fn random_bytes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(71);
    for name in ["noise.pt", "noise.pth", "noise.safetensors"] {
        for len in [0, 1, 8, 64, 1000, 50_000] {
            let path = folder.path().join(name);
            let bytes: Vec<u8> = (0..len).map(|_| rng.random()).collect();
            fs::write(&path, bytes).unwrap();
            unreadable(&path);
        }
    }
}

/// A flipped byte may hit a weight, and then the file is fine; where it is not, that is one line and no panic.
#[test]
fn flipped_bytes_do_not_panic() {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(72);
    for file in ["notebook.pt", "notebook.safetensors"] {
        let bytes = fs::read(golden(file)).unwrap();
        let path = folder.path().join(file);
        for round in 0..40 {
            let mut bytes = bytes.clone();
            // Headers are at the start of both and at the end of a `.pt`.
            let range = if round % 2 == 0 { 0..3000 } else { bytes.len() - 3000..bytes.len() };
            for _ in 0..8 {
                bytes[rng.random_range(range.clone())] = rng.random();
            }
            fs::write(&path, bytes).unwrap();
            let config = notebook(&golden_json("notebook.json")["config"]).model().unwrap();
            if let Err(error) = config.load::<Plain>(&path, &Default::default()) {
                one_line(error);
            }
        }
    }
}

#[test]
fn a_type_that_no_weight_has_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bytes.safetensors");
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::U8, vec![4, 1], &[0; 4]).unwrap();
    safetensors::serialize_to_file([("user.weight", view)], None, &path).unwrap();
    assert_eq!(unreadable(&path), "entry `user.weight` is U8 [4, 1], expected F32, F64, F16, BF16 or I64");
}

/// 1.5, -2 and 2^-14, which all of these types hold exactly.
#[test]
fn floats_of_every_width_are_read() {
    use safetensors::Dtype;
    let folder = tempfile::tempdir().unwrap();
    let values = [1.5_f32, -2.0, 6.103_515_6e-5];
    let bytes = |dtype: Dtype| -> Vec<u8> {
        match dtype {
            Dtype::F64 => values.iter().flat_map(|value| f64::from(*value).to_le_bytes()).collect(),
            Dtype::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Dtype::F16 => [0x3E00_u16, 0xC000, 0x0400].iter().flat_map(|bits| bits.to_le_bytes()).collect(),
            _ => values.iter().flat_map(|value| value.to_bits().to_le_bytes()[2..].to_vec()).collect(),
        }
    };
    for dtype in [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16] {
        let path = folder.path().join(format!("{dtype:?}.safetensors"));
        let bytes = bytes(dtype);
        let view = safetensors::tensor::TensorView::new(dtype, vec![3], &bytes).unwrap();
        safetensors::serialize_to_file([("weights", view)], None, &path).unwrap();
        let read = StateDict::read(&path).unwrap();
        assert_eq!(read.entries["weights"].iter::<f32>().collect::<Vec<_>>(), values, "{dtype:?}");
    }
}

#[test]
fn a_file_that_is_not_there_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nowhere/weights.safetensors");
    assert_eq!(unreadable(&path), "cannot be read: No such file or directory (os error 2)");
    assert!(unreadable(&path.with_extension("pt")).contains("No such file or directory"));
    let config = config(user_price_item());
    let dict = config.init::<Plain>(&Default::default()).unwrap().state_dict();
    let text = one_line(dict.write_safetensors(&path).unwrap_err());
    let begin = format!("{}: cannot be written: ", path.display());
    assert!(text.starts_with(&begin) && text.contains("No such file or directory"), "{text}");
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let config = config(user_price_item());
    let dict = config.init::<Plain>(&Default::default()).unwrap().state_dict();
    dict.write_safetensors(&path).unwrap();

    // Renaming fails: a folder of that name is in the way, and keeps what it holds.
    let folder_path = folder.path().join("folder.safetensors");
    fs::create_dir(&folder_path).unwrap();
    fs::write(folder_path.join("kept"), "kept").unwrap();
    let text = one_line(dict.write_safetensors(&folder_path).unwrap_err());
    assert!(text.contains("folder.safetensors: cannot be written: "), "{text}");
    assert_eq!(fs::read(folder_path.join("kept")).unwrap(), b"kept");
    let mut left: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["folder.safetensors", "w.safetensors"], "a temporary file is left");
}
