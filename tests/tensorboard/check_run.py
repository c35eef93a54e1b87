"""Reads the event files of a run directory with TensorBoard's own reader and compares every tag with what the run says
elsewhere.

    python check_run.py RUN_DIR [--resumed-at STEP] [--scores SPLIT=SCORES.csv ...]

SCORES.csv is what `esmm predict RUN_DIR SPLIT_FILE -o SCORES.csv --keep LABEL,..` wrote for a split with the best
weights, all labels kept; the precision-recall curves and histograms of that split are then computed anew. Prints what was compared and
exits with 1 at the first difference. Needs the packages of requirements.txt.
"""

import argparse
import csv
import json
import math
import sys
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.compat.proto import graph_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.pr_curve import metadata as pr_metadata
from tensorboard.util import tensor_util

POINTS = 201
BUCKETS = 40
TASK_METRICS = ["auc", "log_loss", "normalized_entropy", "calibration"]


def check(condition, message):
    if not condition:
        sys.exit(f"check_run.py: {message}")


def close(found, expected, what, tolerance=1e-6):
    """Within single precision, relatively."""
    check(
        math.isclose(found, expected, rel_tol=tolerance, abs_tol=tolerance), f"{what}: found {found}, expected {expected}"
    )


class Run:
    """One folder of event files."""

    def __init__(self, folder):
        self.name = folder.name
        keep_all = dict.fromkeys(event_accumulator.DEFAULT_SIZE_GUIDANCE, 0)
        self.events = event_accumulator.EventAccumulator(str(folder), size_guidance=keep_all)
        self.events.Reload()
        self.tags = self.events.Tags()
        self.seen = set()
        for tag in self.tags["scalars"] + self.tags["histograms"] + self.tags["tensors"]:
            self.rising(tag)

    def rising(self, tag):
        """Steps are there once, in order."""
        kinds = {"scalars": self.events.Scalars, "histograms": self.events.Histograms, "tensors": self.events.Tensors}
        for kind, read in kinds.items():
            if tag in self.tags[kind]:
                steps = [event.step for event in read(tag)]
                check(all(a < b for a, b in zip(steps, steps[1:])), f"{self.name} {tag}: steps {steps}")

    def scalars(self, tag):
        self.seen.add(tag)
        check(tag in self.tags["scalars"], f"{self.name}: no scalar {tag} among {self.tags['scalars']}")
        return [(event.step, event.value) for event in self.events.Scalars(tag)]

    def histograms(self, tag):
        self.seen.add(tag)
        check(tag in self.tags["histograms"], f"{self.name}: no histogram {tag} among {self.tags['histograms']}")
        events = [(event.step, event.histogram_value) for event in self.events.Histograms(tag)]
        for _, value in events:
            close(sum(value.bucket), value.num, f"{self.name} {tag}: buckets")
            check(len(value.bucket) == len(value.bucket_limit), f"{self.name} {tag}: edges")
            check(value.min <= value.max == value.bucket_limit[-1], f"{self.name} {tag}: {value.min} to {value.max}")
        return events

    def tensors(self, tag, plugin):
        self.seen.add(tag)
        check(tag in self.tags["tensors"], f"{self.name}: no tensor {tag} among {self.tags['tensors']}")
        found = self.events.SummaryMetadata(tag).plugin_data.plugin_name
        check(found == plugin, f"{self.name} {tag}: plugin {found}")
        return [(event.step, tensor_util.make_ndarray(event.tensor_proto)) for event in self.events.Tensors(tag)]

    def text(self, tag):
        [(step, value)] = self.tensors(tag, "text")
        check(step == 0, f"{tag} at step {step}")
        return value.item().decode()

    def all_seen(self):
        rest = set(self.tags["scalars"] + self.tags["histograms"] + self.tags["tensors"]) - self.seen
        check(not rest, f"{self.name}: tags that nothing was compared with: {sorted(rest)}")
        print(f"{self.name}: {len(self.seen)} tags")


def metrics_of(split):
    """`metrics.json` of a split, flat: `ctr.auc`, `ctr.auc_ci95_low`, `entire_space.cvr_auc`."""
    flat = {}
    for task, metrics in split.items():
        if not isinstance(metrics, dict) or task == "reached":
            continue
        names = ["cvr_auc", "cvr_calibration"] if task == "entire_space" else TASK_METRICS
        flat.update({f"{task}.{name}": metrics[name] for name in names})
        if "gauc" in metrics:
            flat[f"{task}.gauc"] = metrics["gauc"]["value"]
        if metrics.get("auc_ci95"):
            flat[f"{task}.auc_ci95_low"], flat[f"{task}.auc_ci95_high"] = metrics["auc_ci95"]
    return {name: value for name, value in flat.items() if value is not None}


