#!/usr/bin/env python3
"""llama.cpp's own quantizer (PyPI llama-cpp-python): what the benchmarks hold ours against.

usage: stock_quantizer.py SOURCE.gguf OUT.gguf TYPE THREADS        all matrices in one type, without importance
"""
import ctypes
import sys

# The number of a file type, whose main type is the one of that name, and of a tensor's type.
FILE_TYPES = {"Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K": 12, "Q4_K": 15, "Q5_K": 17,
              "Q6_K": 18, "IQ4_NL": 25, "IQ4_XS": 30}
TENSOR_TYPES = {"Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11, "Q4_K": 12, "Q5_K": 13,
                "Q6_K": 14, "IQ4_NL": 20, "IQ4_XS": 23}


def mix_of(name):
    """What fewbits calls the mix whose main type this is."""
    return f"{name}_M" if name in ("Q3_K", "Q4_K", "Q5_K") else name


def quantize(source, out, name, ends, pure=True, importance=None, threads=0):
    """Embedding and output in the type `ends`; threads as many as there are processors where 0. Its log goes to
    standard error. False where it fails."""
    import llama_cpp
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype, options.pure, options.nthread = FILE_TYPES[name], pure, threads
    options.output_tensor_type = options.token_embedding_type = TENSOR_TYPES[ends]
    if importance is not None:
        options.imatrix = importance
    return llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(options)) == 0


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    sys.exit(0 if quantize(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[3], threads=int(sys.argv[4])) else 1)
