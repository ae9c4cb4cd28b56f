import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Shown } from "./app";
import {
  type Column,
  type Filter,
  filterSteps,
  isFiltered,
  NO_FILTER,
  type Order,
  sortSteps,
  waitedOf,
} from "./filter";
import { formatMs } from "./format";
import { durationOf, executorOf, type Model, type Node, searchText, startOf, type Step } from "./model";
import { useIsPrinting } from "./printing";
import { SIGNS, STATES } from "./states";
import { useVirtualList } from "./virtual";

const ROW = 34; // px, as in page.css
const MOST_PRINTED = 400;

const COLUMNS: { column: Column; title: string; isNumber?: boolean }[] = [
  { column: "state", title: "State" },
  { column: "key", title: "Step" },
  { column: "group", title: "Group" },
  { column: "executor", title: "Executor" },
  { column: "attempts", title: "Attempts", isNumber: true },
  { column: "started", title: "Start", isNumber: true },
  { column: "waited", title: "Waited", isNumber: true },
  { column: "duration", title: "Duration", isNumber: true },
];

interface TableProps extends Shown {
  asked: Node | null; // whose instances are to be shown
  answer: () => void;
}

export function StepTable({ model, selected, open, asked, answer }: TableProps) {
  // Not in the whole page's state: a key in the search box redraws the table alone.
  const [filter, setFilter] = useState<Filter>(NO_FILTER);
  const [order, setOrder] = useState<Order>({ column: "state", isDescending: false });
  const rows = useMemo(() => sortSteps(filterSteps(model.steps, filter), order), [model, model.version, filter, order]);
  useEffect(() => {
    if (!asked) return;
    setFilter({ ...NO_FILTER, node: asked });
    answer();
  }, [asked, answer]);
  useEffect(() => {
    // The texts that are searched, before the first search needs them.
    const timer = setTimeout(() => model.steps.forEach(searchText), 300);
    return () => clearTimeout(timer);
  }, [model, model.version]);
  return (
    <section id="steps" aria-labelledby="steps-title">
      <h2 id="steps-title">Steps</h2>
      <Filters model={model} filter={filter} setFilter={setFilter} shown={rows.length} />
      <Grid rows={rows} order={order} setOrder={setOrder} selected={selected} open={open} />
    </section>
  );
}

interface FilterProps {
  model: Model;
  filter: Filter;
  setFilter: (filter: Filter) => void;
  shown: number;
}

function Filters({ model, filter, setFilter, shown }: FilterProps) {
  const box = useRef<HTMLInputElement>(null);
  const groups = useMemo(() => distinct(model.nodes.map((node) => node.group)), [model]);
  const executors = useMemo(() => distinct(model.steps.map(executorOf)), [model, model.version]);
  const set = (part: Partial<Filter>) => setFilter({ ...filter, ...part });

  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const isTyping = event.target instanceof HTMLElement && event.target.matches("input, select, textarea");
      if (event.key !== "/" || event.ctrlKey || event.metaKey || isTyping) return;
      event.preventDefault();
      box.current?.focus();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);

  const toggle = (state: string) => {
    const states = new Set(filter.states);
    if (!states.delete(state)) states.add(state);
    set({ states });
  };
  return (
    <div class="filters" role="search" aria-label="Filter the steps">
      <input
        ref={box}
        type="search"
        placeholder="Search names, tags, errors …  ( / )"
        aria-label="Search steps"
        value={filter.text}
        onInput={(event) => set({ text: event.currentTarget.value })}
      />
      <div class="chips" role="group" aria-label="States">
        {STATES.filter((state) => model.run.counts[state]).map((state) => (
          <button
            key={state}
            type="button"
            class={`chip ${state}`}
            aria-pressed={filter.states.has(state)}
            onClick={() => toggle(state)}
          >
            <i aria-hidden="true">{SIGNS[state]}</i> {state} <b>{model.run.counts[state].toLocaleString("en")}</b>
          </button>
        ))}
        <Check label="retried" isOn={filter.onlyRetried} change={(onlyRetried) => set({ onlyRetried })} />
        {filter.node && <Check label={`instances of ${filter.node.key}`} isOn change={() => set({ node: null })} />}
        <Check label="critical path" isOn={filter.onlyPath} change={(onlyPath) => set({ onlyPath })} />
      </div>
      <Choice label="Executor" values={executors} value={filter.executor} change={(executor) => set({ executor })} />
      <Choice label="Group" values={groups} value={filter.group} change={(group) => set({ group })} />
      <p class="shown" role="status">
        {shown.toLocaleString("en")} of {model.steps.length.toLocaleString("en")} steps
      </p>
      {isFiltered(filter) && (
        <button type="button" class="link" onClick={() => setFilter(NO_FILTER)}>
          Clear
        </button>
      )}
    </div>
  );
}

function Check({ label, isOn, change }: { label: string; isOn: boolean; change: (isOn: boolean) => void }) {
  return (
    <button type="button" class="chip" aria-pressed={isOn} onClick={() => change(!isOn)}>
      {label}
    </button>
  );
}

interface ChoiceProps {
  label: string;
  values: string[];
  value: string;
  change: (value: string) => void;
}

function Choice({ label, values, value, change }: ChoiceProps) {
  if (values.length < 2) return null;
  return (
    <label class="choice">
      {label}
      <select value={value} onChange={(event) => change(event.currentTarget.value)}>
        <option value="">all</option>
        {values.map((one) => (
          <option key={one} value={one}>
            {one}
          </option>
        ))}
      </select>
    </label>
  );
}

function distinct(values: string[]): string[] {
  return [...new Set(values)].filter(Boolean).sort();
}

