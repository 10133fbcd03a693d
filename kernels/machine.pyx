# cython: language_level=3, boundscheck=False, wraparound=False
# cython: cdivision=True, initializedcheck=False
"""How the kernels run: the number of threads, the instruction set, and memory for arrays.

Threads: work is cut into as many parts as there are threads, part t of T from n*t//T up to
n*(t+1)//T, whatever the timing. So the same number of threads gives the same bits.
"""

import operator
import os

import numpy as np

from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

cdef extern from "instruction_sets.h":
    int best_instruction_set()
    const char* instruction_set_name(int)

cdef enum:
    CACHE_LINE = 64  # bytes


cdef extern from *:
    """
    #ifdef _OPENMP
    #define HAS_OPENMP 1
    #else
    #define HAS_OPENMP 0
    #endif
    """
    const bint HAS_OPENMP  # else prange is a plain loop, and there is one thread

# GNU's OpenMP runs out of stack, or ends the process, where it cannot start that many
MAX_THREADS = max(256, os.cpu_count() or 1)

cdef bint has_one_thread = not HAS_OPENMP
# all the processors this process may use, until set_num_threads says otherwise
cdef int num_threads = 1
if HAS_OPENMP:
    num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (
        os.cpu_count() or 1
    )


def _after_fork():
    """One thread from now on: a forked process does not have the others, but OpenMP would wait for
    them for ever.
    """
    global num_threads, has_one_thread
    num_threads, has_one_thread = 1, True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def get_num_threads():
    """Number of threads the kernels share a batch among."""
    return num_threads


def set_num_threads(threads):
    """Share every batch among `threads` threads from now on.

    Built without OpenMP, or forked, as multiprocessing may do, a process has one thread whatever is
    asked for.
    Raises: ValueError unless threads is from 1 to MAX_THREADS.
    """
    global num_threads
    threads = operator.index(threads)
    if threads < 1:
        raise ValueError(f"expected at least 1 thread, got {threads}")
    if threads > MAX_THREADS:
        raise ValueError(f"expected at most {MAX_THREADS} threads, got {threads}")
    num_threads = 1 if has_one_thread else threads


cdef int instruction_set = best_instruction_set()


def instruction_sets():
    """Names of the instruction sets that this processor has vector kernels for.

    'none' comes first: every product is left to BLAS, every image is lowered. The last one is the
    best.
    """
    return [instruction_set_name(i).decode() for i in range(best_instruction_set() + 1)]


def get_instruction_set():
    """Name of the instruction set in use; the best one until set_instruction_set says otherwise."""
    return instruction_sets()[instruction_set]


def set_instruction_set(name):
    """Use another one of instruction_sets() from now on.

    Raises: ValueError if this processor does not have it.
    """
    global instruction_set
    if name not in instruction_sets():
        raise ValueError(f"expected one of {', '.join(instruction_sets())}, got {name!r}")
    instruction_set = instruction_sets().index(name)


cdef class Work:
    """Memory that a kernel needs while it works, a piece for each thread; freed with this object.

    A piece begins with a line of the cache, which no two share. Making arrays takes far longer, and
    a batch of one image is done in the time of some dozens of those.
    """

    def __cinit__(self, int pieces, size_t size, bint zero=False):
        """size: bytes of a piece; zero: all of them are 0 at first."""
        self.stride = (size + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE
        self.memory = <char*> malloc(pieces * self.stride + CACHE_LINE)
        if self.memory == NULL:
            raise MemoryError()
        self.first = self.memory + (-<uintptr_t> self.memory & (CACHE_LINE - 1))
        if zero:
            memset(self.first, 0, pieces * self.stride)

    def __dealloc__(self):
        free(self.memory)

    cdef void* at(self, int part) noexcept nogil:
        return self.first + part * self.stride


def empty(shape, dtype):
    """np.empty that begins with a line of the cache: a vector that straddles two takes longer."""
    dtype = np.dtype(dtype)
    cdef Py_ssize_t size = dtype.itemsize
    for length in shape:
        size *= length
    memory = np.empty(size + CACHE_LINE, np.uint8)
    cdef unsigned char[::1] view = memory
    cdef Py_ssize_t start = (-(<Py_ssize_t> &view[0])) & (CACHE_LINE - 1)
    return np.ndarray(shape, dtype, memory, start)


def zeros(shape, dtype):
    """np.zeros, as empty."""
    out = empty(shape, dtype)
    out[...] = 0
    return out


def aligned(array):
    """A copy of an array, in memory as that of empty."""
    out = empty(array.shape, array.dtype)
    out[...] = array
    return out
