// The data of the page, decoded from its columns (rivers/_report/data.py) into objects.

export interface Failure {
  reason: string;
  type: string;
  message: number;
  notes?: string[];
  final?: boolean;
  frame?: string | null;
  traceback?: [text: number, isFolded: boolean, frames: number][];
  evidence?: Record<string, unknown>;
  evidenceText?: string;
  native?: number;
  texts: string[];
}

export type LogRow = [time: number, level: number | string, text: number, logger?: string, attempt?: number];

export interface Logs {
  first: LogRow[];
  last: LogRow[];
  texts: string[];
}

export interface Output {
  name: string;
  key: string;
  metadata: string | null;
  isCut: boolean;
  version: string | null;
  mapKeys: [number, ...string[]] | null;
}

export interface Node {
  index: number;
  key: string;
  executor: string;
  level: number;
  deps: number[];
  isMapped: boolean;
  kind: string;
  group: string;
  assets: string[];
  kinds: string[];
  tags: string[];
  description: string;
  location: string;
  inner: string[];
  maxAttempts: number | null;
  timeout: number | null;
  steps: Step[];
  dependants: number[];
}

export const PHASES = ["queued", "schedule", "pull", "boot", "load", "run", "store", "rest"] as const;

const ATTEMPTS = 1000; // as in rivers/_report/analysis.py
const RUN = PHASES.indexOf("run");

export interface Attempt {
  number: number;
  executor: string;
  worker: string;
  begin: number; // ms since the start of the run
  phases: number[]; // ms of each of PHASES, one after another
  end: number;
  isOpen: boolean;
  isFree: boolean;
  failure: Failure | null;
  step: Step;
}

export interface Step {
  index: number;
  key: string;
  node: Node | null;
  mapKey: string | null;
  state: string;
  cause: string | null;
  message: string;
  logCount: number;
  retryAt: number | null;
  attempts: Attempt[];
  outputs: Output[];
  logs: Logs | null;
  begin: number | null;
  end: number | null;
  isOnPath: boolean;
  search: string;
}

export interface Lane {
  executor: string;
  label: string;
  attempts: Attempt[];
}

export interface RunInfo {
  id: string;
  status: string;
  started: number | null;
  seconds: number;
  counts: Record<string, number>;
  total: number;
  warnings: [message: string, step: string | null][];
  warningCount: number;
  repository?: string;
  job?: string | null;
  selection?: string[] | null;
  tags?: Record<string, string>;
  executors?: [kind: string, text: string, slots: number | null][];
  versions?: Record<string, string>;
  host?: string;
  pid?: number;
  folder?: string;
  git?: [commit: string, branch: string | null, isDirty: boolean] | null;
  command?: string[];
  retryOf?: string | null;
  partition?: string | null;
}

type Interned = [values: string[], indices: number[]];
type Sparse<T> = Record<string, T>;

export interface StepData {
  steps: {
    index: number[];
    node: number[];
    state: number[];
    key: Sparse<string>;
    mapKey: Sparse<string>;
    cause: Sparse<string>;
    message: Sparse<string>;
    logCount: Sparse<number>;
    retryAt: Sparse<number>;
  };
  attempts: {
    step: number[];
    number: number[];
    executor: Interned;
    worker: Interned;
    begin: number[];
    phases: number[][];
    open: number[];
    free: number[];
    failure: Sparse<number>;
  };
  failures: Omit<Failure, "texts">[];
  outputs: {
    step: number[];
    name: Sparse<string>;
    key: Sparse<string>;
    metadata: Sparse<number>;
    version: Sparse<string>;
    mapKeys: Sparse<[number, ...string[]]>;
  };
  logs: Sparse<[LogRow[], LogRow[]]>;
  texts: string[];
  textsCut: number;
}

export interface Analysis {
  lanes: [executor: string, label: string, attempts: number[]][];
  path: number[];
  shortest: number;
  hints: [kind: string, text: string, step: string | null][];
}

export interface PageData extends StepData {
  format: number;
  states: string[];
  run: RunInfo;
  nodes: {
    key: string[];
    executor: number[];
    level: number[];
    deps: number[][];
    mapped: number[];
    kind: Interned;
    group: Interned;
    assets: Sparse<string[]>;
    kinds: Sparse<string[]>;
    tags: Sparse<string[]>;
    description: Sparse<string>;
    location: Sparse<string>;
    inner: Sparse<string[]>;
    maxAttempts: Sparse<number>;
    timeout: Sparse<number>;
  };
  analysis: Analysis;
}

export interface Update extends StepData {
  run: RunInfo;
  analysis?: Analysis;
}

export class Model {
  run: RunInfo;
  nodes: Node[] = [];
  steps: Step[] = [];
  byKey = new Map<string, Step>();
  lanes: Lane[] = [];
  path: Step[] = [];
  hints: Analysis["hints"] = [];
  shortest = 0;
  textsCut = 0;
  version = 0;
  private states: string[];
  private analysis: Analysis;

  constructor(data: PageData) {
    this.run = data.run;
    this.states = data.states;
    this.decodeNodes(data);
    this.decodeSteps(data);
    this.analysis = data.analysis;
    this.analyse(this.analysis);
  }

  /** Take in the rows of steps that have changed. */
  update(data: Update): void {
    this.run = data.run;
    this.decodeSteps(data);
    // Rows that came again are new objects: lanes and path are looked up again, too.
    this.analysis = data.analysis ?? this.analysis;
    this.analyse(this.analysis);
    this.extendOpen(data.run.seconds * 1000);
    this.version += 1;
  }

  /** Let the attempts that run last until now. */
  private extendOpen(now: number): void {
    for (const step of this.steps) {
      const attempt = step.attempts.at(-1);
      if (!attempt?.isOpen) continue;
      attempt.phases[RUN] += Math.max(0, now - attempt.end);
      attempt.end = step.end = Math.max(now, attempt.end);
    }
  }

