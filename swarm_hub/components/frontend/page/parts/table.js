/**
 * A table of many rows: sorted, filtered, selected, walked with the keyboard; of more than 100 rows
 * only those in sight are in the page. On a narrow screen each row is a card.
 */
import { arrange, h, inFrame, renew, replace, setText } from "../core/dom.js";

const VIRTUAL_ABOVE = 100;
const SPARE_ROWS = 8;
const STEP_ROWS = 8;
const PAGE_ROWS = 10;

class Table extends HTMLElement {
  #columns = [];
  #rows = [];
  #shown = [];
  #byKey = new Map();
  #sort = null;
  #filter = "";
  #key = (row) => row.id;
  #href = null;
  #selectable = false;
  #selected = new Set();
  #current = null;
  #rowHeight = 0;
  #empty = "Nothing here";
  #body = h("tbody", { role: "rowgroup" });
  #head = h("tr", { role: "row" });
  #table = h("table.table", { role: "table" },
    h("thead", { role: "rowgroup" }, this.#head), this.#body);
  #scroller = h("div.table-scroller", this.#table);
  #none = h("div.empty");
  #above = spacer();
  #below = spacer();
  #drawn = "";
  #draw = inFrame(() => this.#render());
  #scroll = inFrame(() => this.#scrolled());

  connectedCallback() {
    if (this.firstChild) return;
    this.append(this.#scroller, this.#none);
    this.#scroller.addEventListener("scroll", this.#scroll, { passive: true });
    this.#body.addEventListener("keydown", (event) => this.#onKey(event));
    this.#body.addEventListener("click", (event) => this.#onClick(event));
    this.#body.addEventListener("focusin", ({ target }) => {
      const row = target.closest("tr");
      if (row) this.#current = row.dataset.key;
    });
    new ResizeObserver(() => {
      this.#rowHeight = 0;
      this.#draw();
    }).observe(this.#scroller);
  }

  /**
   * `{id, title, value(row), cell?(row), numeric?, card?, head?}`: `value` is what is sorted and
   * filtered by and, without `cell`, shown; `card: false` leaves it out of a card, `head: true`
   * makes it the card's title.
   */
  set columns(columns) {
    this.#columns = columns;
    this.#begin();
  }

  /** What tells one row from another. */
  set rowKey(key) {
    this.#key = key;
  }

  /** Where Enter and a click on a row lead. */
  set href(href) {
    this.#href = href;
  }

  set label(label) {
    this.#table.setAttribute("aria-label", label);
  }

  /** What is shown instead of no rows: a text or elements. */
  set empty(content) {
    this.#empty = content;
  }

  set selectable(selectable) {
    this.#selectable = selectable;
    this.#begin();
  }

  /** The keys of the selected rows; tells of changes by the event "select". */
  get selected() {
    return this.#selected;
  }

  set selected(keys) {
    this.#selected = new Set(keys);
    for (const row of this.#body.children) row.shownRow = null;
    this.#draw();
    this.dispatchEvent(new CustomEvent("select"));
  }

  /** A row is drawn anew when it is another object than before. */
  set rows(rows) {
    this.#rows = [...rows];
    this.#draw();
  }

  /** Draws every row anew, for cells that change with time. */
  redraw() {
    for (const row of this.#body.children) row.shownRow = null;
    this.#draw();
  }

  /** `{column, descending}`; tells of changes by the event "sort". */
  get sort() {
    return this.#sort;
  }

  set sort(sort) {
    this.#sort = sort;
    this.#drawHead();
    this.#draw();
  }

  set filter(text) {
    this.#filter = text.trim().toLowerCase();
    this.#draw();
  }

  /** Forgets the rows that there are: those to come have other cells. */
  #begin() {
    this.#drawHead();
    this.#body.replaceChildren();
    this.#byKey.clear();
    this.#draw();
  }

  #drawHead() {
    replace(this.#head, this.#selectable && h("th.table-check", { role: "columnheader" },
      this.#checkAll()), this.#columns.map((column) => this.#headCell(column)));
  }

  #checkAll() {
    return h("input", { type: "checkbox", "aria-label": "Select all", onchange: ({ target }) => {
      this.selected = target.checked ? this.#shown.map(this.#key) : [];
    } });
  }

  #headCell(column) {
    const sorted = this.#sort?.column === column.id;
    const order = !sorted ? "none" : this.#sort.descending ? "descending" : "ascending";
    return h("th", { scope: "col", role: "columnheader", "aria-sort": order,
      class: column.numeric ? "number" : "" },
    h("button.table-sort", { onclick: () => this.#sortBy(column.id) }, column.title,
      h("span.table-arrow", { "aria-hidden": "true" },
        sorted ? (this.#sort.descending ? "↓" : "↑") : "")));
  }

  #sortBy(id) {
    const same = this.#sort?.column === id;
    this.sort = { column: id, descending: same ? !this.#sort.descending : false };
    this.dispatchEvent(new CustomEvent("sort"));
    this.#head.querySelector("th:not([aria-sort=none]) button")?.focus();
  }

  #choose() {
    let rows = this.#rows;
    if (this.#filter) {
      rows = rows.filter((row) => this.#columns.some((column) =>
        String(column.value(row) ?? "").toLowerCase().includes(this.#filter)));
    }
    const column = this.#columns.find(({ id }) => id === this.#sort?.column);
    if (column) {
      const sign = this.#sort.descending ? -1 : 1;
      rows = [...rows].sort((one, other) => compare(column.value(one), column.value(other), sign));
    }
    return rows;
  }

  #render() {
    if (!this.isConnected) return;
    this.#shown = this.#choose();
    const isEmpty = this.#shown.length === 0;
    this.#scroller.hidden = isEmpty;
    this.#none.hidden = !isEmpty;
    if (isEmpty) {
      const content = this.#rows.length > 0 ? "Nothing fits the filter" : this.#empty;
      // What is in it stays, such as an invitation that was just made.
      if (this.#none.content !== content) replace(this.#none, content);
      this.#none.content = content;
      this.#body.replaceChildren();
      return;
    }
    this.#place(...this.#inSight());
    this.#table.setAttribute("aria-rowcount", this.#shown.length + 1);
  }

  #scrolled() {
    if (this.#shown.length <= VIRTUAL_ABOVE) return;
    const range = this.#inSight();
    if (range.join() !== this.#drawn) this.#place(...range);
  }

  #inSight() {
    const all = this.#shown.length;
    const isVirtual = all > VIRTUAL_ABOVE;
    this.#scroller.classList.toggle("table-virtual", isVirtual);
    if (!isVirtual) return [0, all];
    if (!this.#rowHeight) {
      const row = this.#body.querySelector("tr[data-key]");
      this.#rowHeight = row ? row.getBoundingClientRect().height : 0;
      if (!row) this.#draw();
    }
    const height = this.#rowHeight || 40;
    const top = Math.floor(this.#scroller.scrollTop / height) - SPARE_ROWS;
    const first = Math.max(0, top - (top % STEP_ROWS));
    const n = Math.ceil(this.#scroller.clientHeight / height) + 2 * SPARE_ROWS + STEP_ROWS;
    return [Math.min(first, Math.max(0, all - n)), Math.min(all, first + n)];
  }

  #place(first, last) {
    this.#drawn = `${first},${last}`;
    const wanted = [];
    if (first > 0) wanted.push(this.#spacer(this.#above, first));
    for (let index = first; index < last; index++) wanted.push(this.#row(this.#shown[index], index));
    const below = this.#shown.length - last;
    if (below > 0) wanted.push(this.#spacer(this.#below, below));
    arrange(this.#body, wanted);
    this.#byKey = new Map(wanted.filter((row) => row.dataset.key !== undefined)
      .map((row) => [row.dataset.key, row]));
    if (!this.#byKey.has(this.#current)) this.#current = wanted.find((row) =>
      row.dataset.key !== undefined)?.dataset.key ?? null;
    for (const [key, row] of this.#byKey) row.tabIndex = key === this.#current ? 0 : -1;
  }

  #spacer(spacer, n) {
    spacer.firstChild.style.height = `${n * (this.#rowHeight || 40)}px`;
    return spacer;
  }

  #row(row, index) {
    const key = String(this.#key(row));
    const element = this.#byKey.get(key) ?? h("tr", { role: "row", dataset: { key } });
    if (element.shownRow !== row) {
      element.shownRow = row;
      this.#fill(element, row, key);
    }
    element.setAttribute("aria-rowindex", index + 2);
    return element;
  }

  #fill(element, row, key) {
    if (!element.firstChild) {
      if (this.#selectable) element.append(h("td.table-check", { role: "cell" },
        h("input", { type: "checkbox", tabindex: -1, "aria-label": "Select" })));
      for (const column of this.#columns) {
        element.append(h("td", { role: "cell", dataset: { label: column.title },
          class: [column.numeric && "number", column.card === false && "no-card",
            column.head && "card-head"].filter(Boolean).join(" ") }));
      }
    }
    const offset = this.#selectable ? 1 : 0;
    const isSelected = this.#selected.has(key);
    if (this.#selectable) {
      element.firstChild.firstChild.checked = isSelected;
      element.setAttribute("aria-selected", isSelected);
    }
    this.#columns.forEach((column, index) => {
      const cell = element.children[index + offset];
      if (column.cell) {
        const shown = column.cell(row);
        if (shown instanceof Node || Array.isArray(shown)) renew(cell, shown);
        else setText(cell, shown);
      } else {
        setText(cell, column.value(row));
      }
    });
  }

  #onClick(event) {
    const row = event.target.closest("tr[data-key]");
    if (!row) return;
    if (event.target.closest(".table-check")) {
      this.#toggle(row.dataset.key);
    } else if (this.#href && !event.target.closest("a, button, input, select")) {
      if (!getSelection().toString()) location.hash = this.#href(row.shownRow);
    }
  }

  #toggle(key) {
    if (!this.#selectable) return;
    const selected = new Set(this.#selected);
    if (!selected.delete(key)) selected.add(key);
    this.selected = selected;
  }

  #onKey(event) {
    const row = event.target.closest("tr[data-key]");
    if (!row || event.target !== row) return;
    const at = this.#shown.findIndex((each) => String(this.#key(each)) === row.dataset.key);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.#shown.length - 1,
      PageDown: at + PAGE_ROWS, PageUp: at - PAGE_ROWS }[event.key];
    if (to !== undefined) {
      this.#focusOn(Math.max(0, Math.min(this.#shown.length - 1, to)));
    } else if (event.key === "Enter" && this.#href) {
      location.hash = this.#href(row.shownRow);
    } else if (event.key === " " && this.#selectable) {
      this.#toggle(row.dataset.key);
    } else {
      return;
    }
    event.preventDefault();
  }

  #focusOn(index) {
    const key = String(this.#key(this.#shown[index]));
    this.#current = key;
    if (!this.#byKey.has(key)) this.#scroller.scrollTop = index * (this.#rowHeight || 40);
    this.#render();
    const row = this.#byKey.get(key);
    row?.focus();
    row?.scrollIntoView({ block: "nearest" });
  }
}

const spacer = () =>
  h("tr.table-spacer", { role: "row", "aria-hidden": "true" }, h("td", { role: "cell" }));

/** What is unknown comes last, in either order. */
function compare(one, other, sign) {
  const lacks = (value) => value === null || value === undefined || value === "";
  if (lacks(one) || lacks(other)) return lacks(one) - lacks(other);
  if (typeof one === "number" && typeof other === "number") return sign * (one - other);
  return sign * String(one).localeCompare(String(other), undefined, { numeric: true });
}

customElements.define("hub-table", Table);
