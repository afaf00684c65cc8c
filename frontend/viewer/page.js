"use strict";

// Columns of blocks; a block is [text, number of its set of operations].  Blocks whose sets meet
// belong together: pointing at one lights all of them.
const data = JSON.parse(document.getElementById("data").textContent);
const main = document.querySelector("main");
const told = document.getElementById("status");
const bySet = data.sets.map(() => []); // the blocks of each set
const setsWith = new Map(); // an operation -> the numbers of the sets that it is in
data.sets.forEach((set, number) => {
  for (const operation of set) {
    if (!setsWith.has(operation)) setsWith.set(operation, []);
    setsWith.get(operation).push(number);
  }
});
let lit = []; // the blocks that are lit
let held = null; // the block that was clicked

// --- text in colour ------------------------------------------------------------------------------

const COLOURED = 250000; // characters of a column; beyond, colours cost more than they tell
const TOKEN = new RegExp(
  [
    String.raw`(?<c>^ {0,3}\d+(?=  |$)|(?:\/\/|;|#(?=\s)|\bloc\().*$)`,
    String.raw`(?<s>"(?:[^"\\]|\\.)*")`,
    String.raw`(?<n>[%@]"?[\w.]+"?)`,
    String.raw`(?<w>\b(?:func|return|check|group|kernel|stage|store|load|reduce|define|call|br|ret|phi|` +
      String.raw`getelementptr|def|for|in|range|import|from|class|if|else|with|as)\b)`,
    String.raw`(?<d>\b\d[\w.]*\b)`,
  ].join("|"),
  "gm",
);

function colour(element, text) {
  let done = 0;
  for (const found of text.matchAll(TOKEN)) {
    const [kind] = Object.entries(found.groups).find(([, value]) => value !== undefined);
    const span = document.createElement("i");
    span.className = kind;
    span.textContent = found[0];
    element.append(text.slice(done, found.index), span);
    done = found.index + found[0].length;
  }
  element.append(text.slice(done));
}

// --- building ------------------------------------------------------------------------------------

const columns = data.columns.map(buildColumn);

function buildColumn(column, number) {
  const section = document.createElement("section");
  section.setAttribute("aria-label", column.name);
  section.innerHTML = '<h2><span></span><small></small><output title="lines that belong to it"></output></h2>';
  section.querySelector("span").textContent = column.name;
  section.querySelector("small").textContent = column.about;
  const lines = document.createElement("div");
  lines.className = "lines";
  const coloured = column.blocks.reduce((sum, [text]) => sum + text.length, 0) < COLOURED;
  for (const [text, set] of column.blocks) lines.append(buildBlock(text, set, number, coloured));
  const first = lines.querySelector("[data-set]");
  if (first) first.tabIndex = 0;
  section.append(lines);
  main.append(section);
  document.querySelector("nav").append(buildSwitch(section, column.name));
  return { section, lines, count: section.querySelector("output") };
}

function buildBlock(text, set, column, coloured) {
  const block = document.createElement("div");
  block.className = "block";
  if (coloured) colour(block, text);
  else block.textContent = text;
  if (set) {
    block.dataset.set = set;
    block.dataset.column = column;
    block.tabIndex = -1;
    bySet[set].push(block);
  }
  return block;
}

function buildSwitch(section, name) {
  const button = document.createElement("button");
  button.textContent = name;
  button.setAttribute("aria-pressed", "true");
  button.onclick = () => {
    section.hidden = !section.hidden;
    button.setAttribute("aria-pressed", String(!section.hidden));
  };
  return button;
}

// --- lighting ------------------------------------------------------------------------------------

const dims = document.querySelectorAll(".block").length < 4000; // to dim the rest takes time

function setsMeeting(number) {
  return new Set(data.sets[number].flatMap((operation) => setsWith.get(operation)));
}

function light(block) {
  for (const old of lit) old.classList.remove("lit", "at");
  lit = [];
  document.body.classList.toggle("lighting", block !== null && dims);
  const counts = columns.map(() => 0);
  if (block) {
    for (const number of setsMeeting(Number(block.dataset.set)))
      for (const other of bySet[number]) {
        other.classList.add("lit");
        lit.push(other);
        counts[other.dataset.column] += other.textContent.split("\n").length;
      }
    block.classList.add("at");
  }
  columns.forEach(({ count }, i) => (count.textContent = counts[i] || ""));
  const operations = block ? data.sets[block.dataset.set].length : 0;
  told.textContent = block ? `${operations} operation${operations === 1 ? "" : "s"}` : "";
}

// In the other columns, the first lit block comes into view unless one is there.
function reveal(block) {
  columns.forEach(({ section, lines }, number) => {
    if (section.hidden || number === Number(block.dataset.column)) return;
    const found = [...lines.querySelectorAll(".lit")];
    const top = lines.scrollTop, bottom = top + lines.clientHeight;
    const seen = found.some((b) => {
      const height = Math.min(bottom, b.offsetTop + b.offsetHeight) - Math.max(top, b.offsetTop);
      return height >= Math.min(b.offsetHeight, 60);
    });
    if (found.length && !seen) lines.scrollTop = found[0].offsetTop - lines.clientHeight / 4;
  });
}

function hold(block) {
  held = held === block ? null : block;
  document.body.classList.toggle("held", held !== null);
  light(block);
  if (block) reveal(block);
}

const blockAt = (event) => event.target.closest?.("[data-set]") ?? null;

main.addEventListener("pointerover", (event) => held || light(blockAt(event)));
main.addEventListener("pointerleave", () => held || light(null));
main.addEventListener("click", (event) => {
  const block = blockAt(event);
  if (block) hold(block);
  else if (held) letGo();
});

function letGo() {
  held = null;
  document.body.classList.remove("held");
  light(null);
}

// --- keys ----------------------------------------------------------------------------------------

function visit(block) {
  if (!block) return;
  const { lines } = columns[block.dataset.column];
  for (const old of lines.querySelectorAll("[tabindex='0']")) old.tabIndex = -1;
  block.tabIndex = 0;
  block.focus();
  light(block);
  reveal(block);
  held = null;
  document.body.classList.remove("held");
}

function beside(block, step) {
  for (let at = Number(block.dataset.column) + step; columns[at]; at += step) {
    if (columns[at].section.hidden) continue;
    const next = columns[at].lines.querySelector(".lit") ?? columns[at].lines.querySelector("[data-set]");
    if (next) return next;
  }
  return null;
}

function below(block, step) {
  let next = block;
  do next = step > 0 ? next.nextElementSibling : next.previousElementSibling;
  while (next && !next.dataset.set);
  return next;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const digit = Number(event.key);
  if (digit >= 1) return document.querySelectorAll("nav button")[digit - 1]?.click();
  if (event.key === "Escape") return letGo();
  const block = document.activeElement.closest?.("[data-set]");
  if (!block) return;
  const act = {
    ArrowDown: () => visit(below(block, 1)),
    ArrowUp: () => visit(below(block, -1)),
    ArrowRight: () => visit(beside(block, 1)),
    ArrowLeft: () => visit(beside(block, -1)),
    Enter: () => hold(block),
    " ": () => hold(block),
  }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

main.addEventListener("focusin", (event) => {
  const block = blockAt(event);
  if (block && !held && block.matches(":focus-visible")) light(block);
});
