"""Checks an exported model with ONNX's checker and runs its golden request in ONNX Runtime.

    check_onnx.py MODEL.onnx
"""
import json
import os
import sys

import numpy as np
import onnx
import onnxruntime

path = sys.argv[1]
onnx.checker.check_model(path, full_check=True)
with open(os.path.join(os.path.dirname(path), "golden.json")) as file:
    golden = json.load(file)
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
dtypes = {"tensor(int64)": np.int64, "tensor(float)": np.float32}
inputs = {i.name: np.array(golden["inputs"][i.name], dtypes[i.type]) for i in session.get_inputs()}
assert inputs.keys() == golden["inputs"].keys(), golden["inputs"].keys()
names = [output.name for output in session.get_outputs()]
assert names == list(golden["outputs"]) or set(names) == set(golden["outputs"]), names
for name, found in zip(names, session.run(names, inputs)):
    expected = np.array(golden["outputs"][name], np.float32)
    worst = float(np.abs(found - expected).max())
    assert found.shape == expected.shape and worst <= golden["tolerance"], f"{name} differs by {worst}"
print("ONNX Runtime agrees")
