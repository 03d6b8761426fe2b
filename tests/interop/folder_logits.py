#!/usr/bin/env python3
"""transformers loads our quantized folders and gives our logits.

Twice each: with the weights made floats as they are loaded (dequantize), where every weight must be ours to the last
bit (where scales are halves: ours as halves, for that is what compressed-tensors computes in) and the logits ours but
for the order of sums; and as the folder stands, where compressed-tensors keeps the codes,
decodes them in the first pass and rounds the inputs of layers where the config says so. Our engine computes with floats
there, so where inputs are rounded the logits differ by that rounding, and the bound is wider.

Every layout that transformers reads without a graphics card is here. Its loaders of gptq and awq want gptqmodel, whose
kernels are compiled for one: layout_peers.py takes these folders apart with AutoAWQ's packing code instead.

usage: folder_logits.py --fewbits PROGRAM --work DIR
needs: torch transformers compressed-tensors (build/interop-venv: tools/install_packages.sh interop, run by its `run`)
"""
import os
import pathlib
import shutil
import subprocess
import sys

os.environ.pop("LD_PRELOAD", None)

import common  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "end_to_end"))
import tiny_model  # noqa: E402

try:
    import numpy as np
    import torch
    import transformers
    from compressed_tensors.quantization import disable_quantization
except ImportError as missing:
    common.skip(f"{missing.name} is missing (tools/install_packages.sh interop)")

TOKENS = [(17 * i * i + 31 * i + 5) % 250 for i in range(40)]
EXACT = 2e-3  # largest difference over largest value: our keys and values are halves
ROUNDED_INPUTS = 0.15
BFLOATS = 0.05
# Format, further options, largest difference of logits as the folder stands; None: not loaded so. In place of packed
# zero points compressed-tensors 0.20.0 makes room for unpacked ones, and then finds its own files' too small.
COMPRESSED = [("int4_g128", [], EXACT), ("int4_g128_asym", [], None), ("int4_channel", [], EXACT),
              ("int8_g128", [], EXACT), ("int3_g128_asym", [], None), ("int2_g32", [], EXACT),
              ("int8_channel", [], ROUNDED_INPUTS), ("int8_channel_asym", [], ROUNDED_INPUTS),
              ("fp8_e4m3", [], ROUNDED_INPUTS), ("fp8_e4m3_channel", [], ROUNDED_INPUTS),
              ("fp8_e4m3_b128", [], ROUNDED_INPUTS), ("nvfp4_tensor", [], BFLOATS), ("MXFP4", [], BFLOATS)]


def our_logits(args, folder):
    out = args.work / "folder-logits.bin"
    common.run([args.fewbits.parent / "tests" / "logits", folder, out, "--float", *TOKENS])
    return np.fromfile(out, dtype="<f4").reshape(len(TOKENS), -1).astype(np.float64)


def our_weights(args, folder):
    """Every matrix of the folder as F32, under its GGUF name."""
    out = args.work / "folder-weights.gguf"
    common.run([args.fewbits, "quantize", folder, out, "--to", "F32", "--no-certificate"], stderr=subprocess.DEVNULL)
    reader = tiny_model.GgufReader(out)
    data = reader.data()
    return {name: np.frombuffer(data, "<f4", int(np.prod(shape)), at).reshape(shape)
            for name, (shape, _, at) in reader.tensors.items()}


def load(folder, dtype=torch.float32, **options):
    """A model with every tensor of the folder in its place."""
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", output_loading_info=True, **options)
    for kind in ("unexpected_keys", "mismatched_keys", "error_msgs"):
        if info[kind]:
            raise SystemExit(f"{folder.name}: {kind}: {sorted(info[kind])[:4]}")
    left = [key for key in info["missing_keys"] if not key.endswith("_zero_point")]  # of symmetric ones: 0
    if left:
        raise SystemExit(f"{folder.name}: missing: {sorted(left)[:4]}")
    return model.eval()


def distance(model, ours):
    with torch.no_grad():
        theirs = model(torch.tensor([TOKENS])).logits[0].double().numpy()
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def compare_weights(model, ours, what):
    """Matrices whose rows have the same order in GGUF: all but query and key."""
    names = {"self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
             "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
    state, count = model.state_dict(), 0
    for layer in range(model.config.num_hidden_layers):
        for theirs, name in names.items():
            values = state[f"model.layers.{layer}.{theirs}.weight"].numpy()
            wanted = ours[f"blk.{layer}.{name}.weight"]
            if not (values == wanted).all() and not (values == wanted.astype("<f2")).all():
                raise SystemExit(f"{what}: layer {layer} {theirs}: the weights differ")
            count += 1
    return count


def write_folder(args, source, name, options):
    folder = args.work / "transformers-folder"
    shutil.rmtree(folder, ignore_errors=True)
    common.run([args.fewbits, "quantize", source, folder, "--to", name, *options], stderr=subprocess.DEVNULL)
    return folder


def check_compressed(args, source, case):
    name, options, bound = case
    folder = write_folder(args, source, name, options)
    ours = our_logits(args, folder)
    dense = load(folder, quantization_config=transformers.CompressedTensorsConfig(dequantize=True))
    count = compare_weights(dense, our_weights(args, folder), name)
    found = [(distance(dense, ours), EXACT, "as floats")]
    if bound is not None:
        model = load(folder, torch.bfloat16 if bound == BFLOATS else torch.float32)
        found.append((distance(model, ours), bound, "as it stands"))
        if bound == ROUNDED_INPUTS:
            model.apply(disable_quantization)
            found.append((distance(model, ours), EXACT, "of these its weights alone"))
    ok = all(how_far <= most for how_far, most, _ in found)
    print(f"{' '.join([name, *options]):<40} {count} matrices equal; logits apart by "
          f"{', '.join(f'{how_far:.1e} {how}' for how_far, _, how in found)}{'' if ok else '   TOO FAR'}", flush=True)
    return ok


def check_fp8(args, source):
    folder = write_folder(args, source, "fp8_e4m3_b128", ["--layout", "fp8"])
    model = load(folder).float()  # what is no linear layer keeps the type it has in the file
    count = compare_weights(model, our_weights(args, folder), "fp8")
    found = distance(model, our_logits(args, folder))
    print(f"{'fp8_e4m3_b128 --layout fp8':<40} {count} matrices equal; logits apart by {found:.1e} as floats"
          f"{'' if found <= EXACT else '   TOO FAR'}", flush=True)
    return found <= EXACT


def main():
    args = common.arguments(__doc__)
    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    tiny = tiny_model.TinyModel().write_folder(args.work / "tiny")
    ok = [check_compressed(args, tiny, case) for case in COMPRESSED] + [check_fp8(args, tiny)]
    return 0 if all(ok) else "logits differ"


if __name__ == "__main__":
    sys.exit(main())
