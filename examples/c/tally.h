// A table from texts to sums, written as one JSON object: what `reduce: json` adds up.
#pragma once
#include "wasi.h"

typedef struct {
  const char *text;
  size_t length;
  uint32_t hash;
  int64_t sum;
} tally_entry;

// `entries` has a power of two of places; an entry without a text is free.
typedef struct {
  tally_entry *entries;
  size_t capacity;
  size_t used;
} tally;

// Returns where a text is, or where it belongs.
static tally_entry *tally_find(tally *table, const char *text, size_t length, uint32_t hash) {
  for (size_t at = hash;; at++) {
    tally_entry *entry = &table->entries[at & (table->capacity - 1)];
    if (!entry->text) return entry;
    if (entry->hash != hash || entry->length != length) continue;
    size_t same = 0;
    while (same < length && entry->text[same] == text[same]) same++;
    if (same == length) return entry;
  }
}

// Keeps at least half of the places free, as full tables take long to search.
static void tally_make_room(tally *table) {
  if (table->used * 2 < table->capacity) return;
  tally larger = {.capacity = table->capacity ? table->capacity * 2 : 1024};
  if (larger.capacity > SIZE_MAX / sizeof *larger.entries) fail("too many different texts\n");
  larger.entries = allocate(larger.capacity * sizeof *larger.entries);
  for (size_t i = 0; i < table->capacity; i++) {
    tally_entry *old = &table->entries[i];
    if (old->text) *tally_find(&larger, old->text, old->length, old->hash) = *old;
  }
  table->entries = larger.entries;
  table->capacity = larger.capacity;
}

// Adds to the sum of a text. The text is not copied: it must stay where it is.
static void tally_add(tally *table, const char *text, size_t length, int64_t value) {
  uint32_t hash = 0x811c9dc5;  // FNV-1a
  for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)text[i]) * 0x01000193;
  tally_make_room(table);
  tally_entry *entry = tally_find(table, text, length, hash);
  if (!entry->text) {
    *entry = (tally_entry){text, length, hash, 0};
    table->used++;
  }
  if (__builtin_add_overflow(entry->sum, value, &entry->sum)) {
    fail("a sum of this shard is beyond 64 bits: cut smaller shards\n");
  }
}

static void put_tally(const tally *table) {
  const char *between = "";
  put('{');
  for (size_t i = 0; i < table->capacity; i++) {
    const tally_entry *entry = &table->entries[i];
    if (!entry->text) continue;
    put_text(between);
    put_json_text(entry->text, entry->length);
    put(':');
    put_integer(entry->sum);
    between = ",";
  }
  put('}');
}
