// Draw the part of the timeline that is in view.

import type { ScaleLinear } from "d3-scale";
import { formatMs } from "./format";
import { type Attempt, PHASES } from "./model";
import { fitText, prepare } from "./redraw";
import { colour } from "./states";
import { busyOver, type TimelineRow } from "./timeline_rows";

export const AXIS = 22;
export const AREA = 46; // the chart of busy workers
export const HEAD = AXIS + AREA;
export const ROW = 22;
export const RIGHT = 78;

export interface Drawing {
  rows: TimelineRow[];
  all: Attempt[];
  x: ScaleLinear<number, number>; // ms → px
  width: number;
  height: number;
  gutter: number;
  top: number; // px that are scrolled
  marksPath: boolean;
  showsWaits: boolean; // in rows of one step; in those of a worker they would cover the work of others
  chosen: Attempt | null;
}

export function drawTimeline(canvas: HTMLCanvasElement, drawing: Drawing): void {
  const { rows, width, height, gutter, top } = drawing;
  const context = prepare(canvas, width, height);
  const first = Math.max(0, Math.floor(top / ROW));
  const last = Math.min(rows.length, Math.ceil((top + height - HEAD) / ROW));
  context.save();
  context.beginPath();
  context.rect(gutter, HEAD, width - gutter - RIGHT, height - HEAD);
  context.clip();
  drawTicks(context, drawing);
  for (let row = first; row < last; row++) drawAttempts(context, drawing, rows[row], HEAD + row * ROW - top);
  context.restore();
  drawLabels(context, drawing, first, last);
  drawHead(context, drawing);
}

function drawTicks(context: CanvasRenderingContext2D, { x, height }: Drawing): void {
  context.fillStyle = colour("line");
  for (const tick of ticksOf(x)) context.fillRect(Math.round(x(tick)), HEAD, 1, height - HEAD);
}

function drawAttempts(context: CanvasRenderingContext2D, drawing: Drawing, row: TimelineRow, y: number): void {
  const { x, gutter, width, chosen, marksPath, showsWaits } = drawing;
  const right = width - RIGHT;
  let drawn = Number.NEGATIVE_INFINITY;
  let before: Attempt | null = null;
  for (const attempt of row.attempts) {
    const end = x(attempt.end);
    const begin = x(attempt.begin);
    const isMarked = attempt === chosen || (marksPath && attempt.step.isOnPath);
    if (showsWaits && before && attempt.begin > before.end) {
      context.fillStyle = colour("p-retry");
      const from = x(before.end);
      context.fillRect(from, y + 9, Math.max(0, begin - from), 4);
    }
    before = attempt;
    if (end < gutter || begin > right) continue;
    // Of many attempts on one pixel the first is drawn; a failure or a mark is never left out.
    if (end - drawn < 0.7 && !attempt.failure && !isMarked) continue;
    drawn = Math.max(drawn, end);
    drawPhases(context, attempt, x, y, showsWaits);
    if (attempt.failure) {
      context.fillStyle = colour("failed");
      context.fillRect(Math.max(begin, end - 3), y + 3, 3, ROW - 6);
    }
    if (isMarked) {
      const from = x(attempt.begin + attempt.phases[0]);
      context.strokeStyle = attempt === chosen ? colour("text") : colour("path");
      context.lineWidth = attempt === chosen ? 2 : 1.5;
      context.strokeRect(from - 0.5, y + 2.5, Math.max(2, end - from) + 1, ROW - 5);
    }
  }
}

function drawPhases(
  context: CanvasRenderingContext2D,
  attempt: Attempt,
  x: (ms: number) => number,
  y: number,
  showsWaits: boolean,
): void {
  let at = attempt.begin;
  for (let i = 0; i < PHASES.length; i++) {
    const ms = attempt.phases[i];
    if (ms > 0) {
      const from = x(at);
      const to = x(at + ms);
      context.fillStyle = colour(`p-${PHASES[i]}`);
      // No worker is taken while an attempt is queued: a thin line.
      if (i > 0) context.fillRect(from, y + 4, Math.max(0.7, to - from), ROW - 8);
      else if (showsWaits) context.fillRect(from, y + 10, to - from, 2);
      at += ms;
    }
  }
}

function drawLabels(context: CanvasRenderingContext2D, drawing: Drawing, first: number, last: number): void {
  const { rows, gutter, width, top } = drawing;
  context.save();
  context.beginPath();
  context.rect(0, HEAD, width, drawing.height - HEAD);
  context.clip();
  for (let row = first; row < last; row++) {
    const y = HEAD + row * ROW - top + ROW / 2;
    context.textAlign = "right";
    context.fillStyle = colour("text");
    context.fillText(fitText(context, rows[row].label, gutter - 18), gutter - 10, y);
    context.textAlign = "left";
    context.fillStyle = colour("muted");
    context.fillText(rows[row].note, width - RIGHT + 6, y);
  }
  context.restore();
}

function drawHead(context: CanvasRenderingContext2D, { x, width, gutter, all }: Drawing): void {
  const right = width - RIGHT;
  context.textAlign = "center";
  context.fillStyle = colour("muted");
  for (const tick of ticksOf(x)) {
    const at = x(tick);
    if (at >= gutter && at <= right) context.fillText(formatTick(tick), Math.max(at, gutter + 14), AXIS / 2);
  }
  const [begin, end] = x.domain();
  const busy = busyOver(all, begin, end, Math.max(1, Math.round(right - gutter)));
  const most = Math.max(1, ...busy);
  context.fillStyle = colour("p-run");
  context.globalAlpha = 0.45;
  context.beginPath();
  context.moveTo(gutter, HEAD - 4);
  busy.forEach((value, bin) => context.lineTo(gutter + bin, HEAD - 4 - (value / most) * (AREA - 10)));
  context.lineTo(right, HEAD - 4);
  context.fill();
  context.globalAlpha = 1;
  context.textAlign = "right";
  context.fillStyle = colour("text");
  context.fillText("busy workers", gutter - 10, AXIS + AREA / 2 - 2);
  context.textAlign = "left";
  context.fillStyle = colour("muted");
  context.fillText(`up to ${Math.round(most)}`, right + 6, AXIS + AREA / 2 - 2);
  context.fillStyle = colour("line");
  context.fillRect(0, HEAD - 1, width, 1);
  context.fillRect(0, AXIS, width, 1);
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const STEPS = [
  ...[1, 2, 5, 10, 20, 50, 100, 200, 500],
  ...[1, 2, 5, 10, 15, 30].map((n) => n * SECOND),
  ...[1, 2, 5, 10, 15, 30].map((n) => n * MINUTE),
  ...[1, 2, 3, 6, 12, 24, 48, 96].map((n) => n * HOUR),
];

/** Ticks at times that people count in: d3's are decimal, and a minute is not. */
function ticksOf(x: ScaleLinear<number, number>): number[] {
  const [begin, end] = x.domain();
  const [left, right] = x.range();
  const most = Math.max(2, (right - left) / 90);
  const step = STEPS.find((one) => (end - begin) / one <= most) ?? (end - begin) / most;
  const ticks: number[] = [];
  for (let at = Math.ceil(begin / step) * step; at <= end; at += step) ticks.push(at);
  return ticks;
}

function formatTick(ms: number): string {
  if (ms === 0) return "0";
  return formatMs(ms)
    .replace(/\.0+(?= )/, "")
    .replace(/(\.\d)0(?= )/, "$1")
    .replace(/ (min|h) 0 \w+/, " $1");
}
