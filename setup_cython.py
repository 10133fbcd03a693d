"""Compile the extension modules in place: python3 setup_cython.py build_ext --inplace

Does nothing if they are there, can be loaded, and were compiled from these sources with these
settings; --force compiles them nevertheless. Needs a C compiler. The kernels run on several threads
where the compiler knows OpenMP, which a small program tries; without it, or with NO_OPENMP=1 in the
environment, the same code runs on one thread. What is built runs on every processor of the
architecture: the kernels come in several versions, and the best for the processor at hand is chosen
when they are loaded. CC names another compiler, and CFLAGS may ask for more, such as -march=native;
what was compiled with such settings stays until others are given or --force is.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path

import support  # says in one line what is missing
from support.start import EXTENSIONS, digest

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
PYTHON_TRIAL = "#include <Python.h>\nint main(void) { return 0; }\n"
OPENMP_TRIAL = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"
SETTINGS = ("CC", "CFLAGS", "CPPFLAGS", "LDFLAGS", "NO_OPENMP")  # of the environment
# where Homebrew keeps the OpenMP of Apple's compiler, out of the compiler's sight
LIBOMP_FOLDERS = ("/opt/homebrew/opt/libomp", "/usr/local/opt/libomp")
COMPILER_ADVICE = {
    "linux": "apt-get install gcc python3-dev, or what your system calls them",
    "darwin": "xcode-select --install",
    "win32": "Build Tools for Visual Studio with its 'Desktop development with C++'",
}
OPENMP_ADVICE = {
    "linux": "; gcc has it, and for clang there is: apt-get install libomp-dev",
    "darwin": "; for more: brew install libomp",
}


def openmp_flags(is_msvc):
    """Pairs of compiler flags and linker flags to be tried one after the other."""
    if os.environ.get("NO_OPENMP"):
        return []
    if is_msvc:
        return [(["/openmp"], [])]
    flags = [(["-fopenmp"], ["-fopenmp"])]
    if sys.platform == "darwin":
        apple = ["-Xpreprocessor", "-fopenmp"]
        flags += [(apple, ["-lomp"])]
        for folder in libomp_folders():
            flags += [([*apple, f"-I{folder}/include"], [f"-L{folder}/lib", "-lomp"])]
    return flags


def libomp_folders():
    """Where Homebrew may have put libomp, on Apple's or Intel's processors or elsewhere."""
    folders = list(LIBOMP_FOLDERS)
    if shutil.which("brew"):
        asked = subprocess.run(["brew", "--prefix", "libomp"], capture_output=True, text=True)
        folders.insert(0, asked.stdout.strip())
    return [folder for folder in folders if folder and Path(folder).is_dir()]


class BuildExt(build_ext):
    """build_ext with optimisation on, and OpenMP where the compiler has it."""

    def build_extensions(self):
        is_msvc = self.compiler.compiler_type == "msvc"
        if not self._can_compile(PYTHON_TRIAL):
            advice = COMPILER_ADVICE.get(sys.platform, "both, the way your system does it")
            sys.exit(
                "setup_cython.py: error: there is no C compiler that works, or Python's headers "
                f"are missing; what installs them: {advice}"
            )
        optimised = ["/O2"]
        if not is_msvc:
            asked = os.environ.get("CFLAGS", "")
            optimised = ["-fno-math-errno", "-ffp-contract=fast"]
            optimised += [] if "-O" in asked else ["-O3"]
            optimised += [] if "-g" in asked else ["-g0"]  # saves a quarter of the time
        candidates = openmp_flags(is_msvc)
        flags = next((pair for pair in candidates if self._can_compile(OPENMP_TRIAL, pair)), None)
        if candidates and flags is None:
            advice = OPENMP_ADVICE.get(sys.platform, "")
            print(f"setup_cython.py: no OpenMP, so the kernels will use one thread{advice}")
        compile_flags, link_flags = flags or ([], [])
        for extension in self.extensions:
            extension.extra_compile_args = optimised + compile_flags
            extension.extra_link_args = link_flags
        super().build_extensions()

    def copy_extensions_to_source(self):
        """Every file appears whole or not at all, and a program that runs keeps the earlier one."""
        for extension in self.extensions:
            file_name = self.get_ext_filename(extension.name)
            if Path(self.build_lib, file_name).exists():
                new = shutil.copy(Path(self.build_lib, file_name), HERE / f"{file_name}.new")
                if sys.platform == "win32" and (HERE / file_name).exists():
                    # a file in use can be renamed there, and not replaced
                    (HERE / file_name).replace(HERE / f"{file_name}.old")
                Path(new).replace(HERE / file_name)

    def _can_compile(self, program, flags=None):
        """Whether a small C program can be compiled and, if flags are given, linked and run."""
        folder = tempfile.mkdtemp(dir=self.build_temp)
        source = Path(folder, "trial.c")
        source.write_text(program)
        compile_flags, link_flags = flags or ([], [])
        try:
            objects = self.compiler.compile(
                [str(source)], output_dir=folder, extra_postargs=compile_flags
            )
            if flags is None:
                return True
            self.compiler.link_executable(
                objects, "trial", output_dir=folder, extra_postargs=link_flags
            )
            trial = Path(folder, self.compiler.executable_filename("trial"))
            return subprocess.run([trial], capture_output=True).returncode == 0
        except Exception:  # the compilers of distutils have no common error class
            return False


def origin(name):
    """A name for all that decides what is compiled; without the settings where none are given."""
    settings = [os.environ.get(variable, "") for variable in SETTINGS]
    sha = hashlib.sha256(repr(settings).encode()).hexdigest()
    return f"{digest(name)} settings {sha if any(settings) else ''}"


def is_up_to_date(name):
    """Whether the extension was compiled from these sources with these settings, and can be loaded.

    Raises: ImportError if a package that it needs is missing.
    """
    folder = HERE.joinpath(*name.split(".")[:-1])
    spec = PathFinder.find_spec(name, [str(folder)])
    if spec is None or origin(name).encode() not in Path(spec.origin).read_bytes():
        return False
    try:
        import_module(name)
    except ModuleNotFoundError:
        raise
    except ImportError:  # the system's loader refuses it: it was made for another system
        return False
    return True


def extension(name, folder):
    """An Extension with a second source, in folder: a constant that says what it is made from."""
    constant = Path(folder, f"{name}_origin.c")
    constant.write_text(
        "#ifdef _MSC_VER\n#define KEEP __declspec(dllexport)\n#else\n"
        '#define KEEP __attribute__((used, visibility("default")))\n#endif\n'
        f'KEEP const char origin_of_extension[] = "{origin(name)}";\n'
    )
    source, *headers = EXTENSIONS[name]
    # im2col_cython is enough for layers.py: kernels that cannot be compiled are done without
    return Extension(
        name,
        [source, str(constant)],
        include_dirs=["kernels"],
        depends=headers,
        optional=name != "im2col_cython",
    )


def main():
    os.chdir(HERE)  # --inplace means beside this file, wherever it is called from
    args = sys.argv[1:] or ["build_ext", "--inplace"]
    is_quiet = not {"--quiet", "-q"}.isdisjoint(args)
    if {"--force", "-f"}.isdisjoint(args) and all(map(is_up_to_date, EXTENSIONS)):
        if not is_quiet:
            print("setup_cython.py: up to date")
        return
    with tempfile.TemporaryDirectory(prefix="build-", dir=HERE) as folder:
        # nothing that an earlier or a simultaneous call left is used
        extensions = [extension(name, folder) for name in EXTENSIONS]
        setup(
            name="kernels",
            script_args=args,
            ext_modules=cythonize(
                extensions, language_level=3, build_dir=folder, force=True, quiet=is_quiet
            ),
            options={
                "build_ext": {
                    "build_temp": folder,
                    "build_lib": folder,
                    "force": True,
                    "parallel": os.cpu_count(),
                }
            },
            cmdclass={"build_ext": BuildExt},
        )


if __name__ == "__main__":
    main()
