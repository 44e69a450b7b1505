// Adds up a column of a CSV file for each value of another (abi wasi).
//
// In: lines of CSV. Out: {"rows":N,"skipped":N,"sums":{"key":sum,...}}. Arguments: the number of
// the key's column and of the value's, 1 and 2 if not given. A line is skipped if it has too few
// columns or if its value is not an integer, as in a line of titles. Empty lines count nowhere.
#include "../c/tally.h"

typedef struct {
  char *text;
  size_t length;
} field;

// Takes a field off the line and returns it without its quotes; "" within quotes is one quote.
static field take_field(const char **at, const char *end) {
  field taken = {allocate(end - *at), 0};
  int quoted = *at < end && **at == '"';
  if (quoted) ++*at;
  while (*at < end) {
    char byte = *(*at)++;
    if (quoted && byte == '"') {
      if (*at == end || **at != '"') {
        quoted = 0;
        continue;
      }
      ++*at;
    } else if (!quoted && byte == ',') {
      --*at;
      break;
    }
    taken.text[taken.length++] = byte;
  }
  return taken;
}

// Takes the digits as a negative number, as the most negative one has no positive twin.
static int parse_integer(field text, int64_t *value) {
  size_t at = text.length && (text.text[0] == '-' || text.text[0] == '+');
  int positive = !(at && text.text[0] == '-');
  if (at == text.length) return 0;
  *value = 0;
  for (; at < text.length; at++) {
    int digit = text.text[at] - '0';
    if (digit < 0 || digit > 9 || *value < (INT64_MIN + digit) / 10) return 0;
    *value = *value * 10 - digit;
  }
  if (positive && *value == INT64_MIN) return 0;
  if (positive) *value = -*value;
  return 1;
}

static size_t column(size_t index, size_t otherwise) {
  const char *text = argument(index);
  int64_t number;
  if (!text) return otherwise;
  if (!parse_integer((field){(char *)text, text_length(text)}, &number) || number < 1) {
    fail("the arguments are two numbers of columns, such as 1 and 2\n");
  }
  return number;
}

__attribute__((export_name("_start"))) void start(void) {
  size_t key_column = column(1, 1), value_column = column(2, 2);
  tally sums = {0};
  int64_t rows = 0, skipped = 0;
  const char *at;
  size_t length = read_input(&at);
  for (const char *end = at + length; at < end; at++) {
    const char *line_end = at;
    while (line_end < end && *line_end != '\n') line_end++;
    const char *next = line_end;
    if (line_end > at && line_end[-1] == '\r') line_end--;
    if (line_end > at) {
      field key = {NULL, 0}, value = {NULL, 0};
      int64_t number;
      for (size_t nth = 1;; nth++) {
        field taken = take_field(&at, line_end);
        if (nth == key_column) key = taken;
        if (nth == value_column) value = taken;
        if (at == line_end) break;
        at++;
      }
      if (key.text && value.text && parse_integer(value, &number)) {
        tally_add(&sums, key.text, key.length, number);
        rows++;
      } else {
        skipped++;
      }
    }
    at = next;
  }
  put_text("{\"rows\":");
  put_integer(rows);
  put_text(",\"skipped\":");
  put_integer(skipped);
  put_text(",\"sums\":");
  put_tally(&sums);
  put_text("}\n");
  flush();
}
