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
    from safetensors.torch import load_file
except ImportError as missing:
    common.skip(f"{missing.name} is missing (tools/install_packages.sh interop)")

TOKENS = [(17 * i * i + 31 * i + 5) % 250 for i in range(40)]
CALIBRATED_PARTS = ("input_scale", "input_global_scale", "k_scale", "v_scale")
EXACT = 2e-3  # largest difference over largest value: our keys and values are halves
ROUNDED_INPUTS = 0.15
FEW_BITS_INPUTS = 0.9
BFLOATS = 0.05
# Format, further options, largest difference of logits as the folder stands; None: not loaded so. In place of packed
# zero points compressed-tensors 0.20.0 makes room for unpacked ones, and then finds its own files' too small.
COMPRESSED = [("int4_g128", [], EXACT), ("int4_g128_asym", [], None), ("int4_channel", [], EXACT),
              ("int8_g128", [], EXACT), ("int3_g128_asym", [], None), ("int2_g32", [], EXACT),
              ("int8_channel", [], ROUNDED_INPUTS), ("int8_channel_asym", [], ROUNDED_INPUTS),
              ("fp8_e4m3", [], ROUNDED_INPUTS), ("fp8_e4m3_channel", [], ROUNDED_INPUTS),
              ("int4_g128", ["--rotate", "both"], EXACT), ("int8_channel", ["--equalize"], ROUNDED_INPUTS),
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
    """A model with every tensor of the folder in its place; scales of inputs have none where all is made floats."""
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", output_loading_info=True, **options)
    for kind in ("unexpected_keys", "mismatched_keys", "error_msgs"):
        keys = [key for key in info[kind] if not (options and key.rsplit(".", 1)[1] in CALIBRATED_PARTS)]
        if keys:
            raise SystemExit(f"{folder.name}: {kind}: {sorted(keys)[:4]}")
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


# Format, what is said of inputs, what their scales are called and reach up to, how far logits may then be.
CALIBRATED = [("int8_channel", "static", "input_scale", 127, ROUNDED_INPUTS),
              ("fp8_e4m3", "static", "input_scale", 448, ROUNDED_INPUTS),
              ("fp8_e4m3_channel", "static", "input_scale", 448, ROUNDED_INPUTS),
              ("nvfp4_tensor", "static", "input_global_scale", 6 * 448, FEW_BITS_INPUTS),
              ("int8_channel", "floats", None, None, ROUNDED_INPUTS),
              ("fp8_e4m3", "floats", None, None, ROUNDED_INPUTS)]  # keys and values are rounded


def largest_seen(model, tokens):
    """Of the inputs of each linear layer, and of the keys and values in the cache."""
    found, hooks = {}, []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            def note(_, inputs, name=name):
                found[name] = inputs[0].abs().max().item()
            hooks.append(module.register_forward_pre_hook(note))
    with torch.no_grad():
        cache = model(torch.tensor([tokens]), use_cache=True).past_key_values
    for hook in hooks:
        hook.remove()
    for index, layer in enumerate(cache.layers):
        found[f"model.layers.{index}.self_attn.k_scale"] = layer.keys.abs().max().item()
        found[f"model.layers.{index}.self_attn.v_scale"] = layer.values.abs().max().item()
    return found


def check_calibrated(args, source, case):
    """Scales of inputs and of the KV cache: those of the one sample that there is, as transformers sees it."""
    name, inputs, scale_name, most, bound = case
    letters = "abcdefgjklmopqrsuvwxyz"  # none that the tokenizer would merge
    text = "".join(letters[(7 * i * i + 3 * i) % len(letters)] for i in range(64))
    tokens = [ord(letter) for letter in text]
    sample = args.work / "folder-sample.txt"
    sample.write_text(text)
    folder = write_folder(args, source, name, ["--activations", inputs, "--kv-scales", "--calibrate", sample,
                                               "--samples", 1, "--sample-length", len(tokens)])
    dense = load(folder, quantization_config=transformers.CompressedTensorsConfig(dequantize=True))
    compare_weights(dense, our_weights(args, folder), name)
    seen, stored = largest_seen(dense, tokens), load_file(folder / "model.safetensors")
    count = 0
    for tensor, value in stored.items():
        module, part = tensor.rsplit(".", 1)
        if part in ("k_scale", "v_scale"):
            wanted = seen[tensor] / 448
        elif part == scale_name:
            wanted = seen[module] / most if part == "input_scale" else most / seen[module]
        else:
            continue
        if value.shape != (1,) or not abs(value.item() / wanted - 1) < 2e-3:
            raise SystemExit(f"{name} {inputs}: {tensor} is {value}, not {wanted}")
        count += 1
    layers = dense.config.num_hidden_layers
    assert count == layers * (2 + (7 if scale_name else 0))
    ours = our_logits(args, folder)
    halves = name.startswith("nv")
    model = load(folder, torch.bfloat16 if halves else torch.float32)
    how_far = distance(model, ours)
    model.apply(disable_quantization)
    alone = distance(model, ours)
    ok = how_far <= bound and alone <= (BFLOATS if halves else EXACT)
    print(f"{name + ' --activations ' + inputs:<40} {count} scales are those of the sample; logits apart by "
          f"{how_far:.1e} as it stands, {alone:.1e} of these its weights alone{'' if ok else '   TOO FAR'}", flush=True)
    return ok


def main():
    args = common.arguments(__doc__)
    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    tiny = tiny_model.TinyModel().write_folder(args.work / "tiny")
    ok = [check_compressed(args, tiny, case) for case in COMPRESSED] + [check_fp8(args, tiny)]
    ok += [check_calibrated(args, tiny, case) for case in CALIBRATED]
    return 0 if all(ok) else "logits differ"


if __name__ == "__main__":
    sys.exit(main())
