// Which steps the table shows, and in which order.

import { durationOf, executorOf, type Node, searchText, startOf, type Step } from "./model";
import { STATES } from "./states";

export interface Filter {
  text: string;
  states: Set<string>;
  executor: string;
  group: string;
  onlyRetried: boolean;
  onlyPath: boolean;
  node: Node | null;
}

export type Column = "state" | "key" | "group" | "executor" | "attempts" | "started" | "waited" | "duration";

export interface Order {
  column: Column;
  isDescending: boolean;
}

export const NO_FILTER: Filter = {
  text: "",
  states: new Set(),
  executor: "",
  group: "",
  onlyRetried: false,
  onlyPath: false,
  node: null,
};

export function isFiltered(filter: Filter): boolean {
  return Boolean(
    filter.text ||
    filter.states.size ||
    filter.executor ||
    filter.group ||
    filter.onlyRetried ||
    filter.onlyPath ||
    filter.node,
  );
}

/** The steps that match all of the filter; every word of its text must occur. */
export function filterSteps(steps: Step[], filter: Filter): Step[] {
  const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
  return steps.filter(
    (step) =>
      (!filter.states.size || filter.states.has(step.state)) &&
      (!filter.executor || executorOf(step) === filter.executor) &&
      (!filter.group || step.node?.group === filter.group) &&
      (!filter.onlyRetried || step.attempts.length > 1) &&
      (!filter.onlyPath || step.isOnPath) &&
      (!filter.node || step.node === filter.node) &&
      words.every((word) => searchText(step).includes(word)),
  );
}

const RANK = new Map<string, number>(STATES.map((state, index) => [state, index]));
const NAMES = new Intl.Collator(undefined, { numeric: true });

const VALUES: Record<Column, (step: Step) => string | number | null> = {
  state: (step) => RANK.get(step.state) ?? 99,
  key: (step) => step.key,
  group: (step) => step.node?.group || null,
  executor: (step) => executorOf(step) || null,
  attempts: (step) => step.attempts.length,
  started: startOf,
  waited: (step) => waitedOf(step),
  duration: (step) => durationOf(step),
};

/** The ms that a step waited for workers and for retries. */
export function waitedOf(step: Step): number | null {
  const { attempts } = step;
  if (!attempts.length) return null;
  return attempts.reduce(
    (sum, attempt, i) => sum + attempt.phases[0] + (i ? Math.max(0, attempt.begin - attempts[i - 1].end) : 0),
    0,
  );
}

/** Sort a copy; steps without a value come last in both directions, and steps that are equal stay in their order. */
export function sortSteps(steps: Step[], { column, isDescending }: Order): Step[] {
  const value = VALUES[column];
  const rows = steps.map((step) => ({ step, value: value(step) }));
  const sign = isDescending ? -1 : 1;
  rows.sort((a, b) => {
    if (a.value === null || b.value === null) return Number(a.value === null) - Number(b.value === null);
    if (typeof a.value === "number") return sign * (a.value - (b.value as number));
    return sign * NAMES.compare(a.value, b.value as string);
  });
  return rows.map((row) => row.step);
}
