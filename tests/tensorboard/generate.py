"""Writes golden.tfevents: the events that the tests of crates/esmm-train/src/tensorboard must reproduce byte by byte.

Run with the packages of requirements.txt. Messages and framing are TensorBoard's own; times are fixed, nothing is random.
"""

from pathlib import Path

import numpy as np
from tensorboard.compat.proto import event_pb2, graph_pb2, summary_pb2, types_pb2
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.pr_curve import metadata as pr_curve_metadata
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util import tensor_util

WALL_TIME = 1_700_000_000.25


def summary(tag, metadata, **value):
    """A summary with one value; the plugins' functions name it, which the Rust side does not."""
    metadata.display_name = ""
    return {"summary": summary_pb2.Summary(value=[{"tag": tag, "metadata": metadata, **value}])}


def scalar():
    metadata = scalar_metadata.create_summary_metadata("", "Over all rows.")
    metadata.plugin_data.content = b""  # version 0, which is the default, in an empty message
    metadata.data_class = summary_pb2.DATA_CLASS_SCALAR
    return summary("loss/total", metadata, simple_value=0.625)


def histogram():
    metadata = histogram_metadata.create_summary_metadata("", "")
    metadata.plugin_data.content = b""
    metadata.data_class = summary_pb2.DATA_CLASS_TENSOR
    # Ten values a bucket, and the largest in the last one.
    values = np.arange(401)
    counts, edges = np.histogram(values, bins=40)
    proto = summary_pb2.HistogramProto(
        min=0, max=400, num=401, sum=values.sum(), sum_squares=(values**2).sum(), bucket_limit=edges[1:], bucket=counts
    )
    return summary("logits/ctr", metadata, histo=proto)


def text():
    metadata = text_metadata.create_summary_metadata("", "")
    metadata.data_class = summary_pb2.DATA_CLASS_TENSOR
    return summary("run_file", metadata, tensor=tensor_util.make_tensor_proto(b"# a\n`b`", dtype=types_pb2.DT_STRING))


def pr_curve():
    """Scores 8 to 3, the even ones positive, at 201 equal steps of recall."""
    scores = np.arange(8, 2, -1)
    hits = np.cumsum(scores % 2 == 0)
    columns = []
    for step in range(201):
        wanted = max(1, -(-3 * (200 - step) // 200))
        selected = int(np.argmax(hits >= wanted)) + 1
        tp = int(hits[selected - 1])
        fp = selected - tp
        columns.append((tp, fp, 3 - fp, 3 - tp, tp / selected, tp / 3))
    description = (
        "Points at equal steps of recall, each exact over the whole split. The column `Threshold` counts these steps "
        "(about 1 - recall) and is no score."
    )
    metadata = pr_curve_metadata.create_summary_metadata("", description, 201)
    metadata.data_class = summary_pb2.DATA_CLASS_TENSOR
    return summary("pr/ctr", metadata, tensor=tensor_util.make_tensor_proto(np.array(columns, np.float32).T))


def hparams(tag, **data):
    data = plugin_data_pb2.HParamsPluginData(version=hparams_metadata.PLUGIN_DATA_VERSION, **data)
    metadata = hparams_metadata.create_summary_metadata(data)
    metadata.plugin_data.content = data.SerializeToString(deterministic=True)  # maps in the order of their keys
    metadata.data_class = summary_pb2.DATA_CLASS_TENSOR
    return summary(tag, metadata, tensor=hparams_metadata.NULL_TENSOR)


def hparams_experiment():
    infos = [("batch", "FLOAT64"), ("norm", "BOOL"), ("optimizer", "STRING")]
    experiment = api_pb2.Experiment(
        time_created_secs=WALL_TIME,
        hparam_infos=[{"name": name, "type": f"DATA_TYPE_{kind}"} for name, kind in infos],
        metric_infos=[
            {
                "name": {"group": "test", "tag": "final/ctr.auc"},
                "display_name": "test ctr.auc",
                "description": "ctr.auc on the test split, with the best weights",
            }
        ],
    )
    return hparams(hparams_metadata.EXPERIMENT_TAG, experiment=experiment)


def hparams_start():
    start = plugin_data_pb2.SessionStartInfo(start_time_secs=WALL_TIME)
    start.hparams["batch"].number_value = 64
    start.hparams["norm"].bool_value = False
    start.hparams["optimizer"].string_value = "adam"
    return hparams(hparams_metadata.SESSION_START_INFO_TAG, session_start_info=start)


def hparams_end():
    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=WALL_TIME)
    return hparams(hparams_metadata.SESSION_END_INFO_TAG, session_end_info=end)


def graph():
    graph = graph_pb2.GraphDef()
    graph.versions.producer = 1000

    def shape(attribute, *sizes):
        for size in sizes:
            attribute.dim.add(size=size)

    table = graph.node.add(name="tables/user/weight", op="Variable")
    shape(table.attr["_output_shapes"].list.shape.add(), 1000, 18)
    shape(table.attr["shape"].shape, 1000, 18)
    table.attr["dtype"].type = types_pb2.DT_FLOAT
    table.attr["parameters"].i = 18_000
    dropout = graph.node.add(name="towers/ctr/dropout", op="Dropout", input=["tables/user/weight"])
    shape(dropout.attr["_output_shapes"].list.shape.add(), -1, 18)
    dropout.attr["probability"].f = 0.25
    return {"graph_def": graph.SerializeToString(deterministic=True)}


def main():
    source = event_pb2.SourceMetadata(writer="esmm-train 0.1.0")
    events = [
        (0, {"file_version": "brain.Event:2", "source_metadata": source}),
        (7, {"session_log": event_pb2.SessionLog(status=event_pb2.SessionLog.START)}),
        (7, scalar()),
        (300, histogram()),
        (0, text()),
        (300, pr_curve()),
        (0, hparams_experiment()),
        (0, hparams_start()),
        (300, hparams_end()),
        (0, graph()),
    ]
    with open(Path(__file__).with_name("golden.tfevents"), "wb") as file:
        writer = RecordWriter(file)
        for step, what in events:
            event = event_pb2.Event(wall_time=WALL_TIME, step=step, **what)
            writer.write(event.SerializeToString(deterministic=True))
        writer.flush()


if __name__ == "__main__":
    main()