def tasks_of(stages):
    """Tasks, and those of the towers."""
    if len(stages) == 2:
        return ["ctr", "cvr", "ctcvr"], ["ctr", "cvr"]
    towers = [stages[0]] + [f"{stage}|{before}" for before, stage in zip(stages, stages[1:])]
    return towers[:1] + [task for pair in zip(towers[1:], stages[1:]) for task in pair], towers


def check_root(root, config, schema, metrics):
    check(json.loads(root.text("config").removeprefix("```json\n").removesuffix("\n```")) == config, "text of config")
    if "run_file" in root.tags["tensors"]:
        text = root.text("run_file")
        check(text.startswith("```toml\n") and config["train"]["select"] is not None, "text of the run file")
    model = root.text("model")
    tables = [feature["name"] for feature in schema["schema"] if feature["kind"] == "sparse"]
    check(all(name in model for name in tables), f"layers: {model}")
    check_graph(root, config, schema)

    def hparams(tag, parse):
        root.tensors(tag, "hparams")
        return parse(root.events.SummaryMetadata(tag).plugin_data.content)

    experiment = hparams(hparams_metadata.EXPERIMENT_TAG, hparams_metadata.parse_experiment_plugin_data)
    start = hparams(hparams_metadata.SESSION_START_INFO_TAG, hparams_metadata.parse_session_start_info_plugin_data)
    end = hparams(hparams_metadata.SESSION_END_INFO_TAG, hparams_metadata.parse_session_end_info_plugin_data)
    check(end.status == 1 and end.end_time_secs >= start.start_time_secs > 1.7e9, f"session: {start} {end}")
    train = config["train"]
    for key in ["epochs", "batch_size", "seed"]:
        close(start.hparams[f"train.{key}"].number_value, train[key], key)
    check(start.hparams["train.select"].string_value == train["select"], "train.select")
    check(start.hparams["model.towers.batch_norm"].bool_value == config["model"]["towers"]["batch_norm"], "batch_norm")
    names = {info.name for info in experiment.hparam_infos}
    check(set(start.hparams) <= names and "train.clip_norm" in names, f"hyperparameters: {names}")
    shown = {(info.name.group, info.name.tag) for info in experiment.metric_infos}
    last = "test" if "test" in metrics else "valid" if "valid" in metrics else "train"
    check((last, "final/" + tasks_of(config["labels"]["columns"])[0][-1] + ".auc") in shown, f"metrics: {shown}")
    root.all_seen()


def check_graph(root, config, schema):
    graph = graph_pb2.GraphDef.FromString(root.events.Graph().SerializeToString())
    nodes = {node.name: node for node in graph.node}
    check(len(nodes) == len(graph.node), "node names are unique")
    for node in graph.node:
        check(all(name in nodes for name in node.input), f"{node.name} reads {node.input}")
        check(len(node.attr["_output_shapes"].list.shape) == 1, f"{node.name} has no shape")
    scopes = {name.split("/")[0] for name in nodes}
    check(scopes == {"features", "tables", "input", "towers", "funnel", "labels", "loss"}, f"top-level boxes: {scopes}")
    dim, stages = schema["embedding_dim"], schema["stages"]
    tables = [feature for feature in schema["schema"] if feature["kind"] == "sparse" and "shares" not in feature]
    for table in tables:
        sizes = [dim_.size for dim_ in nodes[f"tables/{table['name']}/weight"].attr["shape"].shape.dim]
        check(sizes[-2:] == [table["num_embeddings"], dim], f"table {table['name']}: {sizes}")
    logits = [name for name in nodes if name.endswith("/logit/linear")]
    check(len(logits) == stages, f"{logits} for {stages} stages")
    check(len(nodes["loss/total"].input) == stages, "terms of the loss")
    print(f"graph: {len(nodes)} nodes")


