import assert from "node:assert/strict";
import { test } from "node:test";

import { ago, bytes, clock, count, duration, percent, rate, temperature } from
  "./page/core/format.js";

test("every number has its unit", () => {
  assert.equal(bytes(0), "0 B");
  assert.equal(bytes(1536), "1.5 KiB");
  assert.equal(bytes(3 * 1024 ** 3), "3 GiB");
  assert.equal(duration(0.0042), "4.2 ms");
  assert.equal(duration(59.7), "1 min");
  assert.equal(duration(90), "1 min 30 s");
  assert.equal(duration(100_000), "1 d 3 h");
  assert.equal(duration(-2), "−2 s");
  assert.equal(rate(12.34), "12.3 shards/s");
  assert.equal(percent(42.5), "43 %");
  assert.equal(temperature(36.6), "37 °C");
  assert.equal(count(1, "shards"), "1 shard");
  assert.equal(count(2000, "shards"), "2,000 shards");
});

test("what is unknown is a dash, never 0", () => {
  for (const show of [bytes, duration, percent, temperature, rate, count, ago, clock]) {
    for (const value of [null, undefined]) assert.equal(show(value), "–");
  }
  assert.equal(ago("no time"), "–");
});

test("times are told from now, in either direction", () => {
  const now = Date.parse("2026-05-01T12:00:00Z");
  assert.equal(ago("2026-05-01T11:59:48Z", now), "12 s ago");
  assert.equal(ago("2026-05-01T12:03:00Z", now), "in 3 min");
  assert.equal(ago("2026-05-01T12:00:00.500Z", now), "now");
  assert.equal(ago("2026-04-29T12:00:00Z", now), "2 d ago");
});
