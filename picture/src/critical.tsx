import { useState } from "preact/hooks";
import type { Shown } from "./app";
import { count, formatMs } from "./format";
import { PHASES, type Step } from "./model";

const FIRST = 8;

/** The steps of the critical path, each with its share of the run. */
export function CriticalPath({ model, open }: Shown) {
  const [isWhole, showWhole] = useState(false);
  const { path, run } = model;
  if (path.length < 2) return null;
  const whole = Math.max(1, run.seconds * 1000);
  const longest = [...path].sort((a, b) => lengthOf(b) - lengthOf(a)).slice(0, FIRST);
  const shown = isWhole || path.length <= FIRST ? path : path.filter((one) => longest.includes(one));
  return (
    <div class="card critical">
      <h3>Critical path: {count(path.length, "step")}</h3>
      <p class="note">
        Each step was ready when the one before it had ended; the last one ended the run.{" "}
        {model.shortest > 0 &&
          model.shortest < 0.95 * run.seconds &&
          `With a worker for each step at once, the run takes at least ${formatMs(model.shortest * 1000)}.`}
      </p>
      <ol>
        {shown.map((step) => (
          <li key={step.index}>
            <button type="button" class="link" onClick={() => open(step)}>
              {step.key}
            </button>
            <Share step={step} whole={whole} />
            <span>{formatMs(lengthOf(step))}</span>
          </li>
        ))}
      </ol>
      {shown.length < path.length && (
        <button type="button" class="link" onClick={() => showWhole(true)}>
          Show all {path.length} steps
        </button>
      )}
    </div>
  );
}

function lengthOf(step: Step): number {
  return (step.end ?? 0) - (step.begin ?? 0);
}

/** A bar at the step's place in the run. */
function Share({ step, whole }: { step: Step; whole: number }) {
  const parts: { name: string; ms: number }[] = [];
  let at = 0;
  for (const attempt of step.attempts) {
    parts.push({ name: at ? "retry" : "before", ms: attempt.begin - at });
    attempt.phases.forEach((ms, index) => ms > 0 && parts.push({ name: PHASES[index], ms }));
    at = attempt.end;
  }
  parts.push({ name: "before", ms: Math.max(0, whole - at) });
  return (
    <div class="bar" aria-hidden="true">
      {parts.map(({ name, ms }, index) => (
        <span key={index} class={name === "before" ? "" : `p-${name}`} style={{ flexGrow: ms / whole, minWidth: 0 }} />
      ))}
    </div>
  );
}