def check_train(train, config, schema, metrics, steps):
    labels, every = config["labels"]["columns"], config["train"]["log_every"]
    recorded = [step for step in range(1, steps + 1) if step % every == 0]
    losses = {}
    for tag in ["loss/total", *[f"loss/{label}" for label in labels]]:
        losses[tag] = train.scalars(tag)
    for tag in ["learning_rate/towers", "learning_rate/tables", "gradient_norm/towers", "gradient_norm/tables"]:
        check(all(value > 0 for _, value in train.scalars(tag)), f"{tag} is positive")
    for tag in ["speed/rows_per_second", "speed/waiting_for_data", "batch/touched_rows"]:
        check(all(value >= 0 for _, value in train.scalars(tag)), f"{tag} is not negative")
    for tag in train.seen:
        check([step for step, _ in train.scalars(tag)] == recorded, f"{tag}: steps {train.scalars(tag)}")
    weights = config["train"]["task_weights"]
    for place, (step, total) in enumerate(losses["loss/total"]):
        parts = [weight * losses[f"loss/{label}"][place][1] for weight, label in zip(weights, labels)]
        close(total, sum(parts), f"loss of step {step}", 1e-5)
    schedule = config["train"]["schedule"]
    if schedule["decay"] == "constant" and schedule["warmup_steps"] == 0:
        for _, rate in train.scalars("learning_rate/towers"):
            close(rate, schedule["learning_rate"], "learning rate")

    touched = [value for _, value in train.scalars("batch/touched_rows")]
    if "touched_rows/per_batch" in train.tags["histograms"]:
        per_batch = train.histograms("touched_rows/per_batch")
        check(sum(value.num for _, value in per_batch) <= len(touched), "touched rows of more batches than recorded")
        check(all(min(touched) <= value.min and value.max <= max(touched) for _, value in per_batch), "touched rows")
    copies = [""] if schema["shared_embeddings"] else [f"/{label}" for label in labels]
    for feature in schema["schema"]:
        if feature["kind"] == "sparse" and "shares" not in feature:
            for copy in copies:
                for _, value in train.histograms(f"row_norms/{feature['name']}{copy}"):
                    check(value.num == feature["num_embeddings"] and value.min >= 0, f"norms of {feature['name']}")


def check_valid(valid, config):
    """Validations: every metric as a curve, histograms and curves at the same steps."""
    names = [name for tag in valid.tags["scalars"] if tag.startswith("final/") for name in [tag.removeprefix("final/")]]
    select = config["train"]["select"]
    curve = valid.scalars(select.replace(".", "/"))
    best = max if select.endswith("auc") else min
    close(best(value for _, value in curve), valid.scalars(f"final/{select}")[-1][1], f"the best {select}")
    for name in names:
        task, metric = name.rsplit(".", 1)
        # Step by step the metrics of the weights that were kept.
        kept = dict(valid.scalars(f"{task}/{metric}"))
        for step, value in valid.scalars(f"final/{name}"):
            close(kept[step], value, f"{name} of step {step}")
    return [step for step, _ in curve]


def check_final(run, split):
    expected = metrics_of(split)
    found = {tag.removeprefix("final/") for tag in run.tags["scalars"] if tag.startswith("final/")}
    check(found == set(expected), f"{run.name}: {sorted(found ^ set(expected))}")
    for name, value in expected.items():
        close(run.scalars(f"final/{name}")[-1][1], value, f"{run.name} {name}")


def check_distributions(run, config, split, steps):
    tasks, towers = tasks_of(config["labels"]["columns"])
    for tag in [*[f"logits/{tower}" for tower in towers], *[f"probabilities/{task}" for task in tasks]]:
        events = run.histograms(tag)
        check([step for step, _ in events] == steps, f"{run.name} {tag}: steps")
        check(all(value.num == split["rows"] for _, value in events), f"{run.name} {tag}: rows")
        if tag.startswith("probabilities/"):
            check(all(0 <= value.min and value.max <= 1 for _, value in events), f"{run.name} {tag}: {events[-1]}")
    for task in tasks:
        tag = f"pr/{task}"
        if tag not in run.tags["tensors"]:
            check(split[task]["calibration"] is None, f"{run.name}: no curve of {task}, which has positive rows")
            continue
        data = pr_metadata.parse_plugin_metadata(run.events.SummaryMetadata(tag).plugin_data.content)
        check(data.num_thresholds == POINTS, f"{run.name} {tag}: {data}")
        for step, curve in run.tensors(tag, "pr_curves"):
            check(curve.shape == (6, POINTS) and step in steps, f"{run.name} {tag}: {curve.shape} at {step}")
            tp, fp, tn, fn, precision, recall = curve.astype(np.float64)
            check(np.allclose(precision, tp / (tp + fp)) and np.allclose(recall, tp / (tp + fn)), f"{run.name} {tag}")
            check(recall[0] == 1 and (np.diff(recall) <= 0).all() and tp[-1] >= 1, f"{run.name} {tag}: recall")
            rows = (tp + fp + tn + fn)[0]
            check((tp + fp + tn + fn == rows).all(), f"{run.name} {tag}: rows")


