#!/usr/bin/env bash
# The kernels' tests as a 64-bit ARM processor runs them, with NEON, on an x86-64 Debian:
#
#     apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static mmdebstrap
#     benchmarks/arm64.sh [folder]     # 1 GB in there, a new temporary folder if not given
#
# Debian's Python for ARM in the emulator, ARM's wheels from PyPI, the extensions from the cross
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
cp -r ./*.py ./*.pyx checks kernels support tests pyproject.toml "$project"
cd "$project"
rm -f kernels/*.so
for name in $(python3 -c "from support.start import EXTENSIONS; print(*EXTENSIONS)"); do
    path=${name//./\/}
    python3 -c "import setup_cython; setup_cython.extension('$name', '.')"
    python3 -m cython -3 -I . "$path.pyx"
    aarch64-linux-gnu-gcc -shared -fPIC -O2 -fno-math-errno -ffp-contract=fast -fopenmp \
        -I "$root/usr/include/python3.11" -idirafter "$root/usr/include" -I kernels \
        "$path.c" "${name}_origin.c" -o "$path.cpython-311-aarch64-linux-gnu.so"
done

emulated() { PYTHONPATH=$site qemu-aarch64-static -L "$root" "$root/usr/bin/python3.11" "$@"; }
emulated -c "import kernels, platform
print(platform.machine(), kernels.instruction_sets(), kernels.get_num_threads(), 'threads')"
emulated check_grads.py --layers fast_layers --save-dir "$folder"
emulated -m pytest --numpy-only -p no:cacheprovider -q \
    tests/test_im2col_cython.py tests/test_kernels*.py tests/test_layers.py tests/test_nn.py
