//! Devices as a person meets them: what there is, what there is not, what is too small, and a training on a GPU.
//!
//! The tests of wgpu need an adapter; Mesa's software Vulkan is one (`mesa-vulkan-drivers`).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::common::{self, Workspace};

#[test]
fn devices_are_listed() {
    let said = Workspace::new().esmm(&["devices"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let line = |name: &str| said.stdout.lines().find(|line| line.starts_with(name)).map(str::to_owned);
    assert!(line("default").is_some(), "{}", said.stdout);
    if cfg!(feature = "ndarray") {
        assert!(line("ndarray").unwrap().contains("this processor"), "{}", said.stdout);
    }
    if !cfg!(feature = "cuda") {
        assert!(line("cuda").unwrap().contains("--features cuda"), "{}", said.stdout);
    }
}

#[test]
fn a_precision_that_the_device_lacks() {
    let workspace = Workspace::new();
    let train = |precision: &str| {
        let set = format!("train.precision={precision}");
        workspace.esmm(&["train", "run.toml", "--run-dir", "run", "--device", "ndarray", "--set", &set])
    };
    let said = train("bf16");
    let error = said.error(2);
    assert!(error.starts_with("train.precision = bf16: `ndarray`, this processor, "), "{error}");
    assert!(error.ends_with(" threads, has f32"), "{error}");
    let said = train("f15");
    let error = said.error(2);
    assert!(error.contains("f15") && error.contains("f32") && error.contains("bf16"), "{error}");
    assert!(!workspace.path("run").exists(), "a run directory was made for nothing");
}

#[cfg(feature = "wgpu")]
mod wgpu {
    use super::common::{RUN_FILE, Said, Workspace, files};

    fn train(workspace: &Workspace, device: &str) -> Said {
        workspace.esmm(&["train", "run.toml", "--run-dir", "run", "--device", device])
    }

    #[test]
    fn a_number_that_no_adapter_has() {
        let workspace = Workspace::new();
        let said = train(&workspace, "wgpu:17");
        let error = said.error(1);
        assert!(error.starts_with("device `wgpu:17` does not exist: this machine has wgpu:0 = "), "{error}");
        assert!(!workspace.path("run").exists(), "a run directory was made for nothing");
    }

    /// Mesa complains on standard error where a variable of desktops is not set: not among the lines of a command.
    #[test]
    fn drivers_are_quiet() {
        let workspace = Workspace::new();
        let train = ["train", "run.toml", "--run-dir", "run", "--device", "wgpu", "--quiet"];
        for args in [&["devices"][..], &train, &["evaluate", "run", "data.csv", "--device", "wgpu"]] {
            let mut command = workspace.command(args);
            command.env_remove("XDG_RUNTIME_DIR");
            let said = Said::from(command.output().unwrap());
            assert_eq!(said.code, 0, "{}", said.stderr);
            assert!(!said.stderr.contains("XDG_RUNTIME_DIR"), "{args:?}: {}", said.stderr);
        }
    }

    /// Vulkan's loader finds no driver where these variables point at nothing.
    #[test]
    fn no_adapter() {
        let workspace = Workspace::new();
        let mut command = workspace.command(&["train", "run.toml", "--run-dir", "run", "--device", "wgpu"]);
        for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
            command.env(variable, "/nonexistent.json");
        }
        let said = Said::from(command.output().unwrap());
        let error = said.error(1);
        assert!(error.starts_with("no wgpu adapter was found: install the driver of your GPU"), "{error}");
        assert!(!workspace.path("run").exists());
    }

    /// What the list says of an adapter, found without a device on it, and what a device says.
    #[test]
    fn f16_where_the_list_has_it() {
        let workspace = Workspace::new();
        let said = workspace.esmm(&["devices"]);
        let line = said.stdout.lines().find(|line| line.starts_with("wgpu:0")).unwrap().to_owned();
        let said = workspace.esmm(&[
            "train",
            "run.toml",
            "--run-dir",
            "run",
            "--device",
            "wgpu",
            "--set",
            "train.precision=f16",
        ]);
        if line.contains("; f32, f16; ") {
            assert_eq!(said.code, 0, "{}", said.stderr);
            assert!(
                said.stderr.contains("training on wgpu, matmuls of hidden layers in f16"),
                "{}",
                said.stderr
            );
        } else {
            assert!(said.error(2).ends_with(", has f32"), "{}", said.stderr);
        }
    }

    /// One number more than the adapter binds, as `esmm devices` says, in each column of 100,000 rows.
    #[test]
    fn tables_beyond_the_largest_binding() {
        let workspace = Workspace::new();
        let said = workspace.esmm(&["devices"]);
        let line = said.stdout.lines().find(|line| line.starts_with("wgpu:0")).unwrap();
        let (_, limit) = line.rsplit_once("tables of up to ").unwrap();
        let mebibytes: u64 = limit.trim_end_matches(" MiB").parse().unwrap();
        let dim = (mebibytes + 1) * (1 << 20) / (4 * 100_000) + 1;
        let run_file = RUN_FILE
            .replace(
                r#"{ name = "user", side = "user" }"#,
                r#"{ name = "user", side = "user", encode = "hash", buckets = 100000 }"#,
            )
            .replace("embedding_dim = 4", &format!("embedding_dim = {dim}"));
        workspace.write("run.toml", &run_file);
        let said = train(&workspace, "wgpu");
        let error = said.error(1);
        assert!(error.starts_with("the tables take ") && error.contains(" in one tensor (1000"), "{error}");
        assert!(error.contains(" allows ") && error.contains("use smaller tables"), "{error}");
        let left = files(&workspace.path("run"));
        assert!(left.is_empty(), "left behind: {left:?}");
    }

    /// Two towers so wide that 128 rows are one too many for what the adapter binds.
    #[test]
    fn a_batch_beyond_the_largest_binding() {
        let workspace = Workspace::new();
        let said = workspace.esmm(&["devices"]);
        let line = said.stdout.lines().find(|line| line.starts_with("wgpu:0")).unwrap();
        let (_, limit) = line.rsplit_once("tables of up to ").unwrap();
        let mebibytes: u64 = limit.trim_end_matches(" MiB").parse().unwrap();
        let width = ((mebibytes + 1) << 20) / (2 * 4 * 128) + 1;
        let run_file = RUN_FILE
            .replace("hidden = [8]", &format!("hidden = [{width}]"))
            .replace("batch_size = 64", "batch_size = 128");
        workspace.write("run.toml", &run_file);
        let said = train(&workspace, "wgpu");
        let error = said.error(1);
        assert!(error.starts_with("a batch of 128 is too large: its widest tensor takes "), "{error}");
        assert!(error.ends_with("; train.batch_size = 64 would fit"), "{error}");
        let left = files(&workspace.path("run"));
        assert!(left.is_empty(), "left behind: {left:?}");
    }

    #[test]
    fn a_training_from_data_to_scores() {
        let workspace = Workspace::new();
        let said = train(&workspace, "wgpu");
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert!(said.stderr.contains("training on wgpu"), "{}", said.stderr);
        let said = workspace.esmm(&["predict", "run", "data.csv", "-o", "gpu.csv", "--device", "wgpu"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        let said = workspace.esmm(&["predict", "run", "data.csv", "-o", "cpu.csv", "--device", "ndarray"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        let [gpu, cpu] = ["gpu.csv", "cpu.csv"].map(|name| workspace.read(name));
        assert_eq!(gpu.lines().count(), 401);
        for (gpu, cpu) in gpu.lines().zip(cpu.lines()).skip(1) {
            for (gpu, cpu) in gpu.split(',').zip(cpu.split(',')) {
                let [gpu, cpu] = [gpu, cpu].map(|cell| cell.parse::<f64>().unwrap());
                assert!((gpu - cpu).abs() < 1e-5, "{gpu} on wgpu, {cpu} on ndarray");
            }
        }
    }
}
