// Draw the part of the graph that is in view.

import type { ZoomTransform } from "d3-zoom";
import { formatMs } from "./format";
import type { Graph, Item } from "./graph_items";
import { HEIGHT, type Layout, type Point, WIDTH } from "./graph_layout";
import { durationOf } from "./model";
import { fitText, prepare } from "./redraw";
import { colour, SIGNS, STATES } from "./states";

const READABLE = 0.42; // below this scale no text is drawn

export interface GraphDrawing {
  graph: Graph;
  layout: Layout;
  transform: ZoomTransform;
  width: number;
  height: number;
  chosen: Item | null;
}

export function drawGraph(canvas: HTMLCanvasElement, drawing: GraphDrawing): void {
  const { graph, layout, transform, width, height, chosen } = drawing;
  const context = prepare(canvas, width, height);
  const [left, top] = transform.invert([0, 0]);
  const [right, bottom] = transform.invert([width, height]);
  context.translate(transform.x, transform.y);
  context.scale(transform.k, transform.k);
  const isIn = (x0: number, y0: number, x1: number, y1: number) => x1 > left && x0 < right && y1 > top && y0 < bottom;
  drawEdges(context, drawing, isIn);
  for (const item of graph.items) {
    const { x, y } = layout.places[item.index];
    if (isIn(x, y, x + WIDTH, y + HEIGHT)) drawItem(context, item, x, y, transform.k, item === chosen);
  }
}

function drawEdges(
  context: CanvasRenderingContext2D,
  { graph, layout, transform, chosen }: GraphDrawing,
  isIn: (x0: number, y0: number, x1: number, y1: number) => boolean,
): void {
  const kinds = { plain: new Path2D(), path: new Path2D(), chosen: new Path2D() };
  for (const item of graph.items) {
    const from = layout.places[item.index];
    for (const index of item.to) {
      const to = layout.places[index];
      const [y0, y1] = from.y < to.y ? [from.y, to.y] : [to.y, from.y];
      if (!isIn(Math.min(from.x, to.x), y0, Math.max(from.x, to.x) + WIDTH, y1 + HEIGHT)) continue;
      const edge = `${item.index},${index}`;
      const isChosen = chosen !== null && (item === chosen || graph.items[index] === chosen);
      const kind = isChosen ? "chosen" : graph.pathEdges.has(edge) ? "path" : "plain";
      addEdge(kinds[kind], from, to, layout.bends.get(edge));
    }
  }
  const line = Math.min(1.6, 1 / transform.k);
  for (const [kind, name, width] of [
    ["plain", "edge", line],
    ["path", "path", line * 2],
    ["chosen", "accent", line * 2],
  ] as const) {
    context.strokeStyle = colour(name);
    context.lineWidth = width;
    context.stroke(kinds[kind]);
  }
}

function addEdge(path: Path2D, from: Point, to: Point, bends: Point[] | undefined): void {
  const start = { x: from.x + WIDTH, y: from.y + HEIGHT / 2 };
  const end = { x: to.x, y: to.y + HEIGHT / 2 };
  path.moveTo(start.x, start.y);
  let at = start;
  // dagre's first and last points stand on the borders of the items, and ours do too.
  for (const point of [...(bends?.slice(1, -1) ?? []), end]) {
    const middle = (at.x + point.x) / 2;
    path.bezierCurveTo(middle, at.y, middle, point.y, point.x, point.y);
    at = point;
  }
}

function drawItem(
  context: CanvasRenderingContext2D,
  item: Item,
  x: number,
  y: number,
  scale: number,
  isChosen: boolean,
): void {
  const shade = colour(item.state);
  if (scale < READABLE) {
    context.fillStyle = item.state === "waiting" || item.state === "skipped" ? colour("edge") : shade;
    context.fillRect(x, y, WIDTH, HEIGHT);
    if (isChosen || item.isOnPath) outline(context, x, y, isChosen, scale);
    return;
  }
  if (item.isGroup || item.nodes[0].isMapped) box(context, x + 4, y + 4, colour("card"), colour("line"));
  box(context, x, y, colour("card"), item.isOnPath ? colour("path") : colour("line"));
  drawShares(context, item, x, y);
  context.textAlign = "left";
  context.fillStyle = colour("text");
  context.fillText(fitText(context, item.label, WIDTH - 22), x + 12, y + 14);
  context.fillStyle = shade;
  context.fillText(fitText(context, noteOf(item), WIDTH - 22), x + 12, y + 29);
  if (isChosen) outline(context, x, y, true, scale);
}

/** The strip at an item's left edge: the states of its steps, from the worst down. */
function drawShares(context: CanvasRenderingContext2D, item: Item, x: number, y: number): void {
  const total = [...item.states.values()].reduce((sum, count) => sum + count, 0) || 1;
  let at = y + 1;
  for (const state of STATES) {
    const count = item.states.get(state);
    if (!count) continue;
    const height = Math.max(3, ((HEIGHT - 2) * count) / total);
    context.fillStyle = colour(state);
    context.fillRect(x + 1, at, 4, Math.min(height, y + HEIGHT - 1 - at));
    at += height;
  }
}

function noteOf(item: Item): string {
  const [step, more] = item.nodes[0].steps;
  if (!item.isGroup && step && !more && !item.nodes[0].isMapped) {
    const ms = durationOf(step);
    const retried = step.attempts.length > 1 ? ` · ${step.attempts.length} attempts` : "";
    return `${SIGNS[step.state]} ${ms === null ? step.state : formatMs(ms)}${retried}`;
  }
  return STATES.filter((state) => item.states.has(state))
    .map((state) => `${SIGNS[state]} ${item.states.get(state)!.toLocaleString("en")}`)
    .join("  ");
}

function box(context: CanvasRenderingContext2D, x: number, y: number, fill: string, stroke: string): void {
  context.beginPath();
  context.roundRect(x + 0.5, y + 0.5, WIDTH - 1, HEIGHT - 1, 6);
  context.fillStyle = fill;
  context.fill();
  context.strokeStyle = stroke;
  context.lineWidth = 1;
  context.stroke();
}

function outline(context: CanvasRenderingContext2D, x: number, y: number, isChosen: boolean, scale: number): void {
  context.strokeStyle = isChosen ? colour("accent") : colour("path");
  context.lineWidth = Math.max(2, 2 / scale);
  context.strokeRect(x - 1, y - 1, WIDTH + 2, HEIGHT + 2);
}
