// Counts words (abi wasi): text on stdin, one JSON object {"word":count,...} on stdout.
//
// A word is a longest run of A-Z a-z 0-9 _, with its case. wordcount.wat is the same by hand.
#include "../c/tally.h"

static int in_word(char byte) {
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
         (byte >= '0' && byte <= '9') || byte == '_';
}

__attribute__((export_name("_start"))) void start(void) {
  tally words = {0};
  const char *text;
  size_t length = read_input(&text);
  for (size_t at = 0; at < length; at++) {
    size_t from = at;
    while (at < length && in_word(text[at])) at++;
    if (at > from) tally_add(&words, text + from, at - from, 1);
  }
  put_tally(&words);
  put('\n');
  flush();
}
