// A fragment is held whole by the first lane of a warp, which does the work of all: what the others wrote must lie in
// memory by then, and they must wait to read.
#pragma once
#include "cuda_runtime.h"
#include "cuda_fp16.h"
#include "cuda_bf16.h"
#include <cstdio>
#include <cstdlib>
namespace nvcuda { namespace wmma {
struct matrix_a {}; struct matrix_b {}; struct accumulator {}; struct row_major {}; struct col_major {};
namespace precision { struct tf32 {}; }
enum layout_t { mem_row_major, mem_col_major };
template<class T> struct held { typedef T type; };
template<> struct held<precision::tf32> { typedef float type; };
template<class U, int M, int N, int K, class T, class L = void> struct fragment {
    static constexpr int R = std::is_same<U, matrix_b>::value ? K : M;
    static constexpr int C = std::is_same<U, matrix_a>::value ? K : N;
    static constexpr int num_elements = R * C / 32;
    float m[R][C];
    typename held<T>::type x[num_elements];
};
static inline float __float_to_tf32(float x) {
    uint32_t b; std::memcpy(&b, &x, 4);
    if ((b & 0x7f800000) != 0x7f800000) b = (b + 0x1000) & ~0x1fffu; // nearest, ties away from 0
    std::memcpy(&x, &b, 4); return x;
}
static inline void aligned(const void* p, size_t stride_bytes) {
    if ((uintptr_t)p % 32 || stride_bytes % 16) { fprintf(stderr, "emulated wmma: pointer %p or pitch of %zu bytes not aligned\n", p, stride_bytes); abort(); }
}
template<class F, class V> static inline void fill_fragment(F& f, V v) {
    if (fake_api->lane()) return;
    for (int r = 0; r < F::R; r++) for (int c = 0; c < F::C; c++) f.m[r][c] = (float)v;
}
template<class T> static inline float exact(float v) { return v; }
template<> inline float exact<precision::tf32>(float v) {
    // Tensor cores read 19 bits.
    uint32_t b; std::memcpy(&b, &v, 4); b &= ~0x1fffu; std::memcpy(&v, &b, 4); return v;
}
template<class U, int M, int N, int K, class T, class L, class P> static inline void load_matrix_sync(fragment<U, M, N, K, T, L>& f, const P* p, unsigned stride) {
    aligned(p, stride * sizeof(P));
    if (fake_api->lane()) return;
    typedef fragment<U, M, N, K, T, L> F;
    for (int r = 0; r < F::R; r++) for (int c = 0; c < F::C; c++) f.m[r][c] = exact<T>((float)(std::is_same<L, row_major>::value ? p[(size_t)r * stride + c] : p[(size_t)c * stride + r]));
}
template<int M, int N, int K, class T, class P> static inline void load_matrix_sync(fragment<accumulator, M, N, K, T>& f, const P* p, unsigned stride, layout_t l) {
    aligned(p, stride * sizeof(P));
    if (fake_api->lane()) return;
    for (int r = 0; r < M; r++) for (int c = 0; c < N; c++) f.m[r][c] = (float)(l == mem_row_major ? p[(size_t)r * stride + c] : p[(size_t)c * stride + r]);
}
template<int M, int N, int K, class T, class P> static inline void store_matrix_sync(P* p, const fragment<accumulator, M, N, K, T>& f, unsigned stride, layout_t l) {
    aligned(p, stride * sizeof(P));
    if (fake_api->lane()) return;
    for (int r = 0; r < M; r++) for (int c = 0; c < N; c++) (l == mem_row_major ? p[(size_t)r * stride + c] : p[(size_t)c * stride + r]) = (P)f.m[r][c];
}
template<int M, int N, int K, class A, class B, class T, class LA, class LB>
static inline void mma_sync(fragment<accumulator, M, N, K, T>& d, const fragment<matrix_a, M, N, K, A, LA>& a, const fragment<matrix_b, M, N, K, B, LB>& b, const fragment<accumulator, M, N, K, T>& c) {
    if (fake_api->lane()) return;
    float s[M][N];
    std::memcpy(s, c.m, sizeof s);
    for (int i = 0; i < M; i++) for (int k = 0; k < K; k++) { float v = a.m[i][k]; for (int j = 0; j < N; j++) s[i][j] += v * b.m[k][j]; }
    std::memcpy(d.m, s, sizeof s);
}
}}
