// Throws darts at a square and counts those within the quarter circle (abi range).
//
// The dart of each number comes from the number itself, so that the count does not depend on
// where shards are cut: a generator that is seeded once per shard would make it depend.
#include <stdint.h>

static const uint64_t seed = 2026;

// SplitMix64 (Steele, Lea, Flood 2014): its n-th output can be had without those before it.
static uint64_t random_bits(uint64_t n) {
  uint64_t z = seed + (n + 1) * 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

__attribute__((export_name("map"))) int64_t map(int64_t lo, int64_t hi) {
  int64_t inside = 0;
  for (int64_t n = lo; n < hi; n++) {
    uint64_t bits = random_bits(n);
    // Whole numbers below 2^31, so that the squares fit and no machine rounds differently.
    uint64_t x = bits >> 33, y = bits & 0x7fffffff;
    inside += x * x + y * y < (uint64_t)1 << 62;
  }
  return inside;
}
