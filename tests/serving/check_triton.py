"""Asks a service as Triton's own clients do, over HTTP (JSON and binary tensors) and gRPC.

    check_triton.py ADDRESS EXPECTED.json

EXPECTED.json: {"model": name, "inputs": {name: [datatype, values]}, "outputs": {name: values}}. Exits with 1 and a line where an
answer differs by more than 1e-6.
"""
import json
import sys

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.http as http

address, path = sys.argv[1:]
with open(path) as file:
    expected = json.load(file)
model = expected["model"]
DTYPES = {"BYTES": object, "INT64": np.int64, "FP32": np.float32, "FP64": np.float64}


def tensors(library, **options):
    found = []
    for name, (datatype, values) in expected["inputs"].items():
        tensor = library.InferInput(name, [len(values)], datatype)
        tensor.set_data_from_numpy(np.array(values, DTYPES[datatype]), **options)
        found.append(tensor)
    return found


def check(how, result):
    for name, values in expected["outputs"].items():
        found = result.as_numpy(name)
        assert found.dtype == np.float32 and found.shape == (len(values),), f"{how}: {name}: {found.dtype} {found.shape}"
        worst = float(np.abs(found - np.array(values, np.float32)).max())
        assert worst <= 1e-6, f"{how}: {name} differs by {worst}"


over_http = http.InferenceServerClient(address)
assert over_http.is_server_live() and over_http.is_server_ready() and over_http.is_model_ready(model)
assert "binary_tensor_data" in over_http.get_server_metadata()["extensions"]
described = over_http.get_model_metadata(model)
assert set(expected["inputs"]) <= {tensor["name"] for tensor in described["inputs"]}, described
check("HTTP, JSON", over_http.infer(model, tensors(http, binary_data=False), outputs=[
    http.InferRequestedOutput(name, binary_data=False) for name in expected["outputs"]]))
check("HTTP, binary", over_http.infer(model, tensors(http, binary_data=True)))
check("HTTP, one output", over_http.infer(model, tensors(http), outputs=[
    http.InferRequestedOutput(name, binary_data=True) for name in expected["outputs"]], request_id="7"))
try:
    over_http.infer(model, tensors(http)[1:])
    raise SystemExit("HTTP: an input is missing, and the service answered")
except http.InferenceServerException as refused:
    assert "is missing" in str(refused), refused

over_grpc = grpc.InferenceServerClient(address)
assert over_grpc.is_server_live() and over_grpc.is_server_ready() and over_grpc.is_model_ready(model)
assert not over_grpc.is_model_ready("other")
assert over_grpc.get_model_metadata(model).name == model
check("gRPC", over_grpc.infer(model, tensors(grpc)))
try:
    over_grpc.infer(model, tensors(grpc)[1:])
    raise SystemExit("gRPC: an input is missing, and the service answered")
except grpc.InferenceServerException as refused:
    assert "is missing" in str(refused), refused
print("all clients agree")
