//! Whether a training fits a device: its largest tensor, and the memory that is free there.

use esmm_core::EsmmConfig;
use esmm_run::config::TrainConfig;
use esmm_run::wording::memory as bytes;

use super::DeviceInfo;
use crate::error::TrainError;
use crate::sizes;

/// Bytes of an entry of a batch: its row, and what the sort by rows keeps of it, twice.
const ENTRY: u64 = 4 + 2 * 8;

/// What a training takes of a device at least, in bytes.
struct Needs {
    /// Whatever the batch: tables, towers, and what the optimizers remember of them.
    weights: u64,
    /// For each row of a batch.
    row: u64,
    /// For each row of a batch in the widest tensor.
    widest: u64,
}

impl DeviceInfo {
    /// Checks that steps of a training fit: the widest tensor of a batch, and all of it into the memory that is free.
    /// `rows` is the number of training rows, for no batch is larger.
    ///
    /// # Errors
    /// What is too large, and the largest power of two that would fit as a batch.
    pub(super) fn check_training(
        &self,
        model: &EsmmConfig,
        config: &TrainConfig,
        rows: u64,
    ) -> Result<(), TrainError> {
        let batch = sizes::batch(config, Some(rows));
        let needs = Needs::of(self, model, config);
        self.check_widest(&needs, batch)?;
        self.check_free(&needs, batch)
    }

    /// What steps of a training take of this device, and what there is to do where it refuses that; `rows` is the number of
    /// training rows.
    pub(super) fn training_needs(&self, model: &EsmmConfig, config: &TrainConfig, rows: u64) -> String {
        let batch = sizes::batch(config, Some(rows));
        let needs = Needs::of(self, model, config);
        format!(
            "weights, optimizers and a batch of {batch} take {} of it at least: lower train.batch_size or \
             model.embedding_dim, raise min_count, or end the other programs that take its memory",
            bytes(needs.weights + needs.row * batch)
        )
    }

    /// What scoring takes of this device, and what there is to do where it refuses that.
    pub(super) fn scoring_needs(&self, model: &EsmmConfig) -> String {
        let row_bytes = &|width| self.row_bytes(width);
        let weights = sizes::tables(model, row_bytes) + sizes::tower_values(model) * sizes::VALUE;
        format!(
            "the weights take {} of it, and the rows that are scored their share: end the other programs that take its \
             memory, or say another --device",
            bytes(weights)
        )
    }

    fn check_widest(&self, needs: &Needs, batch: u64) -> Result<(), TrainError> {
        let Some(largest) = self.largest_tensor.filter(|largest| needs.widest * batch > *largest) else {
            return Ok(());
        };
        let way_out = smaller_batch(largest / needs.widest, "use smaller towers or another device");
        Err(TrainError::Device(format!(
            "a batch of {batch} is too large: its widest tensor takes {}, but `{}`, {}, allows {}; {way_out}",
            bytes(needs.widest * batch),
            self.name,
            self.description,
            bytes(largest),
        )))
    }

    fn check_free(&self, needs: &Needs, batch: u64) -> Result<(), TrainError> {
        let needed = needs.weights + needs.row * batch;
        let Some(memory) = self.memory.filter(|memory| needed > memory.free) else { return Ok(()) };
        let has = format!(
            "`{}`, {}, has {} free of {}",
            self.name,
            self.description,
            bytes(memory.free),
            bytes(memory.total)
        );
        let others = match needed <= memory.total {
            true => "end the other programs that take its memory",
            false => "use another device",
        };
        if needs.weights + needs.row > memory.free {
            return Err(TrainError::Device(format!(
                "the weights and what the optimizers remember of them take {}, but {has}: {others}, or lower \
                 model.embedding_dim, raise min_count, or say train.tables.optimizer = \"row_wise_adam\"",
                bytes(needs.weights),
            )));
        }
        let way_out = smaller_batch((memory.free - needs.weights) / needs.row, others);
        Err(TrainError::Device(format!(
            "weights, optimizers and a batch of {batch} take {} at least, but {has}; {way_out}, or {others}",
            bytes(needed),
        )))
    }
}

/// What to do where no more than `most` rows fit.
fn smaller_batch(most: u64, otherwise: &str) -> String {
    match most.checked_ilog2() {
        Some(power) => format!("train.batch_size = {} would fit", 1_u64 << power),
        None => format!("no batch would fit: {otherwise}"),
    }
}

