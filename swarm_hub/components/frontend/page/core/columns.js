/** Columns of numbers that grow; pure. */

/** Empty columns by their names. */
export function made(Column, names) {
  return Object.fromEntries(names.map((name) => [name, new Column(0)]));
}

/** A column with room for so many numbers. */
export function grown(column, length) {
  if (length <= column.length) return column;
  const larger = new column.constructor(Math.max(length, column.length * 2, 256));
  larger.set(column);
  return larger;
}

/** Sorts rows by a column; what is nearly in order, as after a few events, takes one walk. */
export function sortNearly(order, by) {
  let moves = 8 * order.length;
  for (let at = 1; at < order.length; at += 1) {
    const row = order[at];
    let to = at;
    for (; to > 0 && by[order[to - 1]] > by[row]; to -= 1) {
      order[to] = order[to - 1];
      moves -= 1;
    }
    order[to] = row;
    if (moves < 0) {
      order.sort((a, b) => by[a] - by[b] || a - b);
      return;
    }
  }
}
