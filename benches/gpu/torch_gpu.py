"""Best PyTorch on one CUDA card for the three workloads, one process: samples/s of a training step and of scoring.

usage: python benches/gpu/torch_gpu.py [--workloads notebook,aliccp,bigtable] [--batches 4096,16384,65536] [--seconds 1.0]
Variants of the step (from raw id/dense/label arrays in pinned host memory to updated weights; Adam on the towers, lazy Adam on touched rows):
  sparse        nn.Embedding(sparse=True) + SparseAdam + fused Adam
  rows          torch.unique, gathered rows as the leaf, update by hand
  compiled      the same with towers and loss through torch.compile
  graph         static shapes (sort, segment ids, index_add), forward, backward and both updates in ONE CUDA graph
each in f32 (no tf32), and `graph`/`compiled` also with tf32 and bf16 autocast. Prints one JSON object a line.
"""

import argparse, json, time, itertools, statistics, sys
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F

A = argparse.ArgumentParser()
A.add_argument("--workloads", default="notebook,aliccp,bigtable")
A.add_argument("--batches", default="4096,16384,65536")
A.add_argument("--seconds", type=float, default=1.0)
A.add_argument("--variants", default="sparse,rows,compiled,graph")
A.add_argument("--modes", default="train,infer")
A.add_argument("--precisions", default="f32,tf32,bf16")
A.add_argument(
    "--plan", help="instead: WORKLOAD:BATCH:PRECISION:VARIANT+..:MODE+.., several separated by commas, in order"
)
a = A.parse_args()
W = {
    "notebook": ([10000, 1000, 50000, 500], 128, 2, [128, 64], 0.5, False),
    "aliccp": (
        [
            240000,
            100,
            15,
            3,
            8,
            4,
            3,
            3,
            6,
            460000,
            7000,
            260000,
            90000,
            50,
            110000,
            60000,
            35000,
            12000,
            5000,
            400,
            100,
            20000,
            3000,
        ],
        18,
        0,
        [360, 200, 80],
        0.0,
        True,
    ),
    "bigtable": ([5000000, 2000000, 1000000, 100000, 1000, 100], 16, 0, [128, 64], 0.0, True),
}
dev = torch.device("cuda")
B1, B2, EPS, LR = 0.9, 0.999, 1e-8, 1e-3


def tower(i, hid, p, relu):
    L = []
    for h in hid:
        L += [nn.Linear(i, h), nn.BatchNorm1d(h)] + ([nn.ReLU()] if relu else []) + ([nn.Dropout(p)] if p else [])
        i = h
    return nn.Sequential(*L, nn.Linear(i, 1))


class Towers(nn.Module):
    def __init__(s, w, hid, p, relu):
        super().__init__()
        s.a, s.b = tower(w, hid, p, relu), tower(w, hid, p, relu)

    def forward(s, x):
        return s.a(x)[:, 0], s.b(x)[:, 0]


def loss_fn(l1, l2, c, y):
    l1, l2 = l1.float(), l2.float()
    lc = F.logsigmoid(l1)
    lv = lc + F.logsigmoid(l2)
    ln = torch.logaddexp(F.logsigmoid(-l1), lc + F.logsigmoid(-l2))
    return F.binary_cross_entropy_with_logits(l1, c) - torch.lerp(ln, lv, y).mean()


def batches(rows, dense, bs, n=8):
    g = np.random.default_rng(1)
    out = []
    for _ in range(n):
        ids = np.stack([(g.random(bs) ** 3 * v).astype(np.int32) for v in rows], 1)
        c = (g.random(bs) < 0.04).astype(np.float32)
        y = c * (g.random(bs) < 0.05)
        out.append(
            [
                torch.from_numpy(t).pin_memory()
                for t in (ids, g.random((bs, dense), dtype=np.float32), c, y.astype(np.float32))
            ]
        )
    return out


def timed(step, bs, seconds, sync_every=20):
    for _ in range(25):
        step()
    torch.cuda.synchronize()
    t0 = last = time.perf_counter()
    ts = []
    while last - t0 < seconds or len(ts) < 5:
        for _ in range(sync_every):
            step()
        torch.cuda.synchronize()
        now = time.perf_counter()
        ts.append((now - last) / sync_every)
        last = now
    return bs / statistics.median(ts), statistics.median(ts) * 1e3