impl Needs {
    fn of(info: &DeviceInfo, model: &EsmmConfig, config: &TrainConfig) -> Self {
        let row_bytes = &|width| info.row_bytes(width);
        let entries = model.schema.sparse().count() as u64;
        Self {
            weights: sizes::tables(model, row_bytes)
                + sizes::table_state(model, config, row_bytes)
                + sizes::towers(model, config),
            row: sizes::activations_of_row(model, row_bytes) + entries * ENTRY,
            widest: sizes::widest_of_row(model, row_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use esmm_core::{Activation, Feature, FeatureSchema, Precision, Side, TowersConfig};
    use esmm_run::config::RunFile;

    use super::*;
    use crate::device::{DeviceMemory, DeviceName};

    const MIB: u64 = 1 << 20;

    /// A card that pads its rows.
    fn card(largest_tensor: Option<u64>, memory: Option<DeviceMemory>) -> DeviceInfo {
        DeviceInfo {
            name: DeviceName::Cuda(0),
            description: "a card".to_owned(),
            largest_tensor,
            precisions: vec![Precision::F32],
            pads_rows: true,
            memory,
        }
    }

    /// 2^16 rows of 18 values, which take the room of 32: 8 MiB, and 16 MiB of moments. A row of a batch has an input of 32
    /// values and in each of two towers 128.
    fn training(batch: usize) -> (EsmmConfig, TrainConfig) {
        let file = format!(
            "features = [{{ name = \"user\" }}]\n[data]\ntrain = \"data.csv\"\n[train]\nbatch_size = {batch}\n"
        );
        let config = TrainConfig::resolve(&RunFile::parse(&file, "run.toml", &[]).unwrap()).unwrap();
        let schema = FeatureSchema::new(vec![Feature::sparse("user", Side::User, 1 << 16)]).unwrap();
        let towers = TowersConfig {
            hidden: vec![128],
            activation: Activation::Relu,
            batch_norm: true,
            dropout: vec![0.0],
        };
        (EsmmConfig { embedding_dim: 18, towers, ..EsmmConfig::new(schema) }, config)
    }

    fn refused(info: &DeviceInfo, batch: usize) -> String {
        let (model, config) = training(batch);
        info.check_training(&model, &config, u64::MAX).unwrap_err().to_string()
    }

    fn fits(info: &DeviceInfo, batch: usize, rows: u64) -> bool {
        let (model, config) = training(batch);
        info.check_training(&model, &config, rows).is_ok()
    }

    #[test]
    fn a_batch_whose_widest_tensor_is_too_large() {
        // 2 x 128 values a row: a MiB has 1024 rows.
        let info = card(Some(3 * MIB), None);
        assert!(fits(&info, 3072, u64::MAX));
        assert_eq!(
            refused(&info, 3073),
            "a batch of 3073 is too large: its widest tensor takes 3.0 MiB, but `cuda:0`, a card, allows 3.0 MiB; \
             train.batch_size = 2048 would fit"
        );
        assert!(fits(&info, 1 << 30, 3000), "no batch has more rows than there are");
        let said = refused(&card(Some(1023), None), 2);
        assert!(said.ends_with("; no batch would fit: use smaller towers or another device"), "{said}");
    }

    /// 8 MiB of tables and 16 MiB of moments, padded, and of 2 rows less than that.
    #[test]
    fn memory_that_is_refused_meanwhile() {
        let (model, config) = training(1024);
        let info = card(None, None);
        let said = info.training_needs(&model, &config, 2);
        assert!(said.starts_with("weights, optimizers and a batch of 2 take 24."), "{said}");
        assert!(said.contains(" MiB of it at least: lower train.batch_size or "), "{said}");
        let said = info.scoring_needs(&model);
        assert!(
            said.starts_with("the weights take 8.") && said.ends_with(", or say another --device"),
            "{said}"
        );
    }

    #[test]
    fn memory_that_others_have_taken() {
        let memory = |free, total| card(None, Some(DeviceMemory { free: free * MIB, total: total * MIB }));
        // Padded the tables and their moments take 24 MiB, unpadded 13.5.
        let said = refused(&memory(20, 64), 1024);
        assert!(said.starts_with("the weights and what the optimizers remember of them take 24."), "{said}");
        assert!(said.contains("has 20.0 MiB free of 64.0 MiB: end the other programs"), "{said}");
        let mut unpadded = memory(20, 64);
        unpadded.pads_rows = false;
        assert!(fits(&unpadded, 1024, u64::MAX), "it fits where rows are not padded");
        let said = refused(&memory(20, 20), 1024);
        assert!(
            said.contains("free of 20.0 MiB: use another device, or lower model.embedding_dim"),
            "{said}"
        );
        assert!(fits(&memory(64, 64), 1024, u64::MAX));
        let said = refused(&memory(64, 8192), 1 << 20);
        let (_, fitting) = said.split_once("train.batch_size = ").unwrap();
        let (batch, rest) = fitting.split_once(" would fit").unwrap();
        assert_eq!(rest, ", or end the other programs that take its memory", "{said}");
        let batch: usize = batch.parse().unwrap();
        assert!(batch.is_power_of_two() && fits(&memory(64, 8192), batch, u64::MAX), "{said}");
        assert!(!fits(&memory(64, 8192), 2 * batch, u64::MAX), "{said}: twice as many would fit too");
    }
}
