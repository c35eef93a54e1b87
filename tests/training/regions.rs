//! What a step of a training leaves to many cores of a CPU, counted on few: every parallel region of the kernels has tasks
//! for 16 threads. `cargo bench --bench scaling -- --threads 1` times them.
#![cfg(feature = "ndarray")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;

use crate::workload::{Training, Workload, raw_batches};
use burn::backend::Autodiff;
use burn_ndarray::NdArray;
use esmm_core::backend::record_regions;

const THREADS: usize = 16;

/// Regions that a step enters for each layer, among them that of the logits, whose weights are a column: fewer tasks are
/// allowed there, for it is a hundredth of the others.
const OF_NARROW_LAYERS: [(&str, usize); 2] = [("transposed weights", 2), ("weight gradient", 8)];

/// The one region that is cut by the number of threads: each task reads all touched rows, so that more of them cost more.
/// Every row changes by itself, so the cut does not show.
const BY_MACHINE: &str = "update of touched rows";

/// Tables as high as may be without taking memory, but none that makes its feature narrow where the workload's does not.
fn small(workload: Workload, batch: usize) -> Workload {
    let tables = workload.tables.iter().map(|rows| *rows.min(&20_000)).collect();
    Workload { tables, batch, ..workload }
}

/// For each region of a step on so many threads the fewest and the most tasks that it had.
fn tasks_of(workload: &Workload, threads: usize) -> BTreeMap<&'static str, (usize, usize)> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let ((), regions) = pool.install(|| {
        let mut training = Training::<Autodiff<NdArray>>::new(workload, Default::default());
        let raw = raw_batches(workload, 1, 2018).remove(0);
        record_regions(|| drop(training.step(&raw)))
    });
    let mut found = BTreeMap::new();
    for region in regions {
        let tasks = region.tasks.len();
        let (fewest, most) = found.entry(region.name).or_insert((tasks, tasks));
        *fewest = tasks.min(*fewest);
        *most = tasks.max(*most);
    }
    found
}

#[test]
fn a_step_has_tasks_for_sixteen_cores() {
    for batch in [2048, 8192] {
        let workload = small(Workload::aliccp(), batch);
        let found = tasks_of(&workload, THREADS);
        for (name, tasks) in tasks_of(&workload, 1) {
            assert!(name == BY_MACHINE || found[name] == tasks, "`{name}`: {tasks:?} tasks on one thread");
        }
        for (name, (fewest, most)) in &found {
            let narrow = OF_NARROW_LAYERS.iter().find(|(narrow, _)| narrow == name);
            let allowed = narrow.map_or(THREADS, |(_, tasks)| *tasks);
            assert!(*fewest >= allowed, "batch {batch}: {fewest} tasks of `{name}`: {found:#?}");
            assert!(*most >= THREADS, "batch {batch}: {most} tasks of `{name}` at most: {found:#?}");
        }
        assert!(found.len() > 12, "{found:#?}");
    }
}
