// Places of the items of a graph: by dagre, or by levels where there are more than dagre lays out at once.

import { Graph as DagreGraph, layout as dagreLayout } from "@dagrejs/dagre";
import type { Item } from "./graph_items";

export const WIDTH = 176;
export const HEIGHT = 40;
const MOST_FOR_DAGRE = 160;
const GAP = { x: 48, y: 14 };

export interface Placed {
  x: number; // the left edge
  y: number; // the top edge
}

export type Point = { x: number; y: number };

export interface Layout {
  places: Placed[];
  bends: Map<string, Point[]>; // by edge, where dagre leads it around items
  width: number;
  height: number;
}

export function layOut(items: Item[]): Layout {
  const edges = items.reduce((sum, item) => sum + item.to.length, 0);
  return items.length <= MOST_FOR_DAGRE && edges <= 3 * MOST_FOR_DAGRE ? byDagre(items) : byLevel(items);
}

function byDagre(items: Item[]): Layout {
  const graph = new DagreGraph();
  graph.setGraph({ rankdir: "LR", nodesep: GAP.y, ranksep: GAP.x, marginx: 10, marginy: 10 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const item of items) graph.setNode(String(item.index), { width: WIDTH, height: HEIGHT });
  for (const item of items) for (const target of item.to) graph.setEdge(String(item.index), String(target));
  dagreLayout(graph);
  const places = items.map((item) => {
    const { x, y } = graph.node(String(item.index)) as Point;
    return { x: x - WIDTH / 2, y: y - HEIGHT / 2 };
  });
  const bends = new Map<string, Point[]>();
  for (const edge of graph.edges()) {
    const { points } = graph.edge(edge) as { points?: Point[] };
    if (points) bends.set(`${edge.v},${edge.w}`, points);
  }
  const extent = extentOf(places);
  for (const { y } of [...bends.values()].flat()) extent.height = Math.max(extent.height, y + 10);
  return { places, bends, ...extent };
}

/** Columns by level; within one, items stand near the middle of those that they depend on. */
function byLevel(items: Item[]): Layout {
  const columns = new Map<number, Item[]>();
  for (const item of items) {
    const column = columns.get(item.level);
    if (column) column.push(item);
    else columns.set(item.level, [item]);
  }
  const rank = new Float64Array(items.length);
  const places: Placed[] = new Array(items.length);
  const tallest = Math.max(...[...columns.values()].map((column) => column.length));
  // A level of very many items gets several columns, so that the whole has the shape of a screen.
  const most = Math.max(12, Math.round(Math.sqrt(items.length) * 2));
  let x = 10;
  for (const level of [...columns.keys()].sort((a, b) => a - b)) {
    const column = columns.get(level)!;
    const weight = new Map(column.map((item, index) => [item, centre(item, rank) ?? index]));
    column.sort((a, b) => weight.get(a)! - weight.get(b)!);
    // Parts of one height, not a full one and a rest.
    const size = Math.ceil(column.length / Math.ceil(column.length / most));
    for (let start = 0; start < column.length; start += size) {
      const part = column.slice(start, start + size);
      const top = ((Math.min(tallest, most) - part.length) * (HEIGHT + GAP.y)) / 2;
      part.forEach((item, row) => {
        rank[item.index] = top / (HEIGHT + GAP.y) + row;
        places[item.index] = { x, y: 10 + top + row * (HEIGHT + GAP.y) };
      });
      x += WIDTH + (start + size < column.length ? 16 : GAP.x);
    }
  }
  return { places, bends: new Map(), ...extentOf(places) };
}

function centre(item: Item, rank: Float64Array): number | null {
  if (!item.from.length) return null;
  return item.from.reduce((sum, index) => sum + rank[index], 0) / item.from.length;
}

function extentOf(places: Placed[]): { width: number; height: number } {
  let width = 0;
  let height = 0;
  for (const { x, y } of places) {
    width = Math.max(width, x + WIDTH + 10);
    height = Math.max(height, y + HEIGHT + 10);
  }
  return { width, height };
}
