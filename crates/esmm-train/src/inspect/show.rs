//! An inspection as text.

use std::fmt;

use esmm_core::one_line;
use esmm_run::ensemble::averaged;
use esmm_run::wording::{grouped, memory};

use super::facts::{RunFacts, SavedWeights};
use super::layers::LayerCost;
use super::memory::GpuMemory;
use super::target::Inspection;

/// What stands where nothing is known.
const UNKNOWN: &str = "?";
/// Layers that are shown at most: of more the ones in the middle are left out.
const LAYERS: usize = 200;

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(run) = &self.run {
            writeln!(f, "{run}")?;
        }
        self.write_layers(f)?;
        self.write_step(f)?;
        self.write_memory(f)
    }
}

impl Inspection {
    fn write_layers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width =
            |value: &dyn Fn(&LayerCost) -> usize| self.layers.iter().map(value).max().unwrap_or(0).max(5);
        let name = width(&|layer| one_line(&layer.name).chars().count()).min(40);
        let (kind, output) = (width(&|layer| layer.kind.len()), width(&|layer| layer.output.len()).max(12));
        let mut line = |cells: [&str; 7]| {
            let [a, b, c, d, e, g, h] = cells;
            let line = format!("{a:<name$}  {b:<kind$}  {c:<output$}  {d:>13}  {e:>10}  {g:>11}  {h:>10}");
            writeln!(f, "{}", line.trim_end())
        };
        line(["layer", "type", "output shape", "parameters", "memory", "FLOPs/row", "read/row"])?;
        let hidden = self.layers.len().saturating_sub(LAYERS);
        for (place, layer) in self.layers.iter().enumerate() {
            if hidden > 0 && place == LAYERS / 2 {
                line([&format!("... {} more", grouped(hidden as u64)), "", "", "", "", "", ""])?;
            }
            if hidden > 0 && (LAYERS / 2..LAYERS / 2 + hidden).contains(&place) {
                continue;
            }
            let known = |value: Option<u64>, text: fn(u64) -> String| value.map_or(UNKNOWN.to_owned(), text);
            let cells = [known(layer.parameters, grouped), known(layer.bytes, bytes)];
            let (flops, read) = (grouped(layer.flops_per_row), bytes(layer.bytes_read_per_row));
            line([&one_line(&layer.name), &layer.kind, &layer.output, &cells[0], &cells[1], &flops, &read])?;
        }
        let at_least = if self.unknown_tables.is_empty() { "" } else { ">= " };
        let parameters = format!("{at_least}{}", grouped(self.parameters));
        let weights = format!("{at_least}{}", bytes(self.weight_bytes));
        let flops = grouped(self.step.flops_per_row);
        let read = bytes(self.step.bytes_read_per_row);
        line(["total", "", "", &parameters, &weights, &flops, &read])
    }

    fn write_step(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = &self.step;
        writeln!(f)?;
        writeln!(
            f,
            "a training step of {} rows: {} floating-point operations, 3 times those forward, without the optimizers; \
             what rows of a batch have in common is multiplied once, so it can be fewer",
            grouped(step.batch_size),
            operations(step.flops_per_step)
        )?;
        if !self.unknown_tables.is_empty() {
            let count = grouped(self.unknown_tables.len() as u64);
            writeln!(
                f,
                "the sizes of {count} tables (?) are those of their vocabularies: --data reads the data for them"
            )?;
        }
        if !self.unknown_lists.is_empty() {
            let lists = self.unknown_lists.iter().take(6).map(String::as_str).collect::<Vec<_>>().join(", ");
            writeln!(
                f,
                "lists are counted with one id a row ({lists}): --data reads some rows to tell their lengths"
            )?;
        }
        for (name, length) in &self.list_lengths {
            writeln!(f, "`{}` has {length:.1} ids a row", one_line(name))?;
        }
        Ok(())
    }

    fn write_memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nmemory that a training takes")?;
        for part in &self.memory.parts {
            writeln!(f, "  {:<52}  {:>10}", part.name, part.bytes.map_or(UNKNOWN.to_owned(), bytes))?;
        }
        let at_least = if self.memory.complete { "" } else { ">= " };
        writeln!(f, "  {:<52}  {:>10}", "total", format!("{at_least}{}", bytes(self.memory.total)))?;
        let GpuMemory { dense, padded } = &self.memory.gpu;
        match dense.zip(*padded) {
            Some((dense, padded)) if padded > dense => writeln!(
                f,
                "on a GPU, the first five of these are in its memory: {}; on CUDA, which pads rows of tensors, {}",
                bytes(dense),
                bytes(padded)
            ),
            _ => writeln!(f, "on a GPU, the first five of these are in its memory"),
        }
    }
}

impl fmt::Display for RunFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "data: {} (split by {})", self.data.join(", "), self.split_by)?;
        for split in &self.splits {
            let reached = split
                .metrics
                .reached
                .iter()
                .map(|(stage, rows)| format!("{} {}", grouped(*rows), one_line(stage)));
            let reached = reached.collect::<Vec<_>>().join(", ");
            writeln!(f, "{}: {} impressions, {reached}", split.name, grouped(split.metrics.rows))?;
        }
        if self.models.is_empty() {
            return writeln!(f, "{}", self.saved(self.best.as_ref()));
        }
        let models = self.models.len();
        writeln!(f, "{models} models; {}", one_line(&averaged(&self.stages)))?;
        for (seed, best) in &self.models {
            writeln!(f, "seed {seed}: {}", self.saved(best.as_ref()))?;
        }
        Ok(())
    }
}

impl RunFacts {
    /// Where saved weights come from, in words.
    fn saved(&self, best: Option<&SavedWeights>) -> String {
        let Some(best) = best else { return "no weights were saved yet".to_owned() };
        let step = best.step.map_or_else(String::new, |step| format!(", step {}", grouped(step)));
        let value = best
            .value
            .map_or_else(String::new, |value| format!(" (valid {} {value:.4})", one_line(&self.select)));
        format!("the weights are those of epoch {}{step}{value}", best.epoch)
    }
}

fn bytes(bytes: u64) -> String {
    if bytes == 0 { "0".to_owned() } else { memory(bytes) }
}

/// `123.4 M`
fn operations(count: u64) -> String {
    match count {
        0..1_000_000 => grouped(count),
        1_000_000..1_000_000_000 => format!("{:.1} million", count as f64 / 1e6),
        _ => format!("{:.1} billion", count as f64 / 1e9),
    }
}
