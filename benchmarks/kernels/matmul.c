// The product of two hi × hi matrices of doubles, lo times: loads, stores, multiply, add.
#include "kernel.h"

#define EDGE_MAX 300

static double a[EDGE_MAX][EDGE_MAX], b[EDGE_MAX][EDGE_MAX], c[EDGE_MAX][EDGE_MAX];

int64_t map(int64_t lo, int64_t hi) {
  int n = hi;
  double sum = 0;
  for (int i = 0; i < n; i++) {
    for (int j = 0; j < n; j++) {
      a[i][j] = (i * 3 + j) % 7;
      b[i][j] = (i + j * 5) % 11;
    }
  }
  for (int64_t round = 0; round < lo; round++) {
    for (int i = 0; i < n; i++) {
      for (int j = 0; j < n; j++) {
        double dot = 0;
        for (int k = 0; k < n; k++) dot += a[i][k] * b[k][j];
        c[i][j] = dot;
        sum += dot;
      }
    }
    a[0][0] = round;
  }
  return sum;
}
