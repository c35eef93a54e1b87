"""Makes the golden files of this folder from PyTorch and mpmath: see README.md. Run: python3 generate.py"""

import copy
import json
import pathlib
from collections import OrderedDict

import numpy as np
import torch
from safetensors.torch import save
from torch import nn
from torch.nn.functional import logsigmoid

SEED = 18040793
HERE = pathlib.Path(__file__).resolve().parent
ROWS = 32  # a training batch
STEPS = 10
LOGITS = [-90, -60, -20, -5, -1, 0, 1, 5, 20, 60, 90]

NOTEBOOK_USER = {"user_id": (11, 0), "user_list": (12, 3), "user_num": (1, 4)}
NOTEBOOK_ITEM = {"item_id": (8, 1), "item_cate": (6, 2), "item_num": (1, 5)}
NOTEBOOK_X = [
    [1, 2, 4, 2, 0.5, 0.1],
    [4, 5, 3, 8, 0.6, 0.43],
    [6, 3, 2, 9, 0.12, 0.32],
    [9, 1, 1, 1, 0.12, 0.45],
    [8, 3, 1, 4, 0.21, 0.67],
]
# The same columns with larger tables, so that some rows are never touched.
SMALL_USER = NOTEBOOK_USER | {"user_id": (60, 0)}
SMALL_ITEM = NOTEBOOK_ITEM | {"item_id": (40, 1)}


# model


class ESMM(nn.Module):
    """Tables shared by `num_task` towers; `forward` maps x [B, columns] to `num_task` logits [B, 1]."""

    def __init__(self, user_feature_dict, item_feature_dict, emb_dim=128, hidden_dim=(128, 64),
                 dropouts=(0.5, 0.5), output_size=1, num_task=2, *, activation=None):
        super().__init__()
        for side, features in (("user", user_feature_dict), ("item", item_feature_dict)):
            if not isinstance(features, dict) or not features:
                needs = "a dict {name: (number of values, column)} with at least one feature"
                raise ValueError(f"{side}_feature_dict: found {features!r}, needs {needs}")
        self.features = [*user_feature_dict.items(), *item_feature_dict.items()]
        self.num_task = num_task
        width = 0
        for name, (values, _) in self.features:
            if values > 1:
                self.add_module(name, nn.Embedding(values, emb_dim))
            width += emb_dim if values > 1 else 1
        for task in range(1, num_task + 1):
            layers = tower([width, *hidden_dim], dropouts, output_size, activation)
            self.add_module(f"task_{task}_dnn", layers)

    def forward(self, x):
        parts = [
            getattr(self, name)(x[:, column].long()) if values > 1 else x[:, column : column + 1]
            for name, (values, column) in self.features
        ]
        hidden = torch.cat(parts, dim=1)
        return [getattr(self, f"task_{task}_dnn")(hidden) for task in range(1, self.num_task + 1)]


def tower(widths, dropouts, output_size, activation):
    layers = OrderedDict()
    for j, dropout in enumerate(dropouts):
        layers[f"ctr_hidden_{j}"] = nn.Linear(widths[j], widths[j + 1])
        layers[f"ctr_batchnorm_{j}"] = nn.BatchNorm1d(widths[j + 1])
        if activation is not None:
            layers[f"ctr_activation_{j}"] = activation()
        layers[f"ctr_dropout_{j}"] = nn.Dropout(dropout)
    layers["task_last_layer"] = nn.Linear(widths[-1], output_size)
    return nn.Sequential(layers)


def notebook_model():
    return ESMM(NOTEBOOK_USER, NOTEBOOK_ITEM)


def small_model(num_task=2, activation=None):
    return ESMM(SMALL_USER, SMALL_ITEM, emb_dim=8, hidden_dim=(16, 8), dropouts=(0.0, 0.0),
                num_task=num_task, activation=activation)


def describe(model, activation):
    first = model.task_1_dnn
    tables = [module.embedding_dim for module in model.children() if isinstance(module, nn.Embedding)]
    hidden = [layer.out_features for name, layer in first.named_children() if name.startswith("ctr_hidden")]
    dropouts = [layer.p for layer in first if isinstance(layer, nn.Dropout)]
    listed = {name: [name, values, column] for name, (values, column) in model.features}
    return {
        "user_features": [row for name, row in listed.items() if name.startswith("user")],
        "item_features": [row for name, row in listed.items() if name.startswith("item")],
        "emb_dim": tables[0], "hidden_dim": hidden, "dropouts": dropouts, "num_task": model.num_task,
        "activation": activation,
    }


