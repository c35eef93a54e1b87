//! One request through all layers, some candidates at a time, so that their activations stay in the cache.

use esmm_run::correction::CorrectedRow;
use pulp::{Simd, WithSimd};

use crate::aligned::Aligned;
use crate::kernel::{Bend, Output, PAD, Rows, Start, add_bent, bend_row, dot, layer, padded, sum_of_dot};
use crate::prefetch::Ahead;
use crate::ranker::{Ranker, Request, Tower};

/// Candidates that go through all layers together.
pub(crate) const BLOCK: usize = 16;

/// Memory that requests use again, one of them at a time.
#[derive(Debug, Default)]
pub struct Scratch {
    /// What the query brings to the first layer.
    query: Aligned<f32>,
    /// Embeddings and values of the rows of a block.
    pooled: Aligned<f32>,
    /// The first layer of a block, all towers.
    first: Aligned<f32>,
    /// Later layers of a block, one tower.
    layers: [Aligned<f32>; 2],
    /// What the logits of a block are the sums of, one tower.
    dots: Aligned<f32>,
    logits: Vec<f32>,
    corrected: CorrectedRow,
    ahead: Ahead,
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
        scratch.query.at_least(ranker.share_len());
        scratch.first.at_least(BLOCK * ranker.share_len());
        scratch.dots.at_least(BLOCK * PAD);
        scratch.logits.resize(BLOCK * towers, 0.0);
        let listed = request.listed.map_or(0, |(_, places)| places.len());
        // A block has candidates of one kind.
        let block = |from: usize| {
            let end = if from < listed { listed } else { request.candidates() };
            BLOCK.min(end - from)
        };
        scratch.ahead.begin(ranker.query.work());
        push_rows(ranker, request, 0, block(0), &mut scratch.ahead);
        ranker.query.sums(
            simd,
            &ranker.tables,
            &request.query,
            0..1,
            Start::Row(&ranker.start),
            Bend::None,
            &mut scratch.pooled,
            &mut scratch.query,
            &mut scratch.ahead,
        );
        scratch.ahead.rest();
        let mut done = 0;
        while done < request.candidates() {
            let count = block(done);
            let first = if done < listed { 0 } else { ranker.item.work() };
            scratch.ahead.begin(count as u64 * (first + ranker.pair.work() + ranker.work()));
            push_rows(ranker, request, done + count, block(done + count), &mut scratch.ahead);
            first_layer(simd, ranker, request, done, count, listed, scratch);
            for (tower, parts) in ranker.towers.iter().enumerate() {
                run_tower(simd, ranker, parts, tower, count, scratch);
            }
            scratch.ahead.rest();
            probabilities(ranker, count, scratch);
            done += count;
        }
    }
}

/// What `count` candidates from one on read: to be asked for ahead of its use.
#[inline(always)]
fn push_rows(ranker: &Ranker, request: &Request<'_>, from: usize, count: usize, ahead: &mut Ahead) {
    match request.listed {
        Some((catalogue, places)) if from < places.len() => {
            for place in &places[from..from + count] {
                catalogue.shares().prefetch(*place as usize, ahead);
            }
        }
        _ => {
            let from = from - request.listed.map_or(0, |(_, places)| places.len());
            ranker.item.prefetch(&ranker.tables, &request.items, from..from + count, ahead);
        }
    }
}

/// The probabilities of the first `count` candidates of the block.
#[inline(always)]
fn probabilities(ranker: &Ranker, count: usize, scratch: &mut Scratch) {
    let towers = ranker.funnel.towers();
    let Scratch { logits, corrected, conditional, reach, .. } = scratch;
    let logits = &logits[..count * towers];
    let Some(correction) = &ranker.correction else {
        ranker.funnel.append(logits, conditional, reach);
        return;
    };
    for logits in logits.chunks_exact(towers) {
        correction.apply(logits, corrected);
        for stage in 0..ranker.funnel.stages {
            conditional.push(corrected.conditional(stage) as f32);
            reach.push(corrected.reach(stage) as f32);
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
                let share = catalogue.shares().row(*place as usize, &mut scratch.pooled);
                add_bent(simd, &scratch.query[..len], share, items, out);
            }
        }
        _ => {
            let rows = from - listed..from - listed + count;
            let Scratch { query, pooled, first, ahead, .. } = &mut *scratch;
            let start = Start::Row(query);
            ranker.item.sums(simd, &ranker.tables, &request.items, rows, start, items, pooled, first, ahead);
        }
    }
    if has_pairs {
        let rows = from..from + count;
        let Scratch { pooled, first, ahead, .. } = &mut *scratch;
        ranker.pair.sums(
            simd,
            &ranker.tables,
            &request.pairs,
            rows,
            Start::Output,
            last,
            pooled,
            first,
            ahead,
        );
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
    parts: &Tower,
    tower: usize,
    count: usize,
    scratch: &mut Scratch,
) {
    let towers = ranker.funnel.towers();
    let Scratch { first, layers: [from, to], dots, logits, ahead, .. } = scratch;
    let mut input = Rows {
        values: &first[tower * ranker.first_stride..],
        stride: ranker.share_len(),
        width: ranker.first_width,
    };
    let logits = logits[tower..].iter_mut().step_by(towers).take(count);
    let Some((weights, bias)) = &parts.output else {
        // Without a hidden layer the first one is that of the logit.
        for (row, logit) in logits.enumerate() {
            *logit = input.values[row * input.stride];
        }
        return;
    };
    let Some((last, before)) = parts.hidden.split_last() else {
        for (row, logit) in logits.enumerate() {
            let values = &input.values[row * input.stride..][..weights.len()];
            *logit = dot(simd, values, weights) + bias;
        }
        return;
    };
    let (mut from, mut to) = (from, to);
    for hidden in before {
        let stride = padded(hidden.outputs);
        to.at_least(BLOCK * stride);
        let mut out = Output::Rows { values: to, stride };
        layer(simd, count, input, &hidden.weight, Start::Row(&hidden.bias), hidden.bend, &mut out, ahead);
        std::mem::swap(&mut from, &mut to);
        input = Rows { values: from, stride, width: hidden.outputs };
    }
    let mut out = Output::Dot { weights, sums: dots };
    layer(simd, count, input, &last.weight, Start::Row(&last.bias), last.bend, &mut out, ahead);
    for (logit, dot) in logits.zip(dots.chunks_exact(PAD)) {
        *logit = sum_of_dot(simd, dot) + bias;
    }
}
