// Runs a kernel natively: reads "lo hi" from each line, writes its CPU nanoseconds and result.
#define _POSIX_C_SOURCE 199309L
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "kernel.h"

static int64_t cpu_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

int main(void) {
  int64_t lo, hi;
  while (scanf("%" SCNd64 " %" SCNd64, &lo, &hi) == 2) {
    int64_t started = cpu_ns();
    int64_t result = map(lo, hi);
    int64_t spent = cpu_ns() - started;
    printf("%" PRId64 " %" PRId64 "\n", spent, result);
    fflush(stdout);
  }
  return 0;
}