def stir(model, warm_up):
    """Moves scales, shifts and slopes away from 1, 0 and 0.25, and runs `warm_up` training forwards."""
    rng = np.random.default_rng(SEED)
    draw = lambda like, mean, std: torch.tensor(rng.normal(mean, std, like.shape), dtype=like.dtype)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.weight.copy_(draw(module.weight, 1.0, 0.3))
                module.bias.copy_(draw(module.bias, 0.0, 0.3))
            elif isinstance(module, nn.PReLU):
                module.weight.copy_(draw(module.weight, 0.25, 0.15))
        for _ in range(warm_up):
            model.train()(inputs(model, rng))


def inputs(model, rng):
    """x [ROWS, 6] in float32: ids with the head more popular than the tail, dense values normal."""
    x = np.zeros((ROWS, 6), dtype=np.float32)
    for _, (values, column) in model.features:
        x[:, column] = np.floor(rng.random(ROWS) ** 3 * values) if values > 1 else rng.normal(0.3, 1.0, ROWS)
        distinct = len(np.unique(x[:, column]))
        assert 1 < distinct and (distinct < ROWS or values == 1), "a constant column, or no repeated id"
    return torch.from_numpy(x)


def labels(num_task, rng):
    """reached [ROWS, num_task]: half of those who reached a stage reach the next one."""
    reached = np.cumprod(rng.random((ROWS, num_task)) < 0.5, axis=1)
    assert (reached.sum(0) >= 2).all() and (reached.sum(0) <= ROWS - 2).all(), "labels of one class"
    return torch.from_numpy(reached.astype(np.float32))


# loss


def stage_losses(logits, reached):
    """Mean cross-entropy of each stage, [K], float64, in log space: the terms of eq. 3, arXiv 1804.07931."""
    logits, reached = torch.cat(logits, dim=1).double(), reached.double()
    log_reach = logsigmoid(logits).cumsum(1)
    log_before = torch.cat([torch.zeros_like(log_reach[:, :1]), log_reach[:, :-1]], 1)
    fails_here = log_before + logsigmoid(-logits)
    sum_of_failures = fails_here.exp().cumsum(1)
    reach = log_reach.exp()
    small = reach < 0.5
    log_not_reach = torch.where(small, torch.log1p(-torch.where(small, reach, 0.0)), sum_of_failures.log())
    return -(reached * log_reach + (1 - reached) * log_not_reach).mean(0)


def check_loss(logits, reached, losses):
    """The same loss and gradients from the definition, a product of sigmoids: float64 is enough here."""
    pair = [torch.cat(logits, dim=1).detach().double().requires_grad_() for _ in range(2)]
    product = pair[0].sigmoid().cumprod(1)
    plain = nn.functional.binary_cross_entropy(product, reached.double(), reduction="none").mean(0)
    safe = stage_losses(list(pair[1].split(1, dim=1)), reached)
    plain.sum().backward()
    safe.sum().backward()
    assert torch.allclose(plain, losses, rtol=0, atol=1e-13)
    assert torch.allclose(pair[0].grad, pair[1].grad, rtol=0, atol=1e-13)
    if len(logits) == 2:  # the closed form for a click and a conversion
        a, b = pair[1].detach().unbind(1)
        click, both = reached.double().unbind(1)
        p, s = torch.sigmoid(a) * torch.sigmoid(b), torch.sigmoid
        miss = (1 - both) * p / (s(-a) + s(a) * s(-b)) - both
        closed = torch.stack([s(a) - click + miss * s(-a), miss * s(-b)], 1) / ROWS
        assert torch.allclose(closed, pair[1].grad, rtol=0, atol=1e-13)


def backward(model, x, reached):
    """Loss terms [K] and gradients of one training step; the running statistics move."""
    model.train().zero_grad()
    logits = model(x)
    losses = stage_losses(logits, reached)
    losses.sum().backward()
    check_loss(logits, reached, losses)
    grads = {name: dense(parameter.grad) for name, parameter in model.named_parameters()}
    return logits, losses.detach(), grads


def dense(tensor):
    return (tensor.to_dense() if tensor.is_sparse else tensor).detach().clone()


# optimizers


class RowWiseAdagrad:
    """FBGEMM's EXACT_ROWWISE_ADAGRAD: one sum of mean squared gradients a row, which starts at 0."""

    def __init__(self, tables, lr, eps=1e-8):
        self.lr, self.eps = lr, eps
        self.rows = [(table, torch.zeros(table.shape[0], 1, dtype=table.dtype)) for table in tables]

    @torch.no_grad()
    def step(self):
        for table, squares in self.rows:
            squares += table.grad.pow(2).mean(1, keepdim=True)
            table -= self.lr * table.grad / (squares.sqrt() + self.eps)


