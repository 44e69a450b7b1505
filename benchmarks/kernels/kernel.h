// A kernel is one function, compiled natively and to Wasm from the same source.
#pragma once
#include <stdint.h>

#ifdef __wasm__
#define KERNEL __attribute__((export_name("map")))
#else
#define KERNEL
#endif

KERNEL int64_t map(int64_t lo, int64_t hi);
