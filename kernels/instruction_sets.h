/* The instruction sets that vector_kernels.h has kernels for. 0, "none", leaves all products to BLAS:
   it is what other compilers than GCC and Clang get, and other processors; so does GCC for Windows,
   which does not align vectors on the stack. -DNO_VECTORS tries it. */

#if defined(__GNUC__) && !defined(NO_VECTORS) && (defined(__clang__) || !defined(__MINGW64__))
#define VECTORS
#endif

#if defined(VECTORS) && defined(__x86_64__)
static inline int best_instruction_set(void)
{
    if (__builtin_cpu_supports("avx512vl")) return 3;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 2 : 1;
}
static inline const char *instruction_set_name(int instruction_set)
{
    const char *const names[] = {"none", "sse2", "avx2", "avx512"};
    return names[instruction_set];
}
#elif defined(VECTORS) && defined(__aarch64__)
static inline int best_instruction_set(void) { return 1; }
static inline const char *instruction_set_name(int instruction_set)
{
    return instruction_set ? "neon" : "none";
}
#else
static inline int best_instruction_set(void) { return 0; }
static inline const char *instruction_set_name(int instruction_set) { return "none"; }
#endif
