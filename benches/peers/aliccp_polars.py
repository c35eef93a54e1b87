"""What `esmm aliccp prepare` does, written with Polars: raw Ali-CCP files to impressions and user groups in Parquet.

    python3 -m venv /tmp/polars && /tmp/polars/bin/pip install polars==2.1.0
    target/release/esmm aliccp generate /tmp/raw --rows 3000000
    /tmp/polars/bin/python benches/peers/aliccp_polars.py /tmp/raw /tmp/out                     # once, with Polars
    /tmp/polars/bin/python benches/peers/aliccp_polars.py /tmp/raw /tmp/out --compare target/release/esmm

Per split it numbers the common indices by first use, cuts the feature lists, gathers ids and values field by field, drops
conversions without a click, and writes impressions with the number of their group, and the groups once, by number. It
checks nothing, packs with zstd level 1 as the other side does, and prints seconds and peak memory as JSON.
`--compare` runs both in turn and prints the medians of wall time, processor time and peak memory.

The lists are cut in batches of rows, so that the exploded features fit in memory, each batch with all threads; each batch
becomes a file.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import statistics
import sys
import time

USER_FIELDS = "101 121 122 124 125 126 127 128 129 109_14 110_14 127_14 150_14".split()
ITEM_FIELDS = "205 206 207 210 216 508 509 702 853 301".split()
BAGS = set("109_14 110_14 127_14 150_14 210 508 509 702 853".split())


def scan(pl, path, names):
    kinds = {name: pl.Int64 if name in ("sample_id", "click", "conversion") else pl.String for name in names}
    return pl.scan_csv(path, has_header=False, schema=kinds, quote_char=None)


def features(pl, frame, fields):
    """One column or two for each field: ids, and in bags the values beside them."""
    frame = frame.with_row_index("row")
    parts = pl.col("list").str.splitn("\x02", 2)
    tail = pl.col("tail").str.splitn("\x03", 2)
    long = (
        frame.lazy()
        .select("row", list=pl.col("list").str.split("\x01"))
        .explode("list")
        .filter(pl.col("list").str.len_bytes() > 0)
        .select("row", field=parts.struct.field("field_0"), tail=parts.struct.field("field_1"))
        .select(
            "row",
            "field",
            id=tail.struct.field("field_0").cast(pl.Int32),
            value=tail.struct.field("field_1").cast(pl.Float32),
        )
        .collect()
    )
    by_field = long.partition_by("field", as_dict=True, include_key=False)
    out = frame.drop("list")
    for field in fields:
        part = by_field.get((field,), long.clear().drop("field"))
        if field in BAGS:
            bags = part.group_by("row", maintain_order=True).agg(
                pl.col("id").alias(field), pl.col("value").alias(f"{field}_weights")
            )
            out = out.join(bags, on="row", how="left", maintain_order="left").with_columns(
                pl.col(field, f"{field}_weights").fill_null([])
            )
        else:
            out = out.join(part.select("row", pl.col("id").alias(field)), on="row", how="left", maintain_order="left")
    return out.drop("row")


def write(batches, folder):
    """Frames as numbered Parquet files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(batches):
        frame.write_parquet(folder / f"part-{number:05}.parquet", compression="zstd", compression_level=1)


def prepare(pl, raw, out, split, rows):
    out = out / split
    names = ["sample_id", "click", "conversion", "common_feature_index", "feature_num", "list"]
    skeleton = scan(pl, raw / f"sample_skeleton_{split}.csv", names)
    groups = (
        skeleton.select("common_feature_index")
        .unique(maintain_order=True)
        .with_row_index("group")
        .collect(engine="streaming")
    )

    def impressions():
        for batch in skeleton.collect_batches(chunk_size=rows, maintain_order=True):
            batch = batch.filter((pl.col("click") == 1) | (pl.col("conversion") == 0)).drop("feature_num")
            batch = batch.join(groups, on="common_feature_index", how="left", maintain_order="left")
            yield features(pl, batch.drop("common_feature_index"), ITEM_FIELDS)

    write(impressions(), out / "impressions")

    # The groups in the order of their numbers: text is sorted, before it is cut into many times as much.
    common = scan(pl, raw / f"common_features_{split}.csv", ["common_feature_index", "feature_num", "list"])
    ordered = (
        common.drop("feature_num")
        .join(groups.lazy(), on="common_feature_index", how="inner")
        .sort("group")
        .collect(engine="streaming")
    )

    def users():
        step = max(rows // 40, 1)
        for start in range(0, ordered.height, step):
            yield features(pl, ordered.slice(start, step), USER_FIELDS)

    write(users(), out / "groups")


def measure(command):
    """Wall seconds, processor seconds and peak MiB of a command."""
    started = time.perf_counter()
    child = os.posix_spawn(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
    _, status, usage = os.wait4(child, 0)
    if status != 0:
        sys.exit(f"failed: {' '.join(command)}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def compare(args):
    """Both sides in turn, each round in another order, outputs removed before each run."""
    polars = [sys.executable, __file__, str(args.raw), str(args.out), "--threads", str(args.threads)]
    ours = [args.compare, "aliccp", "prepare", str(args.raw), str(args.out), "--quiet", "--threads", str(args.threads)]
    ours += ["--memory", args.memory]
    results = {"polars": [], "esmm": []}
    for round_number in range(args.rounds):
        sides = [("polars", polars), ("esmm", ours)]
        for name, command in sides if round_number % 2 == 0 else reversed(sides):
            shutil.rmtree(args.out, ignore_errors=True)
            results[name].append(measure(command))
            print(name, *(round(value, 2) for value in results[name][-1]), file=sys.stderr)
    shutil.rmtree(args.out, ignore_errors=True)
    for name, runs in results.items():
        wall, processor, peak = (statistics.median(values) for values in zip(*runs))
        line = {"wall_s": round(wall, 2), "processor_s": round(processor, 2), "peak_mib": round(peak)}
        print(json.dumps({"side": name, "threads": args.threads, **line}))
    ratios = [polars[0] / esmm[0] for polars, esmm in zip(results["polars"], results["esmm"])]
    print(json.dumps({"polars_over_esmm": [round(ratio, 2) for ratio in ratios]}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--splits", default="train,test")
    parser.add_argument("--batch", type=int, default=200_000, help="skeleton rows at once, and 40 times as many as common rows")
    parser.add_argument("--compare", metavar="BINARY", help="an esmm command to run in turn with this script")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", default="4GiB", help="for the other side")
    args = parser.parse_args()
    if args.compare:
        compare(args)
        return
    os.environ["POLARS_MAX_THREADS"] = str(args.threads)
    import polars as pl

    started = time.perf_counter()
    for split in args.splits.split(","):
        prepare(pl, args.raw, args.out, split, args.batch)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": round(seconds, 2), "peak_mib": round(peak), "threads": args.threads}))


if __name__ == "__main__":
    main()
