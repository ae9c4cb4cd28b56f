import { scaleLinear } from "d3-scale";
import { select } from "d3-selection";
import { zoom, zoomIdentity, type ZoomBehavior, type ZoomTransform } from "d3-zoom";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Shown } from "./app";
import { CriticalPath } from "./critical";
import { formatMs } from "./format";
import { type Attempt, PHASES } from "./model";
import { useRedraw } from "./redraw";
import { drawTimeline, HEAD, RIGHT, ROW } from "./timeline_draw";
import { type Grouping, rowsOf } from "./timeline_rows";
import { ZoomButtons } from "./zoom";

const MOST_HEIGHT = 460;
const LEGEND: [phase: string, words: string][] = [
  ["queued", "queued"],
  ["schedule", "schedule"],
  ["pull", "pull image"],
  ["boot", "boot"],
  ["load", "load inputs"],
  ["run", "run"],
  ["store", "store outputs"],
  ["rest", "hand over"],
  ["retry", "wait for a retry"],
];

export function Timeline(shown: Shown) {
  const { model } = shown;
  const [grouping, setGrouping] = useState<Grouping>("worker");
  const [marksPath, setMarksPath] = useState(true);
  return (
    <section id="timeline" aria-labelledby="timeline-title">
      <h2 id="timeline-title">Timeline</h2>
      {model.lanes.length === 0 ? (
        <p class="note">No step has begun.</p>
      ) : (
        <>
          <Chart
            {...shown}
            grouping={grouping}
            setGrouping={setGrouping}
            marksPath={marksPath}
            setMarksPath={setMarksPath}
          />
          <CriticalPath {...shown} />
        </>
      )}
    </section>
  );
}

interface ToolsProps {
  grouping: Grouping;
  setGrouping: (grouping: Grouping) => void;
  marksPath: boolean;
  setMarksPath: (marksPath: boolean) => void;
}

interface Place {
  x: number;
  y: number;
  attempt: Attempt;
}