  private decodeNodes({ nodes, run }: PageData): void {
    const mapped = new Set(nodes.mapped);
    const [kinds, kindOf] = nodes.kind;
    const [groups, groupOf] = nodes.group;
    this.nodes = nodes.key.map((key, index) => ({
      index,
      key,
      executor: run.executors?.[nodes.executor[index]]?.[0] ?? "",
      level: nodes.level[index],
      deps: nodes.deps[index],
      isMapped: mapped.has(index),
      kind: kinds[kindOf[index]],
      group: groups[groupOf[index]],
      assets: nodes.assets[index] ?? [],
      kinds: nodes.kinds[index] ?? [],
      tags: nodes.tags[index] ?? [],
      description: nodes.description[index] ?? "",
      location: nodes.location[index] ?? "",
      inner: nodes.inner[index] ?? [],
      maxAttempts: nodes.maxAttempts[index] ?? null,
      timeout: nodes.timeout[index] ?? null,
      steps: [],
      dependants: [],
    }));
    for (const node of this.nodes) for (const dep of node.deps) this.nodes[dep].dependants.push(node.index);
  }

  private decodeSteps(data: StepData): void {
    const { steps, attempts, outputs, texts } = data;
    this.textsCut += data.textsCut;
    steps.index.forEach((index, row) => this.decodeStep(data, index, row));
    const failures: Failure[] = data.failures.map((failure) => ({ ...failure, texts }));
    const open = new Set(attempts.open);
    const free = new Set(attempts.free);
    attempts.step.forEach((index, row) => {
      const step = this.steps[index];
      const begin = attempts.begin[row];
      const phases = attempts.phases[row];
      let end = begin;
      for (const phase of phases) end += phase;
      const failure = attempts.failure[row];
      step.attempts.push({
        number: attempts.number[row],
        executor: attempts.executor[0][attempts.executor[1][row]],
        worker: attempts.worker[0][attempts.worker[1][row]],
        begin,
        phases,
        end,
        isOpen: open.has(row),
        isFree: free.has(row),
        failure: failure === undefined ? null : failures[failure],
        step,
      });
      step.begin ??= begin;
      step.end = end;
    });
    outputs.step.forEach((index, row) => {
      const text = outputs.metadata[row];
      const step = this.steps[index];
      step.outputs.push({
        name: outputs.name[row] ?? "result",
        key: outputs.key[row] ?? step.key,
        metadata: text === undefined ? null : (texts[text] ?? null),
        isCut: text === -1,
        version: outputs.version[row] ?? null,
        mapKeys: outputs.mapKeys[row] ?? null,
      });
    });
  }

  private decodeStep({ steps, logs, texts }: StepData, index: number, row: number): void {
    const known = this.steps[index];
    const node = this.nodes[steps.node[row]] ?? null;
    const mapKey = steps.mapKey[row] ?? null;
    const key = steps.key[row] ?? (node ? node.key + (mapKey === null ? "" : `[${mapKey}]`) : "");
    const log = logs[index];
    const step: Step = Object.assign(known ?? { isOnPath: false }, {
      index,
      key,
      node,
      mapKey,
      state: this.states[steps.state[row]],
      cause: steps.cause[row] ?? null,
      message: steps.message[row] ?? "",
      logCount: steps.logCount[row] ?? 0,
      retryAt: steps.retryAt[row] ?? null,
      attempts: [],
      outputs: [],
      logs: log ? { first: log[0], last: log[1], texts } : null,
      begin: null,
      end: null,
      search: "",
    });
    if (!known) {
      this.steps[index] = step;
      this.byKey.set(key, step);
      node?.steps.push(step);
    }
  }

  private analyse(analysis: Analysis): void {
    for (const step of this.path) step.isOnPath = false;
    this.lanes = analysis.lanes.map(([executor, label, items]) => ({
      executor,
      label,
      attempts: items.flatMap((item) => this.steps[Math.floor(item / ATTEMPTS)]?.attempts[item % ATTEMPTS] ?? []),
    }));
    this.path = analysis.path.map((index) => this.steps[index]);
    for (const step of this.path) step.isOnPath = true;
    this.hints = analysis.hints;
    this.shortest = analysis.shortest;
  }
}

/** The text that a search looks into. */
export function searchText(step: Step): string {
  if (!step.search) {
    const { node } = step;
    const failure = lastFailure(step);
    const words = [
      step.key,
      step.state,
      node?.group,
      node?.kind,
      ...(node?.assets ?? []),
      ...(node?.tags ?? []),
      ...(node?.kinds ?? []),
      failure && `${failure.reason} ${failure.type} ${failure.texts[failure.message] ?? ""}`,
      step.attempts.at(-1)?.worker,
    ];
    step.search = words.filter(Boolean).join("\n").toLowerCase();
  }
  return step.search;
}

export function lastFailure(step: Step): Failure | null {
  for (let i = step.attempts.length - 1; i >= 0; i--) {
    const { failure } = step.attempts[i];
    if (failure) return failure;
  }
  return null;
}

export function executorOf(step: Step): string {
  return step.attempts.at(-1)?.executor || step.node?.executor || "";
}

/** The time when a step first took a worker, in ms since the start of the run; null if it never did. */
export function startOf(step: Step): number | null {
  const first = step.attempts[0];
  return first ? first.begin + first.phases[0] : null;
}

/** The ms from the begin of the first attempt in a worker to the end of the last. */
export function durationOf(step: Step): number | null {
  const first = step.attempts[0];
  if (!first || step.end === null) return null;
  return step.end - first.begin - first.phases[0];
}
