"""Writes fixtures: one safetensors file of float64 arrays plus a JSON description of the cases.

Every case is a function of named leaves in fokker's layout (images ``[B, H, W, C]``, convolution weights
``[kh, kw, Cin, Cout]``, linear weights ``[in, out]``). The function itself permutes to PyTorch's layout, so the
gradients that autograd returns for the leaves are in fokker's layout as well.

Keys are ``<case>/<leaf>`` for the inputs, ``<case>/y`` for the output, ``<case>/dy`` for a random output gradient and
``<case>/d<leaf>`` for the gradient of ``sum(y * dy)`` with respect to that leaf. The metadata entry ``cases`` is a
JSON object from case name to ``{"op": …, parameters…}``.
"""

import argparse
import json
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
LIMIT_BYTES = 300_000


class Draw:
    """Random values for one case, seeded by its name: adding a case leaves the others as they were."""

    def __init__(self, case):
        self.generator = np.random.default_rng(zlib.crc32(case.encode()))

    def normal(self, *shape, scale=1.0):
        return torch.from_numpy(scale * self.generator.standard_normal(shape))

    def uniform(self, low, high, *shape):
        return torch.from_numpy(self.generator.uniform(low, high, shape))

    def integers(self, high, *shape):
        return torch.from_numpy(self.generator.integers(0, high, shape))


class Fixture:
    """The cases of one file."""

    def __init__(self, name):
        self.path = FIXTURES / f"{name}.safetensors"
        self.cases = {}
        self.tensors = {}

    def add(self, case, op, f, leaves, constants=None, **parameters):
        """Evaluates ``f(leaves…, constants…)`` and its gradients with respect to the leaves."""
        assert case not in self.cases, f"{case} is there twice"
        constants = constants or {}
        leaves = {k: v.detach().clone().requires_grad_() for k, v in leaves.items()}
        y = f(*leaves.values(), *constants.values())
        dy = Draw(f"{case}/dy").normal(*y.shape)
        gradients = torch.autograd.grad(y, list(leaves.values()), dy)
        self.describe(case, op, **parameters)
        for key, value in (leaves | constants | {"y": y, "dy": dy}).items():
            self.put(case, key, value)
        for key, value in zip(leaves, gradients):
            self.put(case, f"d{key}", value)

    def describe(self, case, op, **parameters):
        self.cases[case] = {"op": op, **parameters}

    def put(self, case, key, value):
        value = torch.as_tensor(value).detach().contiguous().clone()
        assert value.dtype in (torch.float64, torch.int64), f"{case}/{key} is {value.dtype}"
        assert value.isfinite().all(), f"{case}/{key} is not finite"
        self.tensors[f"{case}/{key}"] = value

    def finish(self):
        """Writes the file, or with ``--check`` compares what is there with what would be written."""
        parser = argparse.ArgumentParser()
        parser.add_argument("--check", action="store_true", help="compare with the committed file, write nothing")
        if parser.parse_args().check:
            self.check()
            return
        self.path.parent.mkdir(exist_ok=True)
        save_file(self.tensors, self.path, metadata={"cases": json.dumps(self.cases, sort_keys=True)})
        size = self.path.stat().st_size
        print(f"{self.path.name}: {len(self.cases)} cases, {len(self.tensors)} tensors, {size / 1000:.0f} kB")
        assert size < LIMIT_BYTES, f"{self.path} has {size} bytes, more than {LIMIT_BYTES}"

    def check(self):
        with safe_open(self.path, "pt") as file:
            problems = []
            if json.loads(file.metadata()["cases"]) != json.loads(json.dumps(self.cases)):
                problems.append("the case descriptions differ")
            if set(file.keys()) != set(self.tensors):
                problems.append(f"the keys differ: {sorted(set(file.keys()) ^ set(self.tensors))}")
            for key in sorted(set(file.keys()) & set(self.tensors)):
                old, new = file.get_tensor(key), self.tensors[key]
                if old.shape != new.shape or not torch.allclose(old, new, rtol=1e-11, atol=1e-12):
                    problems.append(f"{key} differs")
        print(f"{self.path.name}: " + ("; ".join(problems) if problems else "as committed"))
        sys.exit(bool(problems))
