// Steps of the Mandelbrot set's rows lo to hi of 600, 600 points each: doubles in registers.
#include "kernel.h"

int64_t map(int64_t lo, int64_t hi) {
  int64_t total = 0;
  for (int64_t row = lo; row < hi; row++) {
    for (int column = 0; column < 600; column++) {
      double cx = column * 0.005 - 2.2, cy = row * 0.005 - 1.5, x = 0, y = 0;
      int step = 0;
      while (step < 500 && x * x + y * y <= 4) {
        double next = x * x - y * y + cx;
        y = 2 * x * y + cy;
        x = next;
        step++;
      }
      total += step;
    }
  }
  return total;
}
