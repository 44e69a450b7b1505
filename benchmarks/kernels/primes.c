// Primes in [lo, hi) by trial division: 64-bit division and branches, no memory.
#include "kernel.h"

static int odd_is_prime(uint64_t n) {
  for (uint64_t d = 3; d * d <= n; d += 2) {
    if (n % d == 0) return 0;
  }
  return 1;
}

int64_t map(int64_t lo, int64_t hi) {
  int64_t count = lo <= 2 && hi > 2;
  for (int64_t n = lo > 3 ? lo | 1 : 3; n < hi; n += 2) count += odd_is_prime(n);
  return count;
}
