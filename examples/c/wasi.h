// What a C program without a libc needs of WASI preview1: stdin, stdout, stderr, arguments, exit.
//
// Including this instead of <stdio.h> keeps a module at a few kilobytes and lets it build in less
// than a second: building a libc for wasm32-wasi takes a compiler most of a minute the first time.
#pragma once
#include <stddef.h>
#include <stdint.h>

#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name)))

typedef struct {
  const void *at;
  size_t size;
} span;

WASI(fd_read) int32_t wasi_fd_read(int32_t fd, const span *spans, size_t count, size_t *size);
WASI(fd_write) int32_t wasi_fd_write(int32_t fd, const span *spans, size_t count, size_t *size);
WASI(proc_exit) _Noreturn void wasi_proc_exit(int32_t code);
WASI(args_get) int32_t wasi_args_get(char **arguments, char *text);
WASI(args_sizes_get) int32_t wasi_args_sizes_get(size_t *count, size_t *text_size);

extern unsigned char __heap_base;

static size_t text_length(const char *text) {
  size_t length = 0;
  while (text[length]) length++;
  return length;
}

static void write_all(int32_t fd, const char *at, size_t left) {
  while (left) {
    span rest = {at, left};
    size_t written;
    if (wasi_fd_write(fd, &rest, 1, &written)) wasi_proc_exit(1);
    at += written;
    left -= written;
  }
}

// Ends the command: the shard fails, and the job's owner sees the message.
static _Noreturn void fail(const char *message) {
  write_all(2, message, text_length(message));
  wasi_proc_exit(1);
}

// Returns zeroed memory. Nothing is ever freed: each shard runs in a fresh instance.
static void *allocate(size_t size) {
  static uintptr_t top;
  const uintptr_t page = 65536;
  if (!top) top = (uintptr_t)&__heap_base;
  uintptr_t at = (top + 7) & ~(uintptr_t)7;
  size_t have = __builtin_wasm_memory_size(0) * page;
  if (size > UINT32_MAX - page - at) fail("out of memory\n");
  if (at + size > have) {
    size_t pages = (at + size - have + page - 1) / page;
    if (__builtin_wasm_memory_grow(0, pages) == SIZE_MAX) fail("out of memory\n");
  }
  top = at + size;
  return (void *)at;
}

// Reads stdin to its end; sets where it is and returns how long it is.
static size_t read_input(const char **text) {
  size_t capacity = 1 << 16, length = 0, got;
  char *at = allocate(capacity);
  for (;;) {
    span room = {at + length, capacity - length};
    if (wasi_fd_read(0, &room, 1, &got)) fail("can't read stdin\n");
    if (!got) break;
    length += got;
    if (length == capacity) {
      char *larger = allocate(capacity * 2);
      __builtin_memcpy(larger, at, length);
      at = larger;
      capacity *= 2;
    }
  }
  *text = at;
  return length;
}

// Returns argument number `index`, counted from 1, or NULL; 0 is the module's own name.
__attribute__((unused)) static const char *argument(size_t index) {
  size_t count, size;
  if (wasi_args_sizes_get(&count, &size)) fail("can't read the arguments\n");
  if (index >= count) return NULL;
  char **arguments = allocate(count * sizeof *arguments);
  if (wasi_args_get(arguments, allocate(size))) fail("can't read the arguments\n");
  return arguments[index];
}

static char out_buffer[1 << 16];
static size_t out_size;

static void flush(void) {
  write_all(1, out_buffer, out_size);
  out_size = 0;
}

static void put(char byte) {
  if (out_size == sizeof out_buffer) flush();
  out_buffer[out_size++] = byte;
}

static void put_text(const char *text) {
  while (*text) put(*text++);
}

static void put_integer(int64_t value) {
  char digits[20];
  size_t count = 0;
  // The most negative number has no positive twin, so the digits are taken as they are.
  uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
  do digits[count++] = '0' + rest % 10; while (rest /= 10);
  if (value < 0) put('-');
  while (count) put(digits[--count]);
}

// Writes a text as JSON; its bytes must be UTF-8.
static void put_json_text(const char *text, size_t length) {
  put('"');
  for (size_t i = 0; i < length; i++) {
    unsigned char byte = text[i];
    if (byte == '"' || byte == '\\') put('\\');
    if (byte < 32) {
      put_text("\\u00");
      put("0123456789abcdef"[byte >> 4]);
      put("0123456789abcdef"[byte & 15]);
    } else {
      put(byte);
    }
  }
  put('"');
}
