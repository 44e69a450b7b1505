// Copies /in/data to /out/data (abi wasi-files): what it costs to move data through files.
#include "../../examples/c/wasi.h"

WASI(path_open) int32_t wasi_path_open(int32_t directory, int32_t lookup, const char *path,
                                       size_t length, int32_t how, int64_t rights,
                                       int64_t inherited, int32_t flags, int32_t *fd);

enum { IN = 3, OUT = 4, CREATE = 1, READ = 1 << 1, WRITE = 1 << 6 };

static char buffer[1 << 16];

static int32_t open_data(int32_t directory, int32_t how, int64_t rights) {
  int32_t fd;
  if (wasi_path_open(directory, 0, "data", 4, how, rights, 0, 0, &fd)) fail("can't open data\n");
  return fd;
}

__attribute__((export_name("_start"))) void start(void) {
  int32_t from = open_data(IN, 0, READ), to = open_data(OUT, CREATE, WRITE);
  span room = {buffer, sizeof buffer};
  size_t got;
  while (!wasi_fd_read(from, &room, 1, &got) && got) write_all(to, buffer, got);
}
