"""Checks an exported model with ONNX's checker, and runs it in ONNX Runtime and in tract: the golden request, and rows that
`encode.py` encodes from the files beside the model.

    check_onnx.py MODEL.onnx ROWS.csv EXPECTED.json

EXPECTED.json: {output: values} of `esmm predict` on these rows. Exits with 1 and a line where an answer differs by more than 1e-6.
"""
import csv
import json
import os
import sys

import numpy as np
import onnx
import onnxruntime
import tract

from encode import Encoders

path, rows, expected = sys.argv[1:]
folder = os.path.dirname(path)
onnx.checker.check_model(path, full_check=True)
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
DTYPES = {"tensor(int64)": np.int64, "tensor(float)": np.float32}


def in_onnx_runtime(inputs):
    return session.run(names, inputs)


def in_tract(inputs):
    model = tract.onnx().load(path)
    order = [model.input_name(place) for place in range(model.input_count())]
    for place, name in enumerate(order):
        shape = ",".join(str(length) for length in inputs[name].shape)
        model.set_input_fact(place, f"{shape},{'i64' if inputs[name].dtype == np.int64 else 'f32'}")
    outputs = [model.output_name(place) for place in range(model.output_count())]
    answers = model.into_model().into_runnable().run([inputs[name] for name in order])
    found = dict(zip(outputs, (answer.to_numpy() for answer in answers)))
    return [found[name] for name in names]


def check(what, inputs, outputs):
    described = {i.name: DTYPES[i.type] for i in session.get_inputs()}
    assert described.keys() == inputs.keys(), f"{what}: {described.keys()} {inputs.keys()}"
    assert set(names) == set(outputs), f"{what}: {names} {outputs.keys()}"
    inputs = {name: np.ascontiguousarray(values, described[name]) for name, values in inputs.items()}
    for runtime in (in_onnx_runtime, in_tract):
        for name, found in zip(names, runtime(inputs)):
            right = np.array(outputs[name], np.float32)
            worst = float(np.abs(found - right).max())
            assert found.shape == right.shape and worst <= 1e-6, f"{what}, {runtime.__name__}: {name} differs by {worst}"


with open(os.path.join(folder, "golden.json")) as file:
    golden = json.load(file)
check("golden.json", golden["inputs"], golden["outputs"])
with open(rows, newline="") as file:
    rows = list(csv.DictReader(file))
with open(expected) as file:
    check("rows", Encoders(folder).encode(rows), json.load(file))
print("all runtimes agree")