def emit(**k):
    print(json.dumps(k), flush=True)


def run(name, bs, prec, variants=None, modes=None):
    rows, D, dense, hid, p, relu = W[name]
    torch.manual_seed(0)
    tf = prec == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = tf
    torch.backends.cudnn.allow_tf32 = tf
    amp = lambda: torch.autocast("cuda", torch.bfloat16, enabled=prec == "bf16")
    data = itertools.cycle(batches(rows, dense, bs))
    off = torch.tensor(np.cumsum([0, *rows[:-1]]), dtype=torch.int32, device=dev)
    R = sum(rows)
    width = len(rows) * D + dense
    want = variants or [v for v in a.variants.split(",") if prec == "f32" or v in ("compiled", "graph")]
    modes = modes or a.modes.split(",")
    for v in want if "train" in modes else []:
        torch._dynamo.reset()
        torch.cuda.empty_cache()
        try:
            tw = Towers(width, hid, p, relu).to(dev)
            if v == "sparse":
                emb = nn.ModuleList(nn.Embedding(r, D, sparse=True, device=dev) for r in rows)
                opts = [
                    torch.optim.SparseAdam(list(emb.parameters()), lr=LR),
                    torch.optim.Adam(tw.parameters(), lr=LR, fused=True),
                ]

                def step():
                    ids, den, c, y = (t.to(dev, non_blocking=True) for t in next(data))
                    ids = ids.long()
                    for o in opts:
                        o.zero_grad()
                    with amp():
                        l = loss_fn(*tw(torch.cat([e(ids[:, i]) for i, e in enumerate(emb)] + [den], 1)), c, y)
                    l.backward()
                    [o.step() for o in opts]

            elif v in ("rows", "compiled"):
                T = torch.randn(R, D, device=dev)
                M, V = torch.zeros_like(T), torch.zeros_like(T)
                opt = torch.optim.Adam(tw.parameters(), lr=LR, fused=True)
                f = lambda x, c, y: loss_fn(*tw(x), c, y)
                f = torch.compile(f) if v == "compiled" else f

                def upd(r, m, s, g, ss):
                    m = m.lerp(g, 1 - B1)
                    s = s.lerp(g * g, 1 - B2)
                    return r - ss * m / (s.sqrt() + EPS), m, s

                u_ = torch.compile(upd, dynamic=True) if v == "compiled" else upd
                n = itertools.count(1)

                def step():
                    ids, den, c, y = (t.to(dev, non_blocking=True) for t in next(data))
                    u, inv = torch.unique((ids + off).long(), return_inverse=True)
                    r = T[u].requires_grad_()
                    x = torch.cat([F.embedding(inv, r).flatten(1), den], 1)
                    opt.zero_grad()
                    with amp():
                        l = f(x, c, y)
                    l.backward()
                    opt.step()
                    k = next(n)
                    ss = LR * (1 - B2**k) ** 0.5 / (1 - B1**k)
                    with torch.no_grad():
                        for t, w in zip((T, M, V), u_(r.detach(), M[u], V[u], r.grad, torch.tensor(ss))):
                            t.index_copy_(0, u, w)

            else:
                # everything static: sorted ids, a slot a distinct row, unused slots point at a spare row R
                T = torch.randn(R + 1, D, device=dev)
                M, V = torch.zeros_like(T), torch.zeros_like(T)
                opt = torch.optim.Adam(tw.parameters(), lr=LR, fused=True, capturable=True)
                N = bs * len(rows)
                ids_s = torch.zeros(bs, len(rows), dtype=torch.int32, device=dev)
                den_s = torch.zeros(bs, dense, device=dev)
                c_s, y_s = torch.zeros(bs, device=dev), torch.zeros(bs, device=dev)
                k = torch.zeros((), device=dev)
                fwd = torch.compile(lambda x, c, y: loss_fn(*tw(x), c, y))

                def prep(ids):
                    s, order = torch.sort((ids + off).flatten())
                    new = torch.ones_like(s, dtype=torch.bool)
                    new[1:] = s[1:] != s[:-1]
                    slot = torch.cumsum(new, 0) - 1
                    u = torch.full((N,), R, dtype=torch.int64, device=dev).scatter_(0, slot, s.long())
                    inv = torch.empty(N, dtype=torch.int64, device=dev).scatter_(0, order, slot)
                    return u, inv

                def table_update(u, g, ss):
                    m, s = M[u].lerp(g, 1 - B1), V[u].lerp(g * g, 1 - B2)
                    return T[u] - ss * m / (s.sqrt() + EPS), m, s

                tu = torch.compile(table_update)
                prep_c = torch.compile(prep)

                def core():
                    k.add_(1)
                    u, inv = prep(ids_s)
                    r = T[u].requires_grad_()
                    x = torch.cat([F.embedding(inv.view(bs, -1), r).flatten(1), den_s], 1)
                    with amp():
                        l = fwd(x, c_s, y_s)
                    gs = torch.autograd.grad(l, [r, *tw.parameters()])
                    for q, g in zip(tw.parameters(), gs[1:]):
                        q.grad = g
                    opt.step()
                    ss = LR * (1 - B2**k).sqrt() / (1 - B1**k)
                    with torch.no_grad():
                        for t, w in zip((T, M, V), tu(u, gs[0], ss)):
                            t.index_copy_(0, u, w)

                st = torch.cuda.Stream()
                st.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(st):
                    for _ in range(4):
                        core()
                torch.cuda.current_stream().wait_stream(st)
                torch.cuda.synchronize()
                G = torch.cuda.CUDAGraph()
                with torch.cuda.graph(G):
                    core()

                def step():
                    for d, h in zip((ids_s, den_s, c_s, y_s), next(data)):
                        d.copy_(h, non_blocking=True)
                    G.replay()

            t0 = time.perf_counter()
            s, ms = timed(step, bs, a.seconds)
            emit(
                workload=name,
                mode="train",
                variant=v,
                precision=prec,
                batch=bs,
                samples_per_s=round(s),
                step_ms=round(ms, 4),
            )
        except Exception as e:
            emit(
                workload=name,
                mode="train",
                variant=v,
                precision=prec,
                batch=bs,
                error=str(e).splitlines()[-1][:200] if str(e) else repr(e)[:200],
            )
        finally:
            tw = emb = opts = T = M = V = G = opt = step = None
    if "infer" in modes:
        T = torch.randn(R, D, device=dev)
        tw = Towers(width, hid, p, relu).to(dev).eval()

        def probs(ids, den):
            x = torch.cat([T[(ids + off).long()].flatten(1), den], 1)
            with amp():
                l1, l2 = tw(x)
            q, w = l1.float().sigmoid(), l2.float().sigmoid()
            return torch.stack([q, w, q * w])

        for v, f in (("eager", probs), ("compiled", torch.compile(probs, mode="reduce-overhead"))):
            try:
                torch._dynamo.reset() if v == "compiled" else None

                def step():
                    ids, den, _, _ = next(data)
                    with torch.inference_mode():
                        f(ids.to(dev, non_blocking=True), den.to(dev, non_blocking=True)).cpu()

                s, ms = timed(step, bs, a.seconds, 5)
                emit(
                    workload=name,
                    mode="infer",
                    variant=v,
                    precision=prec,
                    batch=bs,
                    samples_per_s=round(s),
                    step_ms=round(ms, 4),
                )
            except Exception as e:
                emit(
                    workload=name,
                    mode="infer",
                    variant=v,
                    precision=prec,
                    batch=bs,
                    error=str(e).splitlines()[-1][:200],
                )


print("torch", torch.__version__, torch.cuda.get_device_name(), file=sys.stderr)
if a.plan:
    for x in a.plan.split(","):
        w, b, q, v, m = x.split(":")
        run(w, int(b), q, v.split("+"), m.split("+"))
for w in a.workloads.split(",") if not a.plan else []:
    for b in map(int, a.batches.split(",")):
        for q in a.precisions.split(","):
            run(w, b, q)
