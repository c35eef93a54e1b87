//! The table of `docs/src/endings.md` where it takes a disk, a user or an environment of its own: small and read-only
//! disks, no HOME, another user. They need mount namespaces of one's own (`unshare` of util-linux), or root, and are
//! skipped where there are none.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::{Command, Stdio};

use crate::common::{RUN_FILE, Said, Workspace, csv, files};

/// Runs a shell script in a mount namespace of its own, with the command as `$ESMM`; `None` where there is none to be had.
fn in_namespace(workspace: &Workspace, script: &str) -> Option<Said> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", script]);
    let is_possible = Command::new("unshare").args(["--mount", "--map-root-user", "true"]).output();
    if !is_possible.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no mount namespace can be had here");
        return None;
    }
    command.env("ESMM", env!("CARGO_BIN_EXE_esmm")).env("XDG_RUNTIME_DIR", workspace.path(""));
    Some(Said::from(command.current_dir(workspace.path("")).stdin(Stdio::null()).output().unwrap()))
}

/// Whatever the size of the disk, a training ends with 0 or with one line of error, and leaves no half file.
#[test]
fn a_full_disk_ends_a_training_with_one_line() {
    let workspace = Workspace::new();
    std::fs::create_dir(workspace.path("disk")).unwrap();
    let mut codes = Vec::new();
    for kibibytes in [4, 16, 24, 32, 48, 64, 96, 128, 256, 4096] {
        let script = format!(
            "mount -t tmpfs -o size={kibibytes}k none disk || exit 77
             $ESMM train run.toml --run-dir disk/run --set train.checkpoint_every=3; code=$?
             find disk -name '.esmm-*' | grep . && exit 78
             exit $code"
        );
        let Some(said) = in_namespace(&workspace, &script) else { return };
        if said.code == 77 {
            eprintln!("skipped: no tmpfs can be mounted here");
            return;
        }
        assert!(said.code == 0 || said.code == 1, "{kibibytes} KiB: exit {}: {}", said.code, said.stderr);
        if said.code == 1 {
            assert!(!said.error(1).is_empty(), "{kibibytes} KiB");
        }
        codes.push(said.code);
    }
    assert_eq!((codes[0], *codes.last().unwrap()), (1, 0), "{codes:?}");
}

/// Unpacked copies go where temporary files go: if that is full, or not there, the error says so, and not that the file is bad.
#[test]
fn a_full_folder_for_temporary_files_is_told() {
    let workspace = Workspace::trained();
    workspace.write("many.csv", &csv(60_000));
    std::fs::create_dir(workspace.path("disk")).unwrap();
    let predict = "$ESMM predict run many.csv.gz -o scores.csv";
    let full = format!(
        "gzip many.csv && mount -t tmpfs -o size=1m none disk || exit 77
         TMPDIR=$PWD/disk {predict}; code=$?
         test -z \"$(ls -A disk)\" || exit 78
         exit $code"
    );
    let absent = format!("TMPDIR=/nonexistent/folder {predict}");
    for (script, reason) in [(full.as_str(), "No space left on device"), (&absent, "No such file")] {
        let Some(said) = in_namespace(&workspace, script) else { return };
        if said.code == 77 {
            eprintln!("skipped: no tmpfs can be mounted here");
            return;
        }
        let error = said.error(1);
        assert!(error.contains("cannot hold a copy of many.csv.gz: ") && error.contains(reason), "{error}");
        assert!(error.ends_with("set TMPDIR to a folder with room for it, or unpack it first"), "{error}");
        assert!(!workspace.path("scores.csv").exists());
    }
}

#[test]
fn a_full_disk_leaves_what_was_there_before() {
    let workspace = Workspace::trained();
    std::fs::create_dir(workspace.path("disk")).unwrap();
    let script = "mount -t tmpfs -o size=8k none disk || exit 77
         echo before > disk/scores.csv
         $ESMM predict run data.csv -o disk/scores.csv && exit 78
         test \"$(cat disk/scores.csv)\" = before || exit 79
         test \"$(ls -A disk)\" = scores.csv || exit 80
         exit 1";
    let Some(said) = in_namespace(&workspace, script) else { return };
    if said.code != 77 {
        assert!(said.error(1).starts_with("disk/scores.csv: cannot be written"), "{}", said.stderr);
    }
}