function Chart({ model, open, ...tools }: Shown & ToolsProps) {
  const { grouping, marksPath } = tools;
  const scroller = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const behaviour = useRef<ZoomBehavior<HTMLDivElement, unknown> | null>(null);
  const transform = useRef<ZoomTransform>(zoomIdentity);
  const [width, setWidth] = useState(0);
  const [tip, setTip] = useState<Place | null>(null);
  const [chosen, setChosen] = useState<{ row: number; place: number } | null>(null);
  const latest = useRef(chosen); // also before it is drawn: keys may come faster than frames
  latest.current = chosen;
  const rows = useMemo(() => rowsOf(model, grouping), [model, model.version, grouping]);
  const all = useMemo(() => model.lanes.flatMap((lane) => lane.attempts), [model, model.version]);
  const phases = useMemo(() => phasesOf(all), [all]);
  const gutter = Math.min(220, Math.round(width * 0.28));
  const height = Math.min(MOST_HEIGHT, HEAD + rows.length * ROW + 6);
  const chosenAttempt = chosen ? (rows[chosen.row]?.attempts[chosen.place] ?? null) : null;

  const scale = useCallback(() => {
    const whole = scaleLinear()
      .domain([0, Math.max(1, model.run.seconds * 1000)])
      .range([gutter, Math.max(gutter + 1, width - RIGHT)]);
    return transform.current.rescaleX(whole);
  }, [model, model.version, gutter, width]);

  const draw = useCallback(() => {
    if (!canvas.current || !scroller.current || !width) return;
    const top = scroller.current.scrollTop;
    const chosen = chosenAttempt;
    const showsWaits = grouping === "step";
    drawTimeline(canvas.current, { rows, all, x: scale(), width, height, gutter, top, marksPath, showsWaits, chosen });
  }, [rows, all, scale, width, height, gutter, grouping, marksPath, chosenAttempt]);

  useLayoutEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry.contentRect.width)));
    observer.observe(scroller.current!);
    return () => observer.disconnect();
  }, []);
  useLayoutEffect(draw, [draw]);
  useRedraw(draw);

  useEffect(() => {
    if (!width) return;
    const extent: [[number, number], [number, number]] = [
      [gutter, 0],
      [Math.max(gutter + 1, width - RIGHT), height],
    ];
    behaviour.current = zoom<HTMLDivElement, unknown>()
      .scaleExtent([1, 5000])
      .extent(extent)
      .translateExtent(extent)
      // The wheel alone scrolls the page and the rows.
      .filter((event) => (event.type === "wheel" ? event.ctrlKey || event.metaKey : !event.button))
      .on("zoom", (event) => {
        transform.current = event.transform;
        setTip(null);
        draw();
      });
    const target = select(scroller.current!);
    target.call(behaviour.current).on("dblclick.zoom", null);
    return () => {
      target.on(".zoom", null);
    };
  }, [width, gutter, height, draw]);

  const zoomBy = (factor: number) => behaviour.current?.scaleBy(select(scroller.current!), factor);
  const reset = () => behaviour.current?.transform(select(scroller.current!), zoomIdentity);

  const find = (event: MouseEvent): Place | null => {
    const box = scroller.current!.getBoundingClientRect();
    const x = event.clientX - box.left;
    const y = event.clientY - box.top;
    const row = rows[Math.floor((y - HEAD + scroller.current!.scrollTop) / ROW)];
    if (!row || y < HEAD || x < gutter) return null;
    const attempt = nearest(
      row.attempts,
      scale().invert(x),
      3 / transform.current.k / ((width - gutter) / (model.run.seconds * 1000 || 1)),
    );
    return attempt && { x, y, attempt };
  };

  const choose = (row: number, place: number) => {
    const at = Math.max(0, Math.min(rows.length - 1, row));
    const most = rows[at].attempts.length - 1;
    const next = { row: at, place: Math.max(0, Math.min(most, place)) };
    latest.current = next;
    setChosen(next);
    const box = scroller.current!;
    const y = at * ROW;
    if (y < box.scrollTop) box.scrollTop = y;
    else if (y + ROW > box.scrollTop + height - HEAD) box.scrollTop = y + ROW - height + HEAD;
    const attempt = rows[at].attempts[next.place];
    const [from, to] = scale().domain();
    if (attempt && (attempt.end < from || attempt.begin > to)) {
      behaviour.current?.translateTo(select(box), fullScale(model.run.seconds, gutter, width)(attempt.begin), 0);
    }
  };

  const onKeyDown = (event: KeyboardEvent) => {
    const { row, place } = latest.current ?? { row: 0, place: -1 };
    const chosenAttempt = latest.current && rows[row]?.attempts[place];
    if (event.key === "ArrowDown") choose(latest.current ? row + 1 : 0, Math.max(0, place));
    else if (event.key === "ArrowUp") choose(row - 1, Math.max(0, place));
    else if (event.key === "ArrowRight") choose(row, place + 1);
    else if (event.key === "ArrowLeft") choose(row, place - 1);
    else if (event.key === "Enter" && chosenAttempt) open(chosenAttempt.step);
    else if (event.key === "+" || event.key === "=") zoomBy(1.6);
    else if (event.key === "-") zoomBy(1 / 1.6);
    else if (event.key === "0") reset();
    else return;
    event.preventDefault();
  };

  return (
    <>
      <Tools {...tools} phases={phases} by={zoomBy} whole={reset} />
      <div class="chart">
        <div
          class="scroller"
          ref={scroller}
          style={{ height: `${height}px` }}
          tabIndex={0}
          role="group"
          aria-label={`Timeline of ${all.length} attempts. Arrow keys choose an attempt, Enter opens its step, plus and minus zoom.`}
          onScroll={draw}
          onKeyDown={onKeyDown}
          onMouseMove={(event) => setTip(find(event))}
          onMouseLeave={() => setTip(null)}
          onClick={(event) => {
            const found = find(event);
            if (found) open(found.attempt.step);
          }}
        >
          <div style={{ height: `${HEAD + rows.length * ROW + 6}px` }}>
            <canvas ref={canvas} aria-hidden="true" />
          </div>
        </div>
        <p class="hidden" role="status">
          {chosenAttempt && describe(chosenAttempt)}
        </p>
        {tip && <Tip place={tip} width={width} height={height} />}
      </div>
    </>
  );
}

