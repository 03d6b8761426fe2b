#!/usr/bin/env python3
"""Latent attention as newer GGUF files keep it: what makes keys and what makes values apart, the first on its side.

fewbits writes the two as one matrix, as Hugging Face has it, and reads both. Of a small random DeepSeek's file this
makes one of the newer kind; stock llama.cpp and fewbits must give the same logits for both.

usage: latent_parts.py --fewbits PROGRAM --work DIR
needs: gguf numpy safetensors llama-cpp-python
"""
import shutil
import sys

import architectures
import common

LATENT, STILL, TURNED, VALUE = 32, 24, 8, 16
SAME = 1e-5


def split(source, target):
    import gguf
    import numpy as np
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "deepseek2")
    replaced = {"attention.head_count_kv": 1, "attention.key_length": LATENT + TURNED,
                "attention.value_length": LATENT}
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = replaced.get(name.removeprefix("deepseek2."), field.contents())
        of = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, field.types[0], of)
    writer.add_uint32("deepseek2.attention.key_length_mla", STILL + TURNED)
    writer.add_uint32("deepseek2.attention.value_length_mla", VALUE)
    for tensor in reader.tensors:
        if "attn_kv_b" not in tensor.name:
            writer.add_tensor(tensor.name, tensor.data)
            continue
        heads = tensor.data.reshape(architectures.HEADS, STILL + VALUE, LATENT)
        keys = np.ascontiguousarray(heads[:, :STILL].transpose(0, 2, 1))
        writer.add_tensor(tensor.name.replace("kv_b", "k_b"), keys)
        writer.add_tensor(tensor.name.replace("kv_b", "v_b"), np.ascontiguousarray(heads[:, STILL:]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    args = common.arguments(__doc__)
    folder = args.work / "latent"
    shutil.rmtree(folder, ignore_errors=True)
    architectures.CASES["deepseek2"]().write(folder)
    whole, apart = folder / "whole.gguf", folder / "apart.gguf"
    common.run([args.fewbits, "quantize", folder, whole, "--to", "F32"], stderr=common.subprocess.DEVNULL)
    split(whole, apart)
    tokens = [5 + 37 * i % 250 for i in range(architectures.TOKENS)]
    ours, theirs = ([logits(args, path, tokens) for path in (whole, apart)]
                    for logits in (architectures.our_logits, lambda _, *rest: architectures.their_logits(*rest)))
    # Of parts that lie apart llama.cpp computes in another order, on latent rows in halves.
    noise = architectures.distance(theirs[1], theirs[0])
    distances = [architectures.distance(a, b) for a, b in zip(ours, theirs)]
    same = architectures.distance(ours[1], ours[0])
    print(f"llama.cpp's own {noise:.1e}; ours {same:.1e}; to llama.cpp's {distances[0]:.1e}, {distances[1]:.1e}")
    ok = same <= SAME and distances[0] <= architectures.BOUND and distances[1] <= architectures.BOUND + 1.5 * noise
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
