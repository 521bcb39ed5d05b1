"""Makes a .safetensors file of weights that PyTorch saved, for `fokker evaluate --features` and `fokker features extract`.

    python tests/reference/weights_to_safetensors.py pt_inception-2015-12-05-6726825d.pth inception.safetensors
    python tests/reference/weights_to_safetensors.py dinov2_vitb14_pretrain.pth dinov2-vitb14.safetensors

Needs torch and safetensors. Names stay as they are, numbers become float32, integers (counters of batches) are left out. Files are read
with `weights_only`: no code in them is run.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

if len(sys.argv) != 3 or Path(sys.argv[2]).suffix != ".safetensors":
    sys.exit(__doc__)
source, target = map(Path, sys.argv[1:])
if target.exists():
    sys.exit(f"{target}: already exists; scores name the weights they were made with")
state = torch.load(source, map_location="cpu", weights_only=True)
if not isinstance(state, dict):
    sys.exit(f"{source}: expected a state dict, found {type(state).__name__}")
# Training checkpoints keep it under a name.
for key in ("state_dict", "model"):
    state = state[key] if isinstance(state.get(key), dict) else state
others = sorted(name for name, value in state.items() if not isinstance(value, torch.Tensor))
if others:
    sys.exit(f"{source}: expected tensors only, found {', '.join(others[:5])}")
tensors = {name: value.to(torch.float32).contiguous().clone() for name, value in state.items() if value.is_floating_point()}
save_file(tensors, target)
print(f"{target}: {len(tensors)} tensors, {sum(value.numel() for value in tensors.values())} numbers")