interface GridProps {
  rows: Step[];
  order: Order;
  setOrder: (order: Order) => void;
  selected: Step | null;
  open: (step: Step) => void;
}

function Grid({ rows, order, setOrder, selected, open }: GridProps) {
  const box = useRef<HTMLDivElement>(null);
  const [active, setActive] = useState(0);
  const focusNext = useRef(false);
  const isPrinting = useIsPrinting();
  const list = useVirtualList(box, rows.length, ROW);
  // The latest row also before it is drawn: keys may come faster than frames.
  const latest = useRef(0);
  const current = Math.min(active, Math.max(0, rows.length - 1));
  latest.current = current;

  useEffect(() => {
    // A key that came since has chosen another row, whose own drawing follows.
    if (!focusNext.current || latest.current !== current) return;
    const row = box.current?.querySelector<HTMLElement>(`[data-row="${current}"]`);
    if (!row) return; // it is drawn after the list has scrolled
    focusNext.current = false;
    row.focus({ preventScroll: true });
  });

  const onKeyDown = (event: KeyboardEvent) => {
    const page = Math.max(1, Math.floor((box.current?.clientHeight ?? 0) / ROW) - 2);
    const steps: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page };
    const current = latest.current;
    let next = current + (steps[event.key] ?? 0);
    if (event.key === "Home") next = 0;
    else if (event.key === "End") next = rows.length - 1;
    else if (event.key === "Enter" || event.key === " ") rows[current] && open(rows[current]);
    else if (!(event.key in steps)) return;
    event.preventDefault();
    next = Math.max(0, Math.min(rows.length - 1, next));
    if (next === current) return;
    latest.current = next;
    setActive(next);
    focusNext.current = true;
    list.show(next);
  };

  const items = isPrinting
    ? rows.slice(0, MOST_PRINTED).map((_, index) => ({ index, start: index * ROW }))
    : list.items;
  // One row can be reached with Tab, also while the active one is scrolled out of view.
  const isDrawn = items.some((item) => item.index === current);
  return (
    <>
      <div class="grid" role="grid" aria-label="Steps" aria-rowcount={rows.length + 1} aria-colcount={COLUMNS.length}>
        <div role="rowgroup">
          <div class="row head" role="row" aria-rowindex={1}>
            {COLUMNS.map((one) => (
              <Heading key={one.column} {...one} order={order} setOrder={setOrder} />
            ))}
          </div>
        </div>
        <div class="body" role="rowgroup" ref={box} onKeyDown={onKeyDown}>
          <div
            role="presentation"
            style={{ height: `${isPrinting ? items.length * ROW : Math.max(list.size, ROW)}px`, position: "relative" }}
          >
            {items.map(({ index, start }, place) => {
              const step = rows[index];
              return (
                step && (
                  <Row
                    key={step.index}
                    step={step}
                    row={index}
                    top={start}
                    isSelected={step === selected}
                    isTabStop={isDrawn ? index === current : place === 0}
                    open={() => {
                      setActive(index);
                      open(step);
                    }}
                  />
                )
              );
            })}
          </div>
        </div>
      </div>
      {!rows.length && <p class="note">No step matches.</p>}
      {isPrinting && rows.length > MOST_PRINTED && (
        <p class="note">
          The first {MOST_PRINTED} of {rows.length} steps.
        </p>
      )}
    </>
  );
}

interface HeadingProps {
  column: Column;
  title: string;
  isNumber?: boolean;
  order: Order;
  setOrder: (order: Order) => void;
}

function Heading({ column, title, isNumber, order, setOrder }: HeadingProps) {
  const isSorted = order.column === column;
  const direction = order.isDescending ? "descending" : "ascending";
  // The largest first is what a reader wants of a number.
  const next = isSorted ? !order.isDescending : Boolean(isNumber) && column !== "started";
  return (
    <div role="columnheader" class={`c-${column}`} aria-sort={isSorted ? direction : "none"}>
      <button type="button" onClick={() => setOrder({ column, isDescending: next })}>
        {title}
        <span aria-hidden="true">{isSorted ? (order.isDescending ? " ↓" : " ↑") : ""}</span>
      </button>
    </div>
  );
}

interface RowProps {
  step: Step;
  row: number;
  top: number;
  isSelected: boolean;
  isTabStop: boolean;
  open: () => void;
}

function Row({ step, row, top, isSelected, isTabStop, open }: RowProps) {
  const duration = durationOf(step);
  const started = startOf(step);
  const waited = waitedOf(step);
  return (
    <div
      role="row"
      class={`row${isSelected ? " selected" : ""}`}
      aria-rowindex={row + 2}
      aria-selected={isSelected}
      data-row={row}
      tabIndex={isTabStop ? 0 : -1}
      style={{ transform: `translateY(${top}px)` }}
      onClick={open}
    >
      <div role="gridcell" class={`c-state state ${step.state}`}>
        <i aria-hidden="true">{SIGNS[step.state]}</i> {step.state}
      </div>
      <div role="gridcell" class="c-key" title={step.key}>
        {step.key}
        {step.isOnPath && (
          <span class="path" title="on the critical path" aria-label="on the critical path" role="img" />
        )}
      </div>
      <div role="gridcell" class="c-group">
        {step.node?.group}
      </div>
      <div role="gridcell" class="c-executor">
        {executorOf(step)}
      </div>
      <div role="gridcell" class="c-attempts">
        {step.attempts.length || ""}
      </div>
      <div role="gridcell" class="c-started">
        {started === null ? "" : `+${formatMs(started)}`}
      </div>
      <div role="gridcell" class="c-waited">
        {waited === null ? "" : formatMs(waited)}
      </div>
      <div role="gridcell" class="c-duration">
        {duration === null ? "" : formatMs(duration)}
      </div>
    </div>
  );
}