/** The phases that occur, for the legend. */
function phasesOf(attempts: Attempt[]): Set<string> {
  const found = new Set<string>();
  for (const attempt of attempts) {
    attempt.phases.forEach((ms, index) => ms > 0 && found.add(PHASES[index]));
    if (attempt.number > 1) found.add("retry");
  }
  return found;
}

type AllToolsProps = ToolsProps & { phases: Set<string>; by: (factor: number) => void; whole: () => void };

function Tools({ phases, grouping, setGrouping, marksPath, setMarksPath, by, whole }: AllToolsProps) {
  return (
    <div class="tools">
      <div class="buttons" role="group" aria-label="Rows of the timeline">
        <button type="button" aria-pressed={grouping === "worker"} onClick={() => setGrouping("worker")}>
          By worker
        </button>
        <button type="button" aria-pressed={grouping === "step"} onClick={() => setGrouping("step")}>
          By step
        </button>
      </div>
      <button type="button" class="chip" aria-pressed={marksPath} onClick={() => setMarksPath(!marksPath)}>
        critical path
      </button>
      <ZoomButtons of="timeline" by={by} whole={whole} />
      <p class="legend">
        {LEGEND.filter(([phase]) => phases.has(phase)).map(([phase, words]) => (
          <span key={phase}>
            <i class={`dot p-${phase}`} aria-hidden="true" /> {words}
          </span>
        ))}
      </p>
    </div>
  );
}

function fullScale(seconds: number, gutter: number, width: number) {
  return scaleLinear()
    .domain([0, Math.max(1, seconds * 1000)])
    .range([gutter, Math.max(gutter + 1, width - RIGHT)]);
}

/** The attempt at a time, or the nearest one within `slack` ms. */
function nearest(attempts: Attempt[], ms: number, slack: number): Attempt | null {
  let found: Attempt | null = null;
  let least = slack;
  for (const attempt of attempts) {
    const distance = Math.max(attempt.begin - ms, ms - attempt.end, 0);
    if (distance <= least && (found === null || distance < least || attempt.begin + attempt.phases[0] <= ms)) {
      found = attempt;
      least = distance;
    }
  }
  return found;
}

function describe(attempt: Attempt): string {
  const phases = PHASES.map((phase, index) => [phase, attempt.phases[index]] as const).filter(([, ms]) => ms > 0);
  const words = phases.map(([phase, ms]) => `${phase === "rest" ? "hand over" : phase} ${formatMs(ms)}`);
  const number = attempt.step.attempts.length > 1 ? `, attempt ${attempt.number}` : "";
  return `${attempt.step.key}${number}: ${attempt.failure ? "failed, " : ""}${words.join(", ")}`;
}

function Tip({ place, width, height }: { place: Place; width: number; height: number }) {
  const { attempt, x, y } = place;
  const style =
    (x > width / 2 ? `right: ${width - x + 12}px;` : `left: ${x + 12}px;`) +
    (y > height / 2 ? `bottom: ${height - y + 12}px` : `top: ${y + 12}px`);
  const [name, ...rest] = describe(attempt).split(": ");
  return (
    <div class="tip" style={style}>
      <b>{name}</b>
      <p>
        +{formatMs(attempt.begin)} · {attempt.worker || attempt.executor}
      </p>
      <p>{rest.join(": ")}</p>
    </div>
  );
}
