"""Encodes rows for an exported model with nothing but `preprocessing.json` and `vocabularies.parquet`.

    encode(FOLDER, ROWS) -> {input: array}

ROWS are dicts of texts, as `csv.DictReader` reads them, of one user with N items: columns of user and context are those of the
first row. Keys are taken as they are written, which is right for texts and for whole numbers in digits.
"""
import json
import math
import os

import numpy as np
import pyarrow.parquet as parquet
import xxhash

SEED = 0x45534D4D


class Encoders:
    def __init__(self, folder):
        with open(os.path.join(folder, "preprocessing.json")) as file:
            self.plan = json.load(file)
        self.features = {feature["spec"]["name"]: feature for feature in self.plan["features"]}
        self.keys = {}
        table = parquet.read_table(os.path.join(folder, self.plan["vocabularies"])).to_pydict()
        for feature, row, key in zip(table["feature"], table["row"], table["key"]):
            self.keys.setdefault(feature, {})[key] = row

    def missing(self, text):
        return text.strip() == "" or text.strip() in self.plan["spelling"]["null"]

    def row(self, name, text):
        """Row of a table."""
        if self.missing(text):
            return 0
        text = text.strip()
        kind = self.features[name]["spec"]["kind"]["sparse"]
        if kind.get("shares"):
            return self.row(kind["shares"], text)
        (encoding, settings), = kind["encoding"].items()
        if encoding == "vocabulary":
            return self.keys[name].get(text, self.plan["unknown_row"])
        if encoding == "hash":
            return 1 + xxhash.xxh64_intdigest(text.encode(), SEED) % settings["buckets"]
        if encoding == "raw":
            return 1 + int(text)
        assert encoding == "quantile", encoding
        edges = [float(edge) for edge in self.features[name]["fitted"]["edges"]]
        return 1 + sum(edge <= float(text) for edge in edges)

    def value(self, name, text):
        """A dense value. `name[3]` is the third bin of a piecewise-linear encoding."""
        bin = None
        if name not in self.features:
            name, bin = name[:-1].rsplit("[", 1)
        feature = self.features[name]
        kind, fitted = feature["spec"]["kind"]["dense"], feature.get("fitted", {})
        x = float(kind["missing"]) if self.missing(text) else float(text)
        transform = kind["transform"]
        if bin is not None:
            edges, bin = [float(edge) for edge in fitted["edges"]], int(bin)
            if bin >= len(edges):
                return 0.0
            return min(max((x - edges[bin - 1]) / (edges[bin] - edges[bin - 1]), 0.0), 1.0)
        if transform == "standardize":
            mean, std = float(fitted["moments"]["mean"]), float(fitted["moments"]["std"])
            return (x - mean) / std if std > 0 else x - mean
        return math.log1p(x) if transform == "log1p" else x

    def bag(self, name, text):
        """Rows and weights."""
        if self.missing(text):
            return [], []
        kind, lists = self.features[name]["spec"]["kind"]["sparse"], self.plan["lists"]
        ids, weights = [], []
        for item in text.split(lists["separator"]):
            weight = 1.0
            if kind.get("weighted"):
                item, weight = item.rsplit(lists["weight_separator"], 1)
            ids.append(self.row(name, item))
            weights.append(float(weight))
        return ids, weights

    def column(self, name):
        name = name if name in self.features else name.rsplit("[", 1)[0]
        return self.features[name]["spec"]["column"]

    def encode(self, rows):
        found = {}
        for described in self.plan["inputs"]:
            few = rows[:1] if described["shape"][0] == 1 else rows
            dtype = np.dtype(described["dtype"])
            if "feature" in described:
                bags = [self.bag(described["feature"], row[self.column(described["feature"])]) for row in few]
                longest = max(1, max(len(ids) for ids, _ in bags))
                part = 0 if described["input"].endswith("_ids") else 1
                values = [bag[part] + [0] * (longest - len(bag[part])) for bag in bags]
            else:
                read = self.value if described["dtype"] == "float32" else self.row
                values = [[read(name, row[self.column(name)]) for name in described["columns"]] for row in few]
            found[described["input"]] = np.array(values, dtype)
        return found
