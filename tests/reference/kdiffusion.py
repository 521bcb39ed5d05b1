"""k-diffusion's samplers, for the scripts beside this file."""

import importlib.util
import sys
import types
from pathlib import Path


def sampling_module():
    """``k_diffusion.sampling`` without the package's ``__init__``, which imports its training code and all that needs."""
    package = types.ModuleType("k_diffusion")
    package.__path__ = [str(Path(importlib.util.find_spec("k_diffusion").origin).parent)]
    sys.modules["k_diffusion"] = package
    import k_diffusion.sampling
    return k_diffusion.sampling


K = sampling_module()
