// What CUDA C that CubeCL writes needs, for a processor: a thread of a block is a fiber.
#pragma once
#include <math.h>
#include <stdlib.h>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <algorithm>
#include <utility>
#include <type_traits>
#define __global__
#define __device__
#define __host__
#define __shared__
#define __constant__ const
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
struct fake_uint3 { unsigned x, y, z; };
struct fake_api_t {
    void (*sync_block)();
    void (*sync_warp)();
    void* (*warp_slots)();   // 32 * 16 bytes of the warp of the running fiber
    unsigned (*lane)();
    unsigned (*alive)();     // lanes of the warp that have not ended
};
extern "C" { fake_api_t* fake_api; fake_uint3 fake_thread, fake_block, fake_block_dim, fake_grid_dim; }
#define threadIdx fake_thread
#define blockIdx fake_block
#define blockDim fake_block_dim
#define gridDim fake_grid_dim
static const int warpSize = 32;
typedef unsigned int uint; typedef unsigned char uchar; typedef unsigned short ushort; typedef unsigned long ulong;
#define V(T, N) struct __attribute__((aligned(sizeof(T) * 2))) N##2 { T x, y; }; struct N##3 { T x, y, z; }; struct __attribute__((aligned(sizeof(T) * 4 > 16 ? 16 : sizeof(T) * 4))) N##4 { T x, y, z, w; };
V(float, float) V(int, int) V(unsigned, uint) V(double, double) V(long, long) V(unsigned long, ulong) V(char, char) V(unsigned char, uchar) V(short, short) V(unsigned short, ushort)
#undef V
static inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
static inline void __syncthreads() { fake_api->sync_block(); }
static inline void __syncwarp(unsigned = ~0u) { fake_api->sync_warp(); }
static inline void __threadfence() {}
template<class T, class F> static inline T fake_exchange(T value, F from) {
    static_assert(sizeof(T) <= 16);
    char* slots = (char*)fake_api->warp_slots();
    unsigned lane = fake_api->lane();
    std::memcpy(slots + lane * 16, &value, sizeof(T));
    fake_api->sync_warp();
    unsigned source = from(lane);
    T got = value;
    if (source < 32) std::memcpy(&got, slots + source * 16, sizeof(T));
    fake_api->sync_warp();
    return got;
}
template<class T> static inline T __shfl_sync(unsigned, T v, int s, int = 32) { return fake_exchange(v, [&](unsigned) { return (unsigned)s & 31; }); }
template<class T> static inline T __shfl_xor_sync(unsigned, T v, int s, int = 32) { return fake_exchange(v, [&](unsigned l) { return l ^ s; }); }
template<class T> static inline T __shfl_up_sync(unsigned, T v, unsigned s, int = 32) { return fake_exchange(v, [&](unsigned l) { return l >= s ? l - s : l; }); }
template<class T> static inline T __shfl_down_sync(unsigned, T v, unsigned s, int = 32) { return fake_exchange(v, [&](unsigned l) { return l + s < 32 ? l + s : l; }); }
static inline unsigned __ballot_sync(unsigned, int p) {
    unsigned* slots = (unsigned*)fake_api->warp_slots(); unsigned lane = fake_api->lane();
    slots[lane * 4] = p != 0; fake_api->sync_warp();
    unsigned r = 0, alive = fake_api->alive(); for (int i = 0; i < 32; i++) if (alive >> i & 1) r |= slots[i * 4] << i;
    fake_api->sync_warp(); return r;
}
static inline int __all_sync(unsigned m, int p) { return __ballot_sync(m, !p) == 0; }
static inline int __any_sync(unsigned m, int p) { return __ballot_sync(m, p) != 0; }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline int __ffsll(long long v) { return __builtin_ffsll(v); }
static inline int __clz(int v) { return v ? __builtin_clz((unsigned)v) : 32; }
static inline int __clzll(long long v) { return v ? __builtin_clzll((unsigned long long)v) : 64; }
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned long long)a * b >> 32; }
static inline int __mulhi(int a, int b) { return (int)((long long)a * b >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return (unsigned __int128)a * b >> 64; }
#define __expf expf
#define __logf logf
#define __log2f log2f
#define __sinf sinf
#define __cosf cosf
#define __powf powf
static inline float __fdividef(float x, float y) { return x / y; }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __frsqrt_rn(float x) { return 1.0f / sqrtf(x); }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline float rsqrt(float x) { return 1.0f / sqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
static inline float __saturatef(float x) { return fminf(fmaxf(x, 0), 1); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline float min(float a, float b) { return fminf(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
#define MM(T) static inline T max(T a, T b) { return a > b ? a : b; } static inline T min(T a, T b) { return a < b ? a : b; }
MM(int) MM(unsigned) MM(long) MM(unsigned long) MM(long long) MM(unsigned long long)
#undef MM
static inline float __int_as_float(int v) { float r; std::memcpy(&r, &v, 4); return r; }
static inline int __float_as_int(float v) { int r; std::memcpy(&r, &v, 4); return r; }
template<class T> static inline T atomicAdd(T* p, T v) { T o = *p; *p = o + v; return o; }
template<class T> static inline T atomicMax(T* p, T v) { T o = *p; *p = o > v ? o : v; return o; }
template<class T> static inline T atomicMin(T* p, T v) { T o = *p; *p = o < v ? o : v; return o; }
template<class T> static inline T atomicOr(T* p, T v) { T o = *p; *p = o | v; return o; }
template<class T> static inline T atomicExch(T* p, T v) { T o = *p; *p = v; return o; }
template<class T> static inline T atomicCAS(T* p, T c, T v) { T o = *p; if (o == c) *p = v; return o; }
template<class R, class... A, size_t... I> static inline void fake_call(R (*f)(A...), void** p, std::index_sequence<I...>) {
    f(*(typename std::remove_reference<A>::type*)p[I]...);
}
template<class R, class... A> static inline void fake_call(R (*f)(A...), void** p) { fake_call(f, p, std::index_sequence_for<A...>{}); }
