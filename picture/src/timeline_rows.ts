// The rows of the timeline: workers with all of their attempts, or steps with their own.

import { type Attempt, type Model, startOf } from "./model";

export interface TimelineRow {
  label: string;
  note: string;
  attempts: Attempt[];
}

export type Grouping = "worker" | "step";

export function rowsOf(model: Model, grouping: Grouping): TimelineRow[] {
  if (grouping === "step") {
    return model.steps
      .filter((step) => step.begin !== null)
      .sort((a, b) => startOf(a)! - startOf(b)! || a.index - b.index)
      .map((step) => ({ label: step.key, note: "", attempts: step.attempts }));
  }
  const several = new Set(model.lanes.map((lane) => lane.executor)).size > 1;
  return model.lanes.map((lane) => ({
    label: several ? `${lane.executor} · ${lane.label}` : lane.label,
    note: model.run.seconds > 0 ? `${Math.round(busyOf(lane.attempts) / model.run.seconds / 10)} % busy` : "",
    attempts: lane.attempts,
  }));
}

/** The ms for which the attempts held their worker. */
function busyOf(attempts: Attempt[]): number {
  return attempts.reduce((sum, attempt) => sum + attempt.end - attempt.begin - attempt.phases[0], 0);
}

/** The number of attempts that hold a worker, for each of `bins` equal parts of the time from `begin` to `end`. */
export function busyOver(attempts: Attempt[], begin: number, end: number, bins: number): Float64Array {
  const busy = new Float64Array(bins);
  const width = (end - begin) / bins;
  if (!(width > 0)) return busy;
  for (const attempt of attempts) {
    const from = Math.max(0, (attempt.begin + attempt.phases[0] - begin) / width);
    const to = Math.min(bins, (attempt.end - begin) / width);
    for (let bin = Math.floor(from); bin < to; bin++) {
      busy[bin] += Math.min(bin + 1, to) - Math.max(bin, from);
    }
  }
  return busy;
}
