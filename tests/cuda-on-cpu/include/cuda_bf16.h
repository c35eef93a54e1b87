#pragma once
#include "cuda_runtime.h"
struct __attribute__((aligned(2))) __nv_bfloat16 {
    uint16_t v;
    __nv_bfloat16() = default;
    template<class T, class = std::enable_if_t<std::is_arithmetic<T>::value>> __nv_bfloat16(T x) {
        float f = (float)x; uint32_t b; std::memcpy(&b, &f, 4);
        if (f != f) v = 0x7fff; else v = (uint16_t)((b + 0x7fff + (b >> 16 & 1)) >> 16);
    }
    operator float() const { uint32_t b = (uint32_t)v << 16; float f; std::memcpy(&f, &b, 4); return f; }
};
struct __nv_bfloat162 { __nv_bfloat16 x, y; };
#define O(op) static inline __nv_bfloat16 operator op(__nv_bfloat16 a, __nv_bfloat16 b) { return __nv_bfloat16((float)a op (float)b); }
O(+) O(-) O(*) O(/)
#undef O
static inline __nv_bfloat16 __float2bfloat16(float x) { return x; }
static inline float __bfloat162float(__nv_bfloat16 x) { return x; }
static inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b) { return {a, b}; }
static inline __nv_bfloat162 __float22bfloat162_rn(float2 v) { return {v.x, v.y}; }
static inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {v.x, v.y}; }
static inline __nv_bfloat16 __hmax(__nv_bfloat16 a, __nv_bfloat16 b) { return (float)a > (float)b ? a : b; }
static inline __nv_bfloat16 __hmin(__nv_bfloat16 a, __nv_bfloat16 b) { return (float)a < (float)b ? a : b; }
