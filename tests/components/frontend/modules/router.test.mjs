import assert from "node:assert/strict";
import { test } from "node:test";

import "./browser.mjs";
import { address, find, lazy, match, parseAddress, route } from "./page/core/dom.js";

test("a fragment is a path and a query", () => {
  assert.deepEqual(parseAddress("#/jobs?state=running&text=a%20b"),
    { path: "/jobs", query: { state: "running", text: "a b" } });
  assert.deepEqual(parseAddress(""), { path: "/", query: {} });
  assert.deepEqual(parseAddress("#/nodes/"), { path: "/nodes", query: {} });
});

test("what is written is read again, and what is empty is left out", () => {
  const query = { text: "a&b=c#d", state: "failed" };
  assert.deepEqual(parseAddress(address("/jobs", { ...query, owner: "", since: null, all: false })),
    { path: "/jobs", query });
});

test("names in a path are read, and a module is loaded once it is needed", async () => {
  let loaded = 0;
  lazy("/things/:id", async () => {
    loaded += 1;
    route("/things/:id", "hub-thing", "Thing");
  });
  route("/things", "hub-things", "Things");
  assert.equal(match("/things/a%2Fb").params.id, "a/b");
  assert.equal(match("/things/%E0%A4%A").params.id, "%E0%A4%A");
  assert.deepEqual(await find("/things"), { tag: "hub-things", title: "Things", params: {} });
  assert.equal(loaded, 0);
  const found = await find("/things/x");
  assert.deepEqual([found.tag, found.params], ["hub-thing", { id: "x" }]);
  await find("/things/y");
  assert.equal(loaded, 1);
  assert.equal(await find("/nowhere/at/all"), null);
});
