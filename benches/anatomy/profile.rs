//! What CubeCL's profiler says of a process.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::process::Command;

/// What a kernel is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// Matmuls of the towers.
    Matmuls,
    /// Rows of the tables: gathered, pooled, summed, updated.
    Tables,
    /// What surrounds the matmuls of a layer.
    Layers,
    /// Loss, and updates of the towers' weights.
    Others,
    /// Operations of Burn.
    Burn,
}

/// Kernels by name, with the seconds of each launch, in order.
#[derive(Debug)]
pub(crate) struct Launches(BTreeMap<String, Vec<f64>>);

/// Kernels by name, with launches and seconds of a step.
#[derive(Debug)]
pub(crate) struct Profile(BTreeMap<String, (f64, f64)>);

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Matmuls, Self::Tables, Self::Layers, Self::Others, Self::Burn];

    /// By the name of its function, without `_kernel`.
    fn of(kernel: &str) -> Self {
        match kernel {
            "Matmul" | "Pair" | "TensorMatmul" | "TensorPair" | "Join" | "Logits" => Self::Matmuls,
            "Pool" | "Count" | "Scatter" | "PieceSums" | "RowGrads" | "ByValue" | "RowWise" => Self::Tables,
            "Round" | "Restore" | "AddBias" | "AddGroups" | "Split" | "SumsByGroup" | "Finish" | "Apply"
            | "Fold" | "ChunkMoments" | "JoinMoments" | "ChunkSums" | "JoinSums" | "HiddenGrad" => {
                Self::Layers
            }
            "Loss" | "LossBackward" | "Logs" | "Probs" | "Update" => Self::Others,
            _ => Self::Burn,
        }
    }
}

impl Launches {
    /// Runs this program with these arguments and reads the profile that it leaves.
    ///
    /// # Errors
    /// A process that fails, or leaves no profile.
    pub(crate) fn of(arguments: &[String]) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("profile.log");
        let output = Command::new(std::env::current_exe()?)
            .args(arguments)
            .env("CUBECL_DEBUG_LOG", &log)
            .env("CUBECL_DEBUG_OPTION", "profile")
            .output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
        let mut kernels: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (seconds, name) in text.lines().filter_map(kernel) {
            kernels.entry(name).or_default().push(seconds);
        }
        if kernels.is_empty() {
            return Err("the profiler of CubeCL wrote no kernel".into());
        }
        Ok(Self(kernels))
    }

    /// A step, from the last ones of this run: it has `steps` more than a shorter one.
    pub(crate) fn step(self, shorter: &Self, steps: usize) -> Profile {
        let kernels = self.0.into_iter().filter_map(|(name, seconds)| {
            let before = shorter.0.get(&name).map_or(0, Vec::len);
            let last = seconds.get(before..).unwrap_or_default();
            let of_step = |total: f64| total / steps as f64;
            (!last.is_empty()).then(|| (name, (of_step(last.len() as f64), of_step(last.iter().sum()))))
        });
        Profile(kernels.collect())
    }
}

impl Profile {
    pub(crate) fn launches(&self, kind: Kind) -> f64 {
        self.of_kind(kind).map(|(launches, _)| launches).sum()
    }

    pub(crate) fn milliseconds(&self, kind: Kind) -> f64 {
        self.of_kind(kind).map(|(_, seconds)| seconds * 1e3).sum()
    }

    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (f64, f64)> {
        self.0.iter().filter(move |(name, _)| Kind::of(name) == kind).map(|(_, found)| *found)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kernels: Vec<_> = self.0.iter().collect();
        kernels.sort_unstable_by(|a, b| b.1.1.total_cmp(&a.1.1));
        for (name, (launches, seconds)) in kernels {
            let kind = format!("{:?}", Kind::of(name)).to_lowercase();
            writeln!(f, "    {:>8.3} ms {launches:>6.1} launches  {kind:<9} {name}", seconds * 1e3)?;
        }
        Ok(())
    }
}

/// `| 48.653µs   | PoolKernel | WgpuRuntime` to seconds and `Pool`. Kernels of matmuls name all of their parts, those of
/// Burn their operation.
fn kernel(line: &str) -> Option<(f64, String)> {
    let mut cells = line.strip_prefix("| ")?.split(" | ").map(str::trim);
    let seconds = seconds(cells.next()?)?;
    let name = cells.next()?;
    if name.starts_with("Matmul") {
        return Some((seconds, "Matmul".to_owned()));
    }
    let name = name.strip_suffix("Kernel").unwrap_or(name);
    let operation = cells.next().filter(|next| name.starts_with("Kernel") && next.ends_with("Op"));
    Some((seconds, operation.map_or_else(|| name.to_owned(), |operation| format!("{name} {operation}"))))
}

fn seconds(text: &str) -> Option<f64> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_alphabetic() || c == 'µ')?);
    let factor = match unit {
        "ns" => 1e-9,
        "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}
