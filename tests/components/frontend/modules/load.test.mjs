/** Every module is read as a browser reads it: its syntax, and each name that it imports. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

import "./browser.mjs";

const files = readdirSync(new URL("./page", import.meta.url), { recursive: true })
  .map((name) => name.replaceAll("\\", "/"))
  .filter((name) => name.endsWith(".js"));

// It begins at once, with what only a browser has; its imports are those of the others.
for (const name of files.filter((each) => each !== "main.js")) {
  test(`${name} loads`, async () => {
    await import(`./page/${name}`);
  });
}

test("main.js imports what there is", async () => {
  const text = readFileSync(new URL("./page/main.js", import.meta.url), "utf8");
  for (const [, path] of text.matchAll(/import\("(.+?)"\)/g)) {
    assert.ok(files.includes(path.slice(2)), `${path} is missing`);
  }
  for (const [, names, path] of text.matchAll(/^import \{(.+?)\} from "(.+?)";$/gm)) {
    const found = await import(`./page/${path.slice(2)}`);
    for (const each of names.split(",")) assert.ok(each.trim() in found, `${each} in ${path}`);
  }
});