def column_of(task, stages):
    """The column of predictions that has the probabilities of a task."""
    if len(stages) == 2:
        return f"p{task}"
    return "p_" + task.replace("|", "_given_")


def rows_of(task, stages, column):
    """The rows on which a task is measured, and their labels."""
    if len(stages) == 2:
        stage, before = {"ctr": (stages[0], None), "cvr": (stages[1], stages[0]), "ctcvr": (stages[1], None)}[task]
    else:
        stage, before = task.split("|") if "|" in task else (task, None)
    label = column[stage] == 1
    return np.ones(len(label), bool) if before is None else column[before] == 1, label


def check_scores(run, config, path):
    """Curves and histograms of the best weights from the predictions for the same rows."""
    stages = config["labels"]["columns"]
    tasks, towers = tasks_of(stages)
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    column = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    best = run.scalars(f"final/{tasks[0]}.auc")[-1][0]
    for task in tasks:
        measured, label = rows_of(task, stages, column)
        values = column[column_of(task, stages)]
        scores, labels = values[measured], label[measured]
        curve = dict(run.tensors(f"pr/{task}", "pr_curves"))[best]
        tp, fp, tn, fn, precision, recall = curve
        for point in range(POINTS):
            # The highest threshold that reaches this recall.
            wanted = max(1, math.ceil(labels.sum() * (POINTS - 1 - point) / (POINTS - 1) - 1e-9))
            threshold = np.sort(scores[labels])[::-1][wanted - 1]
            selected = scores >= threshold
            expected = ((selected & labels).sum(), (selected & ~labels).sum())
            check((tp[point], fp[point]) == expected, f"pr/{task} {point}: {tp[point], fp[point]}, expected {expected}")
        histogram = dict(run.histograms(f"probabilities/{task}"))[best]
        close(histogram.sum, values.sum(), f"sum of {task}", 1e-4)
        close(histogram.sum_squares, (values**2).sum(), f"sum of squares of {task}", 1e-4)
        close(histogram.min, values.min(), f"smallest {task}", 1e-4)
        close(histogram.max, values.max(), f"largest {task}", 1e-4)
        values = values.clip(histogram.min, histogram.max)  # they were rounded to single precision
        counts, _ = np.histogram(values, bins=BUCKETS, range=(histogram.min, histogram.max))
        # A value at an edge may be rounded to either side.
        moved = np.abs(counts - np.array(histogram.bucket)).sum()
        check(moved <= 0.01 * len(values), f"buckets of {task}: {counts} {histogram.bucket}")
    for tower in towers:
        p = column[column_of(tower, stages)]
        histogram = dict(run.histograms(f"logits/{tower}"))[best]
        close(histogram.sum, np.log(p / (1 - p)).sum(), f"sum of logits of {tower}", 1e-3)
    print(f"{run.name}: curves and histograms as computed from {path.name}")


def check_resumed(root, at):
    """A second file goes on; the reader drops what it voids."""
    for name in ["train", "valid"]:
        files = sorted((root / name).glob("events.out.tfevents.*"))
        check(len(files) >= 2, f"{name}: {len(files)} event files of a resumed training")
    print(f"resumed after step {at}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--steps", type=int, required=True, help="steps of the whole training")
    parser.add_argument("--resumed-at", type=int)
    parser.add_argument("--scores", action="append", default=[], metavar="SPLIT=CSV")
    arguments = parser.parse_args()
    read = lambda name: json.loads((arguments.run_dir / name).read_text("utf-8"))  # noqa: E731
    config, schema, metrics = read("config.json"), read("schema.json"), read("metrics.json")
    root = arguments.run_dir / "tensorboard"
    runs = {split: Run(root / split) for split in metrics}
    check_root(Run(root), config, schema, metrics)
    check_train(runs["train"], config, schema, metrics, arguments.steps)
    steps = check_valid(runs["valid"], config) if "valid" in metrics else []
    for split, run in runs.items():
        check_final(run, metrics[split])
        ends = [step for step, _ in run.scalars("final/" + config["train"]["select"])]
        check_distributions(run, config, metrics[split], steps if split == "valid" else ends)
    if arguments.resumed_at is not None:
        check_resumed(root, arguments.resumed_at)
    for scores in arguments.scores:
        split, path = scores.split("=", 1)
        check_scores(runs[split], config, Path(path))
    for run in runs.values():
        run.all_seen()


if __name__ == "__main__":
    main()