OPTIMIZERS = {
    "sgd": lambda tables, towers: [torch.optim.SGD(tables + towers, lr=0.05)],
    "adam": lambda tables, towers: [torch.optim.Adam(tables + towers, lr=1e-3)],
    "sparse_adam": lambda tables, towers: [
        torch.optim.SparseAdam(tables, lr=1e-3), torch.optim.Adam(towers, lr=1e-3)],
    "rowwise_adagrad": lambda tables, towers: [
        RowWiseAdagrad(tables, lr=0.05), torch.optim.Adam(towers, lr=1e-3)],
}


def train(model, name, batches):
    """The model after one step a batch, and the loss of every step."""
    model = copy.deepcopy(model)
    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    for embedding in embeddings:
        embedding.sparse = name == "sparse_adam"
    tables = [embedding.weight for embedding in embeddings]
    towers = [parameter for key, parameter in model.named_parameters() if key.startswith("task_")]
    optimizers = OPTIMIZERS[name](tables, towers)
    losses = []
    for x, reached in batches:
        losses.append(backward(model, x, reached)[1].sum().item())
        for optimizer in optimizers:
            optimizer.step()
    return model.state_dict(), losses


# fixtures


def notebook():
    torch.manual_seed(SEED)
    model = notebook_model()
    stir(model, warm_up=5)
    model.eval()
    x = torch.tensor(NOTEBOOK_X)
    with torch.no_grad():
        logits = model(x)
        exact = copy.deepcopy(model).double()(x.double())
    assert max((one.double() - two).abs().max() for one, two in zip(logits, exact)) < 2e-6
    torch.save(model.state_dict(), HERE / "notebook.pt")
    write_tensors("notebook", model.state_dict())
    config = describe(model, "none")
    write_json("notebook", {"config": config, "rows": NOTEBOOK_X, "logits": columns(logits)})


def training():
    torch.manual_seed(SEED + 1)
    rng = np.random.default_rng(SEED + 1)
    model = small_model()
    stir(model, warm_up=0)
    batches = [(inputs(model, rng), labels(2, rng)) for _ in range(STEPS)]
    check_touched(model, batches)
    write_tensors("training_init", model.state_dict())
    record, runs = step_record("training", "none", model, batches), {}
    for name in OPTIMIZERS:
        after, losses = train(model, name, batches)
        exact, _ = train(copy.deepcopy(model).double(), name, [(x.double(), y) for x, y in batches])
        noise = [] if name == "sgd" else [key for key in after if undetermined(key)]
        assert all((after[key] - exact[key]).abs().max() < 1e-6 for key in after if key not in noise)
        runs[name] = {"losses": losses, "undetermined": noise}
        write_tensors(f"training_after_{name}", after)
    write_json("training", record | {"optimizers": runs})


def undetermined(entry):
    """Whether rounding alone decides an entry under Adam (README.md): shifts that a batch norm removes have a
    gradient of 0, of which rounding makes some 1e-9, and Adam divides by that; running means contain them."""
    last = "ctr_batchnorm_1.bias"  # no batch norm comes after it
    return entry.endswith("running_mean") or (
        "dnn.ctr_" in entry and entry.endswith(".bias") and not entry.endswith(last))


def activations(name, activation, seed):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = small_model(num_task=3, activation=activation)
    stir(model, warm_up=5)
    batch = (inputs(model, rng), labels(3, rng))
    write_tensors(f"{name}_init", model.state_dict())
    with torch.no_grad():
        eval_logits = columns(copy.deepcopy(model).eval()(batch[0]))
    kinks = []
    hooks = [m.register_forward_pre_hook(lambda _, z: kinks.append(z[0].abs().min().item()))
             for m in model.modules() if isinstance(m, activation)]
    record = step_record(name, name, model, [batch])
    for hook in hooks:
        hook.remove()
    assert min(kinks) > 1e-4, "an input so near to the kink that rounding decides: take another seed"
    write_json(name, record | {"eval_logits": eval_logits})