/// Whatever the limit of the shell, a training ends well, with one line, or as a process that memory was refused to; and what
/// it leaves does no harm.
#[test]
fn a_limit_on_memory_does_no_harm() {
    let workspace = Workspace::new();
    workspace.write("data.csv", &csv(20_000));
    let script = |kibibytes: u32, args: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -v {kibibytes} || exit 77; $ESMM train {args}; exit $?")]);
        command.env("ESMM", env!("CARGO_BIN_EXE_esmm")).env("XDG_RUNTIME_DIR", workspace.path(""));
        Said::from(command.current_dir(workspace.path("")).stdin(Stdio::null()).output().unwrap())
    };
    let mut codes = Vec::new();
    for mebibytes in [64, 128, 192, 256, 384, 512, 1024, 2048, 16_384] {
        let args = "run.toml --run-dir run --device ndarray --set train.checkpoint_every=50";
        let said = script(mebibytes * 1024, args);
        if said.code == 77 {
            eprintln!("skipped: the shell has no limit on memory");
            return;
        }
        match said.code {
            0 => {}
            1 => assert!(!said.error(1).is_empty()),
            // Rust's runtime aborts a process that gets no memory; where not even the program fits, its loader or the
            // kernel end it.
            126 | 127 | 134 | 137 | 139 => assert!(said.stdout.is_empty(), "{mebibytes} MiB"),
            code => panic!("{mebibytes} MiB: exit {code}: {}", said.stderr),
        }
        codes.push(said.code);
        if said.code != 0 && workspace.path("run").exists() {
            let next: &[&str] = match workspace.path("run/config.json").exists() {
                true => &["train", "--run-dir", "run", "--resume"],
                false => &["train", "run.toml", "--run-dir", "run", "--overwrite"],
            };
            let said = workspace.esmm(next);
            assert_eq!(said.code, 0, "after {mebibytes} MiB: {}", said.stderr);
        }
        let _ = std::fs::remove_dir_all(workspace.path("run"));
    }
    assert_eq!(codes.last(), Some(&0), "{codes:?}");
    assert_ne!(codes[0], 0, "{codes:?}");
}

/// The versions of Linux's control groups, by the files that tell their limits.
#[derive(Debug, Clone, Copy)]
enum ControlGroups {
    One,
    Two,
}

impl ControlGroups {
    const ALL: [Self; 2] = [Self::One, Self::Two];

    /// What `/proc/self/cgroup` says of a process in the group `/batch/job`.
    fn membership(self) -> &'static str {
        match self {
            Self::One => "5:cpu,cpuacct:/\n4:hugetlb,memory:/batch/job\n",
            Self::Two => "0::/batch/job\n",
        }
    }

    /// The file of a group below `/sys/fs/cgroup`, and what it says where there is no limit.
    fn limit_of(self, group: &str) -> (String, &'static str) {
        match self {
            Self::One => (format!("memory/{group}/memory.limit_in_bytes"), "9223372036854771712"),
            Self::Two => (format!("{group}/memory.max"), "max"),
        }
    }
}

/// The command in a control group whose parent may take 1 MiB, as far as the system's files tell: rows get half of it, and
/// tables that will not fit are warned of. (The kernel's own answer to a group that takes too much is SIGKILL.)
#[test]
fn a_limit_of_a_control_group_counts() {
    for version in ControlGroups::ALL {
        let workspace = Workspace::new();
        workspace.write("data.csv", &csv(40_000));
        for (group, limit) in [("batch", Some("1048576")), ("batch/job", None)] {
            let (file, no_limit) = version.limit_of(group);
            let file = workspace.path("system").join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, limit.unwrap_or(no_limit)).unwrap();
        }
        workspace.write("membership", version.membership());
        // `exec` keeps the process whose file is replaced.
        let train = "train run.toml --run-dir run --set train.epochs=1 --set train.batch_size=1024";
        let script = format!(
            "mount --bind system /sys/fs/cgroup && mount --bind membership /proc/$$/cgroup || exit 77
             exec $ESMM {train} --device ndarray --set model.embedding_dim=4096"
        );
        let Some(said) = in_namespace(&workspace, &script) else { return };
        if said.code == 77 {
            eprintln!("skipped: the files of control groups cannot be replaced here");
            return;
        }
        assert_eq!(said.code, 0, "{version:?}: {}", said.stderr);
        for expected in [
            "more than half of the 1 MiB that this process may take: every pass reads their files",
            "this process may take 1.0 MiB: lower model.embedding_dim",
        ] {
            assert!(said.stderr.contains(expected), "{version:?}: {expected} in: {}", said.stderr);
        }
    }
}

