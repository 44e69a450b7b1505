// Copies stdin to stdout (abi wasi): what it costs to move data through a command.
#include "../../examples/c/wasi.h"

static char buffer[1 << 16];

__attribute__((export_name("_start"))) void start(void) {
  span room = {buffer, sizeof buffer};
  size_t got;
  while (!wasi_fd_read(0, &room, 1, &got) && got) write_all(1, buffer, got);
}
