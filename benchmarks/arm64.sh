#!/usr/bin/env bash
# The kernels' tests as a 64-bit ARM processor runs them, with NEON, on an x86-64 Debian:
#
#     apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static mmdebstrap
#     benchmarks/arm64.sh [folder]     # 1 GB in there, a new temporary folder if not given
#
# Debian's Python for ARM in the emulator, ARM's wheels from PyPI, the extension from the cross
# compiler. Needs the project's requirements here, too: Cython's output is the same everywhere.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-$(mktemp -d)}
root=$folder/root site=$folder/site project=$folder/project

# Debian's python3 is 3.11 in bookworm
test -d "$root" || mmdebstrap --quiet --variant=extract --arch=arm64 \
    --include=python3,libpython3.11-dev,libgomp1,libstdc++6 bookworm "$root"
test -d "$site" || python3 -m pip install --quiet --target "$site" --python-version 3.11 \
    --only-binary=:all: --platform manylinux2014_aarch64 --platform manylinux_2_28_aarch64 \
    -r requirements-numpy.txt pytest hypothesis

rm -rf "$project" && mkdir "$project"
cp -r ./*.py ./*.pyx ./*.h support tests pyproject.toml "$project"
cd "$project"
python3 -c "import setup_cython; setup_cython.extension('im2col_cython', '.')"
python3 -m cython -3 im2col_cython.pyx
aarch64-linux-gnu-gcc -shared -fPIC -O2 -fno-math-errno -ffp-contract=fast -fopenmp \
    -I "$root/usr/include/python3.11" -idirafter "$root/usr/include" \
    im2col_cython.c im2col_cython_origin.c -o im2col_cython.cpython-311-aarch64-linux-gnu.so

emulated() { PYTHONPATH=$site qemu-aarch64-static -L "$root" "$root/usr/bin/python3.11" "$@"; }
emulated -c "import layers, platform
print(platform.machine(), layers.kernels.instruction_sets(), layers.get_num_threads(), 'threads')"
emulated check_grads.py --save-dir "$folder"
emulated -m pytest --numpy-only -p no:cacheprovider -q \
    tests/test_im2col_cython.py tests/test_layers.py