def step_record(name, activation, model, batches):
    """Writes gradients and statistics of one step on batch 0; the model itself stays as it is."""
    after = copy.deepcopy(model)
    logits, losses, grads = backward(after, *batches[0])
    x, reached = batches[0]
    _, _, exact = backward(copy.deepcopy(model).double(), x.double(), reached)
    assert max((grads[key] - exact[key]).abs().max() for key in grads) < 1e-6
    write_tensors(f"{name}_grads", grads)
    write_tensors(f"{name}_stats", dict(after.named_buffers()))
    listed = [{"rows": x.tolist(), "reached": y.int().tolist()} for x, y in batches]
    return {"config": describe(model, activation), "batches": listed, "logits": columns(logits),
            "loss": losses.sum().item(), "losses": losses.tolist()}


def check_touched(model, batches):
    """Some rows are never touched, some rest between two batches: that tells lazy from dense optimizers."""
    seen = [set(x[:, 0].long().tolist()) for x, _ in batches]
    assert len(set.union(*seen)) < 60 and (seen[0] & seen[2]) - seen[1] and seen[0] - seen[-1]


def funnel():
    import mpmath as mp

    mp.mp.dps = 50
    s = lambda x: 1 / (1 + mp.exp(-x))
    pairs = []
    for a, b in ((mp.mpf(a), mp.mpf(b)) for a in LOGITS for b in LOGITS):
        p, rest = s(a) * s(b), s(-a) + s(a) * s(-b)
        logs = {"log_ctr": -mp.log1p(mp.exp(-a)), "log_cvr": -mp.log1p(mp.exp(-b)),
                "log_not_ctr": -mp.log1p(mp.exp(a)),
                "log_not_ctcvr": mp.log1p(-p) if p < 0.5 else mp.log(rest)}
        logs["log_ctcvr"] = logs["log_ctr"] + logs["log_cvr"]
        click = [[s(a), mp.mpf(0)], [-s(-a), mp.mpf(0)]]
        ctcvr = [[p * s(-a) / rest, p * s(-b) / rest], [-s(-a), -s(-b)]]
        check_funnel(mp, a, b, logs, click, ctcvr)
        numbers = lambda rows: [[float(value) for value in row] for row in rows]
        logs = {key: float(value) for key, value in logs.items()}
        grads = {"click_grads": numbers(click), "ctcvr_grads": numbers(ctcvr)}
        pairs.append({"a": float(a), "b": float(b)} | logs | grads)
    write_json("funnel", {"pairs": pairs})


def check_funnel(mp, a, b, logs, click, ctcvr):
    """Logarithms from their definitions and gradients by numerical differentiation, with 250 digits."""
    with mp.workdps(250):
        s = lambda x: 1 / (1 + mp.exp(-x))
        p = {"ctr": lambda a, b: s(a), "cvr": lambda a, b: s(b), "ctcvr": lambda a, b: s(a) * s(b)}
        known = {f"log_{key}": mp.log(f(a, b)) for key, f in p.items()}
        known |= {f"log_not_{key}": mp.log(1 - p[key](a, b)) for key in ("ctr", "ctcvr")}
        near = lambda found, want: abs(found - want) <= mp.mpf(10) ** -40 * abs(want)
        assert all(near(logs[key], want) for key, want in known.items()), (a, b)
        for grads, f in ((click, p["ctr"]), (ctcvr, p["ctcvr"])):
            losses = [lambda a, b: -mp.log(1 - f(a, b)), lambda a, b: -mp.log(f(a, b))]
            for label, loss in enumerate(losses):
                for wrt, order in enumerate([(1, 0), (0, 1)]):
                    want = mp.diff(loss, (a, b), order)
                    gap = abs(grads[label][wrt] - want)
                    assert gap <= mp.mpf(10) ** -40 * abs(want) + mp.mpf(10) ** -160, (a, b)


# writing


def columns(logits):
    return [logit.detach().squeeze(1).tolist() for logit in logits]


def write_tensors(name, tensors):
    entries = {key: tensor.detach().contiguous() for key, tensor in tensors.items()}
    (HERE / f"{name}.safetensors").write_bytes(save(entries))


def write_json(name, record):
    """One line for each key, and for each batch and each pair of logits."""
    lines = []
    for key, value in ({"seed": SEED} | record).items():
        text = json.dumps(value, allow_nan=False)
        if key in ("batches", "pairs"):
            text = "[\n" + ",\n".join(json.dumps(item, allow_nan=False) for item in value) + "\n]"
        lines.append(f"{json.dumps(key)}: {text}")
    (HERE / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    notebook()
    training()
    activations("relu", nn.ReLU, SEED + 2)
    activations("prelu", nn.PReLU, SEED + 3)
    funnel()
