//! One request through all layers, some candidates at a time, so that their activations stay in the cache.

use esmm_run::correction::CorrectedRow;
use pulp::{Simd, WithSimd};

use crate::kernel::{Bend, Output, Rows, Start, add_bent, bend_row, dot, layer, padded};
use crate::ranker::{Ranker, Request};

/// Candidates that go through all layers together.
pub(crate) const BLOCK: usize = 32;

/// Memory that requests use again, one of them at a time.
#[derive(Debug, Default)]
pub struct Scratch {
    /// What the query brings to the first layer.
    query: Vec<f32>,
    /// Embeddings and values of the rows of a block.
    pooled: Vec<f32>,
    /// The first layer of a block, all towers.
    first: Vec<f32>,
    /// Later layers of a block, one tower.
    layers: [Vec<f32>; 2],
    logits: Vec<f32>,
    corrected: CorrectedRow,
    pub(crate) conditional: Vec<f32>,
    pub(crate) reach: Vec<f32>,
}

/// A request on its way.
pub(crate) struct Score<'a> {
    pub(crate) ranker: &'a Ranker,
    pub(crate) request: &'a Request<'a>,
    pub(crate) scratch: &'a mut Scratch,
}

impl WithSimd for Score<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { ranker, request, scratch } = self;
        let towers = ranker.funnel.towers();
        scratch.conditional.clear();
        scratch.reach.clear();
        scratch.query.resize(ranker.share_len(), 0.0);
        scratch.first.resize(BLOCK * ranker.share_len(), 0.0);
        scratch.logits.resize(BLOCK * towers, 0.0);
        prefetch_rows(ranker, request, 0, BLOCK);
        // The next block is asked for in pieces, because the processor has room for some lines under way.
        let piece = BLOCK.div_ceil(towers + 1);
        ranker.query.sums(
            simd,
            &ranker.tables,
            &request.query,
            0..1,
            Start::Row(&ranker.start),
            Bend::None,
            &mut scratch.pooled,
            &mut scratch.query,
        );
        let listed = request.listed.map_or(0, |(_, places)| places.len());
        let mut done = 0;
        while done < request.candidates() {
            // A block has candidates of one kind.
            let end = if done < listed { listed } else { request.candidates() };
            let count = BLOCK.min(end - done);
            prefetch_rows(ranker, request, done + count, piece);
            first_layer(simd, ranker, request, done, count, listed, scratch);
            for (tower, parts) in ranker.towers.iter().enumerate() {
                prefetch_rows(ranker, request, done + count + (tower + 1) * piece, piece);
                run_tower(simd, ranker, parts, tower, count, scratch);
            }
            for logits in scratch.logits[..count * towers].chunks_exact(towers) {
                let Some(correction) = &ranker.correction else {
                    ranker.funnel.append(logits, &mut scratch.conditional, &mut scratch.reach);
                    continue;
                };
                let row = &mut scratch.corrected;
                correction.apply(logits, row);
                for stage in 0..ranker.funnel.stages {
                    scratch.conditional.push(row.conditional(stage) as f32);
                    scratch.reach.push(row.reach(stage) as f32);
                }
            }
            done += count;
        }
    }
}

/// Asks for what `count` candidates from one on read, as far as there are so many.
#[inline(always)]
fn prefetch_rows(ranker: &Ranker, request: &Request<'_>, from: usize, count: usize) {
    let listed = request.listed.map_or(0, |(_, places)| places.len());
    match request.listed {
        Some((catalogue, places)) if from < listed => {
            for place in &places[from..listed.min(from + count)] {
                catalogue.prefetch(*place as usize);
            }
        }
        _ => {
            let rows = (from - listed).min(request.items.rows)..request.items.rows.min(from - listed + count);
            ranker.item.prefetch(&ranker.tables, &request.items, rows);
        }
    }
}

/// The first layer of `count` candidates from `from` on.
#[inline(always)]
fn first_layer<S: Simd>(
    simd: S,
    ranker: &Ranker,
    request: &Request<'_>,
    from: usize,
    count: usize,
    listed: usize,
    scratch: &mut Scratch,
) {
    let len = ranker.share_len();
    let has_pairs = !ranker.pair.is_empty();
    // What bends the sums: the last that adds to them, and one for each tower where their slopes differ.
    let same = ranker.bends.iter().all(|bend| *bend == ranker.bends[0]);
    let last = if same { ranker.bends[0] } else { Bend::None };
    let items = if has_pairs { Bend::None } else { last };
    match request.listed {
        Some((catalogue, places)) if from < listed => {
            let rows = scratch.first.chunks_exact_mut(len);
            for (place, out) in places[from..from + count].iter().zip(rows) {
                let share = catalogue.share(*place as usize, &mut scratch.pooled);
                add_bent(simd, &scratch.query, share, items, out);
            }
        }
        _ => {
            let rows = from - listed..from - listed + count;
            let (start, pooled, out) =
                (Start::Row(&scratch.query), &mut scratch.pooled, &mut scratch.first[..]);
            ranker.item.sums(simd, &ranker.tables, &request.items, rows, start, items, pooled, out);
        }
    }
    if has_pairs {
        let (rows, pooled, out) = (from..from + count, &mut scratch.pooled, &mut scratch.first[..]);
        ranker.pair.sums(simd, &ranker.tables, &request.pairs, rows, Start::Output, last, pooled, out);
    }
    if !same {
        for row in scratch.first.chunks_exact_mut(len).take(count) {
            for (out, bend) in row.chunks_exact_mut(ranker.first_stride).zip(&ranker.bends) {
                bend_row(simd, *bend, out);
            }
        }
    }
}

/// The logits of a tower for the first `count` candidates of the block.
#[inline(always)]
fn run_tower<S: Simd>(
    simd: S,
    ranker: &Ranker,
    parts: &crate::ranker::Tower,
    tower: usize,
    count: usize,
    scratch: &mut Scratch,
) {
    let towers = ranker.funnel.towers();
    let Scratch { first, layers: [from, to], logits, .. } = scratch;
    let mut input = Rows {
        values: &first[tower * ranker.first_stride..],
        stride: ranker.share_len(),
        width: ranker.first_width,
    };
    let (mut from, mut to) = (from, to);
    for hidden in &parts.hidden {
        let stride = padded(hidden.outputs);
        to.resize(BLOCK * stride, 0.0);
        let mut out = Output { values: to, stride };
        layer(simd, count, input, &hidden.weight, Start::Row(&hidden.bias), hidden.bend, &mut out);
        std::mem::swap(&mut from, &mut to);
        input = Rows { values: from, stride, width: hidden.outputs };
    }
    for row in 0..count {
        let values = &input.values[row * input.stride..];
        logits[row * towers + tower] = match &parts.output {
            None => values[0],
            Some((weights, bias)) => dot(simd, &values[..weights.len()], weights) + bias,
        };
    }
}