/// A training whose tables cannot fit under the shell's limit is refused before anything is made, where it would be ended by
/// the runtime in the middle of its work.
#[test]
fn tables_beyond_the_limit_of_the_shell_are_refused() {
    let workspace = Workspace::new();
    let user = r#"{ name = "user", side = "user", encode = "hash", buckets = 50000000 }"#;
    let run_file = RUN_FILE.replace(r#"{ name = "user", side = "user" }"#, user);
    assert_ne!(run_file, RUN_FILE);
    workspace.write("run.toml", &run_file);
    for limit in ["-v", "-d"] {
        let mut command = Command::new("sh");
        let train = "$ESMM train run.toml --run-dir run --device ndarray --set data.unknown_share=0.0";
        command.args(["-c", &format!("ulimit {limit} 1048576 || exit 77; {train}")]);
        command.env("ESMM", env!("CARGO_BIN_EXE_esmm")).env("XDG_RUNTIME_DIR", workspace.path(""));
        let said = Said::from(command.current_dir(workspace.path("")).stdin(Stdio::null()).output().unwrap());
        if said.code == 77 {
            eprintln!("skipped: the shell has no such limit on memory");
            return;
        }
        // Three times four values of four bytes for each of 50 million rows: weights, and two moments of Adam.
        let expected = "the weights and what the optimizers remember of them take 2.2 GiB, this process may take 1.0 GiB";
        assert!(said.error(1).starts_with(expected), "{limit}: {}", said.stderr);
        assert!(!workspace.path("run").exists(), "left behind: {:?}", files(&workspace.path("run")));
    }
}

#[test]
fn a_read_only_disk_is_told() {
    let workspace = Workspace::trained();
    let train = "$ESMM train run.toml --run-dir new";
    let predict = "$ESMM predict run data.csv -o scores.csv";
    for (command, start) in
        [(train, "new: cannot be used as a run directory"), (predict, "scores.csv: cannot be written")]
    {
        let script = format!("mount --bind -o ro . . && cd \"$PWD\" || exit 77; {command}");
        let Some(said) = in_namespace(&workspace, &script) else { return };
        if said.code != 77 {
            assert!(said.error(1).starts_with(start), "{}", said.stderr);
        }
    }
    // Reading needs nothing to be written.
    let script = "mount --bind -o ro . . && cd \"$PWD\" || exit 77; $ESMM evaluate run data.csv";
    let Some(said) = in_namespace(&workspace, script) else { return };
    assert!(said.code == 0 || said.code == 77, "{}", said.stderr);
}

#[test]
fn no_home_is_needed() {
    let workspace = Workspace::new();
    for args in [
        &["train", "run.toml", "--run-dir", "run", "--tensorboard"][..],
        &["predict", "run", "data.csv", "-o", "scores.csv"],
        &["report", "run", "-o", "report.html"],
    ] {
        let said = Said::from(workspace.command(args).env_clear().output().unwrap());
        assert_eq!(said.code, 0, "{args:?}: {}", said.stderr);
        // Nor do libraries of the system complain on our behalf.
        assert!(!said.stderr.contains("error:"), "{args:?}: {}", said.stderr);
    }
}

/// Another user than the one who trained: reads what may be read, and is told what may not be written.
#[test]
fn another_user_is_told() {
    let workspace = Workspace::trained();
    let script = "id -u nobody >/dev/null && test \"$(id -u)\" = 0 || exit 77
         chmod 755 .
         setpriv --reuid=nobody --regid=nogroup --clear-groups true 2>/dev/null || exit 77
         setpriv --reuid=nobody --regid=nogroup --clear-groups $ESMM train --run-dir run --resume";
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("ESMM", env!("CARGO_BIN_EXE_esmm")).current_dir(workspace.path(""));
    command.env("XDG_RUNTIME_DIR", workspace.path(""));
    let said = Said::from(command.stdin(Stdio::null()).output().unwrap());
    if said.code == 77 || said.stderr.contains("failed to execute") {
        eprintln!("skipped: no other user can be had here");
        return;
    }
    assert!(said.error(1).starts_with("run: cannot be used as a run directory"), "{}", said.stderr);
    assert!(!files(&workspace.path("run")).contains(&"esmm.lock".to_owned()));
}
