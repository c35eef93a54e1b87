#pragma once
#include "cuda_runtime.h"
struct __attribute__((aligned(2))) __half {
    _Float16 v;
    __half() = default;
    template<class T, class = std::enable_if_t<std::is_arithmetic<T>::value>> __half(T x) : v((_Float16)(float)x) {}
    operator float() const { return (float)v; }
};
struct __half2 { __half x, y; };
#define O(op) static inline __half operator op(__half a, __half b) { return __half((float)a op (float)b); }
O(+) O(-) O(*) O(/)
#undef O
static inline __half __float2half(float x) { return __half(x); }
static inline float __half2float(__half x) { return x; }
static inline __half __hmax(__half a, __half b) { return (float)a > (float)b ? a : b; }
static inline __half __hmin(__half a, __half b) { return (float)a < (float)b ? a : b; }
static inline __half2 __floats2half2_rn(float a, float b) { return {__half(a), __half(b)}; }
static inline __half2 __float22half2_rn(float2 v) { return {__half(v.x), __half(v.y)}; }
static inline float2 __half22float2(__half2 v) { return {v.x, v.y}; }
