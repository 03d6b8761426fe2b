"""What the packages that define the layouts of model folders decode from ours is what we read back ourselves.

compressed-tensors decompresses every weight of every format. AutoAWQ's packing code, which is one file, decodes AWQ
folders, and makes GPTQ's words of AWQ's: they must be those of our own gptq folder.

needs: torch safetensors compressed-tensors (build/interop-venv: run by its `run`); for AWQ a folder on PYTHONPATH that
holds autoawq's sources.
"""
import collections
import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys

import common

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "end_to_end"))
import tiny_model  # noqa: E402

try:
    import numpy as np
    import torch
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationScheme
    from safetensors.torch import load_file
except ImportError as missing:
    common.skip(f"{missing.name} is missing")

FORMATS = ["MXFP4", "fp8_e4m3", "fp8_e4m3_b128", "fp8_e4m3_channel", "int2_g32", "int3_channel", "int3_g128_asym",
           "int4_channel_asym", "int4_g128", "int4_g128_asym", "int8_channel", "int8_channel_asym", "int8_g128",
           "nvfp4_tensor"]
# GGUF has the rows of q and k in another order.
NAMES = {"up_proj": "ffn_up", "down_proj": "ffn_down", "gate_proj": "ffn_gate", "v_proj": "attn_v",
         "o_proj": "attn_output"}


def run(*command):
    common.run(command, stderr=subprocess.DEVNULL)


def quantized(args, source, name, layout):
    folder = args.work / "peer-folder"
    shutil.rmtree(folder, ignore_errors=True)
    run(args.fewbits, "quantize", source, folder, "--to", name, "--layout", layout)
    modules = collections.defaultdict(dict)
    for tensor, values in load_file(folder / "model.safetensors").items():
        module, part = tensor.rsplit(".", 1)
        if module.split(".")[-1] in NAMES:
            modules[module][part] = values
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    return folder, config, modules


def read_back(args, folder):
    """Every matrix in F16, by its GGUF name."""
    out = args.work / "peer.gguf"
    run(args.fewbits, "quantize", folder, out, "--to", "F16", "--no-certificate")
    reader = tiny_model.GgufReader(out)
    data = reader.data()
    return {name: np.frombuffer(data[at:at + 2 * int(np.prod(shape))], "<f2").reshape(shape)
            for name, (shape, kind, at) in reader.tensors.items() if kind == tiny_model.GGUF_F16}


def compare(args, source, name, layout, decode):
    folder, config, modules = quantized(args, source, name, layout)
    ours = read_back(args, folder)
    for module, parts in modules.items():
        values = decode(config, parts).to(torch.float32).numpy().astype(np.float16)
        _, _, layer, _, part = module.split(".")
        if not (values == ours[f"blk.{layer}.{NAMES[part]}.weight"]).all():
            raise SystemExit(f"{layout} {name}: {module} is decoded to something else")
    print(f"{layout:<20} {name:<18} {len(modules)} matrices equal", flush=True)


def decompress(config, parts):
    scheme = QuantizationScheme(**config["config_groups"]["group_0"])
    return BaseCompressor.get_value_from_registry(config["format"]).decompress(parts, scheme)["weight"]


def awq_packing():
    """AutoAWQ's file of packing code, without the package around it; None where it is missing."""
    for folder in sys.path:
        file = pathlib.Path(folder) / "awq" / "utils" / "packing_utils.py"
        if file.exists():
            spec = importlib.util.spec_from_file_location("packing_utils", file)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    return None


def check_awq(args, source, packing):
    def decode(config, parts):
        return packing.dequantize_gemm(parts["qweight"], parts["qzeros"], parts["scales"], 4, config["group_size"]).T

    for name in ("int4_g128", "int4_g128_asym", "int4_g64_asym"):
        compare(args, source, name, "awq", decode)
    _, _, awq = quantized(args, source, "int4_g128", "awq")
    _, _, gptq = quantized(args, source, "int4_g128", "gptq")
    for module, parts in awq.items():
        codes, zeros = packing.unpack_reorder_pack(parts["qweight"], parts["qzeros"], 4)
        if not (codes == gptq[module]["qweight"]).all() or not (zeros == gptq[module]["qzeros"]).all():
            raise SystemExit(f"gptq: {module} has other words than AutoAWQ makes of awq's")
    print(f"{'gptq':<20} {'int4_g128':<18} {len(awq)} matrices have the words that AutoAWQ makes of awq's")


def main():
    args = common.arguments(__doc__)
    source = tiny_model.TinyModel().write_folder(args.work / "tiny")
    for name in FORMATS:
        compare(args, source, name, "compressed-tensors", decompress)
    packing = awq_packing()
    if packing is None:
        print("AutoAWQ's sources are missing: awq and gptq are compared with folders.py's own decoders alone")
    else:
        check_awq(args, source, packing)
    return 0


if __name__ == "__main__":
    sys.exit(main())
