// The items of the graph: planned steps, of which the groups that are folded are one item each.

import type { Model, Node } from "./model";
import { STATES } from "./states";

export interface Item {
  index: number;
  label: string;
  nodes: Node[];
  isGroup: boolean;
  level: number;
  states: Map<string, number>; // the number of steps in each state
  state: string; // the one that matters most
  isOnPath: boolean;
  from: number[];
  to: number[];
}

export interface Graph {
  items: Item[];
  itemOf: Map<Node, Item>;
  pathEdges: Set<string>;
}

/** Return the items and their edges; `open` has the groups that are not folded, null is all of them. */
export function graphOf(model: Model, open: Set<string> | null): Graph {
  const items: Item[] = [];
  const itemOf = new Map<Node, Item>();
  const groups = new Map<string, Item>();
  for (const node of model.nodes) {
    const isFolded = open !== null && node.group !== "" && !open.has(node.group);
    let item = isFolded ? groups.get(node.group) : undefined;
    if (!item) {
      item = newItem(items.length, isFolded ? node.group : node.key, node, isFolded);
      items.push(item);
      if (isFolded) groups.set(node.group, item);
    }
    item.nodes.push(node);
    item.level = Math.min(item.level, node.level);
    itemOf.set(node, item);
    for (const step of node.steps) item.states.set(step.state, (item.states.get(step.state) ?? 0) + 1);
    // A mapped step whose elements are not known yet is one that waits.
    if (!node.steps.length) item.states.set("waiting", (item.states.get("waiting") ?? 0) + 1);
  }
  connect(model, itemOf);
  for (const item of items) item.state = STATES.find((state) => item.states.has(state)) ?? "waiting";
  return { items, itemOf, pathEdges: markPath(model, itemOf) };
}

function newItem(index: number, label: string, node: Node, isGroup: boolean): Item {
  return {
    index,
    label,
    nodes: [],
    isGroup,
    level: node.level,
    states: new Map(),
    state: "",
    isOnPath: false,
    from: [],
    to: [],
  };
}

function connect(model: Model, itemOf: Map<Node, Item>): void {
  const known = new Set<string>();
  for (const node of model.nodes) {
    const target = itemOf.get(node)!;
    for (const dep of node.deps) {
      const source = itemOf.get(model.nodes[dep])!;
      const edge = `${source.index},${target.index}`;
      if (source === target || known.has(edge)) continue;
      known.add(edge);
      source.to.push(target.index);
      target.from.push(source.index);
    }
  }
}

function markPath(model: Model, itemOf: Map<Node, Item>): Set<string> {
  const edges = new Set<string>();
  let before: Item | undefined;
  for (const step of model.path) {
    const item = step.node ? itemOf.get(step.node) : undefined;
    if (item) item.isOnPath = true;
    if (item && before) edges.add(`${before.index},${item.index}`);
    before = item;
  }
  return edges;
}

/** The counts of an item in words: `58 succeeded, 2 failed`. */
export function countsOf(item: Item): string {
  return STATES.filter((state) => item.states.has(state))
    .map((state) => `${item.states.get(state)!.toLocaleString("en")} ${state}`)
    .join(", ");
}
