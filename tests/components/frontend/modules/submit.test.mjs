import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import test from "node:test";
import "./browser.mjs";
import { api, ApiError } from "./page/core/connection.js";
import { Sha256, upload } from "./page/core/upload.js";
import { kindOf, tarEntries, zipEntries } from "./page/parts/result_kinds.js";
import { commandLine, curl } from "./page/parts/submit_commands.js";

const sha = (bytes) => createHash("sha256").update(bytes).digest("hex");
const what = { module: "a.wasm", script: null, kind: "files", files: [], range: "0:10", url: "http://hub" };

test("SHA-256 is that of node, however the bytes come", () => {
  for (const n of [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000, 4096]) {
    const bytes = new Uint8Array(n).map((_, at) => at * 7);
    const sum = new Sha256();
    for (let at = 0; at < n; at += 37) sum.add(bytes.subarray(at, at + 37));
    assert.equal(sum.hex(), sha(bytes), String(n));
  }
});

test("an upload that breaks goes on where the hub has it", async () => {
  const bytes = new Uint8Array(20 * 1024 * 1024).fill(7);
  let here = 0;
  const asked = [];
  let breaks = 1;
  api.get = async () => ({ offset: here });
  api.raw = async (method, path, { body, headers }) => {
    asked.push(headers["Content-Range"]);
    if (here > 0 && breaks > 0) {
      breaks -= 1;
      // Half of it has arrived when the connection ends.
      here += body.size / 2;
      throw new ApiError(0, "unreachable", "The hub does not answer");
    }
    here += body.size;
    return new Response(JSON.stringify({ offset: here }));
  };
  const { signal } = new AbortController();
  assert.equal(await upload(new Blob([bytes]), signal, () => {}), sha(bytes));
  const mib = 1024 * 1024;
  const range = (from, to) => `bytes ${from * mib}-${to * mib - 1}/${20 * mib}`;
  assert.deepEqual(asked, [range(0, 8), range(8, 16), range(12, 20)]);
});

test("a refusal of an upload is not tried again", async () => {
  let times = 0;
  api.get = async () => ({ offset: 0 });
  api.raw = async () => {
    times += 1;
    return new Response(JSON.stringify({ code: "too_large", message: "no" }), { status: 413 });
  };
  await assert.rejects(upload(new Blob(["x"]), new AbortController().signal, () => {}), { status: 413 });
  assert.equal(times, 1);
});

test("the command line says what the form says, as a shell takes it", () => {
  const spec = { abi: "wasi", split: "lines", labels: { team: "a b" }, limits: { memory: "1GiB" }, deadline_s: 60 };
  assert.equal(
    commandLine({ ...what, files: ["it's.csv", "-x"] }, spec),
    `swarm-hub submit a.wasm 'it'\\''s.csv' ./-x --abi wasi --split lines --deadline 60s --limits.memory 1GiB --label 'team=a b' --watch`,
  );
  assert.equal(commandLine({ ...what, kind: "range" }, { split: "range" }), "swarm-hub submit a.wasm --range 0:10 --watch");
  assert.equal(commandLine({ ...what, script: "p.py" }, {}), "swarm-hub submit --with a.wasm p.py --watch");
});

test("curl is given names that mean nothing else to it", () => {
  assert.equal(
    curl({ ...what, files: ["a;type=x.csv"] }, { reduce: "sum" }),
    `curl -H "Authorization: Bearer $TOKEN" \\\n  -F module=@a.wasm \\\n  -F 'dataset=@"a;type=x.csv"' \\\n` +
    `  -F 'spec={"reduce":"sum"}' \\\n  http://hub/api/v1/jobs`,
  );
});

test("a result is known by how it begins", () => {
  const bytes = (text) => new TextEncoder().encode(text);
  assert.equal(kindOf(Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 13)), "image/png");
  assert.equal(kindOf(bytes("PK\x03\x04")), "zip");
  assert.equal(kindOf(bytes("héllo")), "text");
  assert.equal(kindOf(bytes("héllo").subarray(0, 2)), "text");
  assert.equal(kindOf(Uint8Array.of(1, 0, 255)), "bytes");
});

test("an archive is listed, and a broken one ends the list", () => {
  const tar = new Uint8Array(2048);
  tar.set(new TextEncoder().encode("one.txt"), 0);
  tar.set(new TextEncoder().encode("00000000003\0"), 124);
  tar.set(new TextEncoder().encode("0"), 156);
  tar.set(new TextEncoder().encode("ustar"), 257);
  assert.equal(kindOf(tar), "tar");
  assert.deepEqual(tarEntries(tar), [{ name: "one.txt", size: 3 }]);
  assert.deepEqual(tarEntries(new Uint8Array(100)), []);
  assert.deepEqual(zipEntries(new Uint8Array(100)), []);
});
