import type { Shown } from "./app";
import { count, formatMoment, formatMs } from "./format";
import { lastFailure, type RunInfo, type Step } from "./model";
import { useIsPrinting } from "./printing";
import { SIGNS, STATES } from "./states";

const MOST_FAILURES = 5;

export function Summary({ model, open, openKey }: Shown) {
  const { run } = model;
  return (
    <section id="summary" aria-labelledby="summary-title">
      <h2 id="summary-title" class="hidden">
        Summary
      </h2>
      <Counts run={run} />
      <div class="cards">
        <Failures failed={model.steps.filter((step) => step.state === "failed")} open={open} />
        {model.hints.length > 0 && (
          <div class="card hints-card">
            <h3>What would shorten the run</h3>
            <ul class="hints">
              {model.hints.map(([kind, text, key]) => (
                <li key={text} class={kind}>
                  {text}{" "}
                  {key && (
                    <button type="button" class="link" onClick={() => openKey(key)}>
                      Show the step
                    </button>
                  )}
                </li>
              ))}
            </ul>
          </div>
        )}
        {run.warningCount > 0 && <Warnings run={run} openKey={openKey} />}
        <Facts run={run} />
      </div>
    </section>
  );
}

function Counts({ run }: { run: RunInfo }) {
  const states = STATES.filter((state) => run.counts[state]);
  const total = states.reduce((sum, state) => sum + run.counts[state], 0);
  const words = states.map((state) => `${run.counts[state]} ${state}`).join(", ");
  return (
    <div class="counts">
      <p class="numbers">
        <span>
          <b>{formatMs(run.seconds * 1000)}</b> {run.status === "running" ? "so far" : "in all"}
        </span>
        <span>
          <b>{total.toLocaleString("en")}</b> {total === 1 ? "step" : "steps"}
        </span>
        {states.map((state) => (
          <span key={state} class={`state ${state}`}>
            <i aria-hidden="true">{SIGNS[state]}</i> <b>{run.counts[state].toLocaleString("en")}</b> {state}
          </span>
        ))}
      </p>
      <div class="bar" role="img" aria-label={words || "no steps"}>
        {[...states].reverse().map((state) => (
          <span key={state} class={state} style={{ flexGrow: run.counts[state] }} />
        ))}
      </div>
    </div>
  );
}

function Facts({ run }: { run: RunInfo }) {
  const rows: [string, preact.ComponentChildren][] = [];
  const add = (name: string, value: preact.ComponentChildren) => value && rows.push([name, value]);
  add(
    "Started",
    run.started && <time dateTime={new Date(run.started * 1000).toISOString()}>{formatMoment(run.started)}</time>,
  );
  add("Repository", run.repository);
  add("Job", run.job);
  add("Partition", run.partition);
  add("Selection", run.selection ? <List items={run.selection} /> : "all assets");
  add("Executors", run.executors?.length ? run.executors.map(([, text]) => <code key={text}>{text}</code>) : "");
  add("Command", run.command?.length ? <code>{run.command.join(" ")}</code> : "");
  add("Git commit", run.git && <Commit git={run.git} />);
  add("Machine", run.host && `${run.host}${run.pid ? `, pid ${run.pid}` : ""}`);
  add("Folder", run.folder && <code>{run.folder}</code>);
  add(
    "Tags",
    Object.keys(run.tags ?? {}).length ? <List items={Object.entries(run.tags!).map((pair) => pair.join("="))} /> : "",
  );
  add(
    "Versions",
    Object.entries(run.versions ?? {})
      .map((pair) => pair.join(" "))
      .join(", "),
  );
  add("Retry of", run.retryOf && <code>{run.retryOf}</code>);
  add("Run id", <code>{run.id}</code>);
  const short = [
    run.started && formatMoment(run.started),
    run.repository,
    run.git && `commit ${run.git[0].slice(0, 10)}`,
    run.executors?.map(([kind]) => kind).join(", "),
  ];
  return (
    <details class="card wide facts-of-run" open={useIsPrinting()}>
      <summary>
        <h3>Run</h3>
        {short.map((one) => one && <span key={one}>{one}</span>)}
      </summary>
      <dl>
        {rows.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </details>
  );
}

function Commit({ git: [commit, branch, isDirty] }: { git: [string, string | null, boolean] }) {
  return (
    <>
      <code title={commit}>{commit.slice(0, 10)}</code>
      {branch && ` on ${branch}`}
      {isDirty && ", with changes that are not committed"}
    </>
  );
}

function List({ items }: { items: string[] }) {
  const shown = items.slice(0, 12);
  return (
    <span class="tags">
      {shown.map((item) => (
        <span key={item}>{item}</span>
      ))}
      {items.length > shown.length && <em>and {items.length - shown.length} more</em>}
    </span>
  );
}

function Failures({ failed, open }: { failed: Step[]; open: (step: Step) => void }) {
  if (!failed.length) return null;
  return (
    <div class="card">
      <h3>{count(failed.length, "failed step")}</h3>
      <ul class="failures">
        {failed.slice(0, MOST_FAILURES).map((step) => {
          const failure = lastFailure(step);
          return (
            <li key={step.key}>
              <button type="button" class="link" onClick={() => open(step)}>
                {step.key}
              </button>
              <p class="message">
                {failure?.type && <b>{failure.type}: </b>}
                {failure ? failure.texts[failure.message] : step.message}
              </p>
              {failure?.frame && <p class="frame">{failure.frame}</p>}
            </li>
          );
        })}
      </ul>
      {failed.length > MOST_FAILURES && <p class="note">The others are in the table, sorted first.</p>}
    </div>
  );
}

function Warnings({ run, openKey }: { run: RunInfo; openKey: (key: string) => void }) {
  const shown = run.warnings.slice(-20);
  return (
    <details class="card wide">
      <summary>
        <h3>{count(run.warningCount, "warning")}</h3>
      </summary>
      <ul class="warnings">
        {shown.map(([message, step], index) => (
          <li key={index}>
            {step && (
              <button type="button" class="link" onClick={() => openKey(step)}>
                {step}
              </button>
            )}{" "}
            {message}
          </li>
        ))}
      </ul>
      {run.warningCount > shown.length && <p class="note">The last {shown.length} are shown.</p>}
    </details>
  );
}
