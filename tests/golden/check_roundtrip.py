"""Checks a state dict that Rust wrote: python3 check_roundtrip.py FILE.safetensors

Exit code 0: the notebook's model takes it with `load_state_dict(strict=True)`, entries have its types and shapes,
and its eval logits are those of notebook.json within 1e-5. Exit code 1: not so; one line on stderr says what
differs. Exit code 2: wrong usage.
"""

import json
import sys

import torch
from safetensors.torch import load_file

from generate import HERE, columns, notebook_model

TOLERANCE = 1e-5


def check(path):
    """What is wrong with the file, or None."""
    model = notebook_model()
    try:
        found = load_file(path)
        model.load_state_dict(found, strict=True)
    except Exception as error:
        return " ".join(str(error).split())
    for name, tensor in model.state_dict().items():  # load_state_dict casts and broadcasts silently
        if (found[name].dtype, found[name].shape) != (tensor.dtype, tensor.shape):
            has, needs = (f"{one.dtype} {list(one.shape)}" for one in (found[name], tensor))
            return f"{name}: found {has}, needs {needs}"
    golden = json.loads((HERE / "notebook.json").read_text())
    with torch.no_grad():
        logits = columns(model.eval()(torch.tensor(golden["rows"])))
    gap = (torch.tensor(logits).double() - torch.tensor(golden["logits"]).double()).abs().max().item()
    return None if gap <= TOLERANCE else f"logits differ by {gap:.3e}, allowed is {TOLERANCE:.0e}"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    torch.set_num_threads(1)
    problem = check(sys.argv[1])
    if problem is not None:
        print(f"{sys.argv[1]}: {problem}", file=sys.stderr)
        sys.exit(1)
