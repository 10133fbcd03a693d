"""Compile the extension modules in place: python3 setup_cython.py build_ext --inplace

Needs a C compiler. The kernels run on several threads where the compiler knows OpenMP; a trial
compilation finds out, and without OpenMP the same code runs on one thread. What is built runs on
every processor of the architecture: the kernels come in several versions, and the best for the
processor at hand is chosen when they are loaded. CFLAGS may ask for more, such as -march=native.
"""

import os
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
OPENMP_TRIAL = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"
# (compiler flags, linker flags) in the order in which they are tried
OPENMP_FLAGS = {
    "msvc": [(["/openmp"], [])],
    "unix": [(["-fopenmp"], ["-fopenmp"]), (["-Xpreprocessor", "-fopenmp"], ["-lomp"])],
}


class BuildExt(build_ext):
    """build_ext with optimisation on, and OpenMP where the compiler has it."""

    def build_extensions(self):
        kind = "msvc" if self.compiler.compiler_type == "msvc" else "unix"
        compile_args = ["/O2"] if kind == "msvc" else ["-O3", "-fno-math-errno"]
        openmp = next((flags for flags in OPENMP_FLAGS[kind] if self._compiles(*flags)), None)
        if openmp is None:
            print("setup_cython: this compiler has no OpenMP; the kernels will use one thread")
        compile_flags, link_flags = openmp or ([], [])
        for extension in self.extensions:
            extension.extra_compile_args = compile_args + compile_flags
            extension.extra_link_args = link_flags
        super().build_extensions()

    def _compiles(self, compile_flags, link_flags):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "trial.c")
            source.write_text(OPENMP_TRIAL)
            try:
                objects = self.compiler.compile(
                    [str(source)], output_dir=folder, extra_postargs=compile_flags
                )
                self.compiler.link_executable(
                    objects, "trial", output_dir=folder, extra_postargs=link_flags
                )
            except Exception:  # the compilers of distutils have no common error class
                return False
            return True


def main():
    os.chdir(HERE)  # --inplace means beside this file, wherever it is called from
    extension = Extension("im2col_cython", ["im2col_cython.pyx"], depends=["vector_kernels.h"])
    setup(
        name="im2col_cython",
        script_args=sys.argv[1:] or ["build_ext", "--inplace"],
        ext_modules=cythonize(extension, language_level=3),
        cmdclass={"build_ext": BuildExt},
    )


if __name__ == "__main__":
    main()
