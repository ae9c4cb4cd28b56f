import { useEffect, useRef } from "preact/hooks";
import { FailureView } from "./failure";
import { count, formatMs } from "./format";
import { LogView } from "./logs";
import { type Attempt, durationOf, executorOf, type Model, type Node, type Output, PHASES, type Step } from "./model";
import { SIGNS } from "./states";
import { Metadata } from "./values";

const MOST_LINKS = 30;

interface PanelProps {
  model: Model;
  step: Step;
  openKey: (key: string) => void;
  close: () => void;
}

export function Panel({ model, step, openKey, close }: PanelProps) {
  const title = useRef<HTMLHeadingElement>(null);
  useEffect(() => title.current?.focus(), [step]);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => event.key === "Escape" && close();
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [close]);
  const { node } = step;
  return (
    <div class="panel" role="dialog" aria-labelledby="panel-title">
      <header>
        <h2 id="panel-title" tabIndex={-1} ref={title}>
          {step.key}
        </h2>
        <button type="button" class="close" aria-label="Close" onClick={close}>
          ✕
        </button>
        <p class="facts">
          <span class={`state ${step.state}`}>
            <i aria-hidden="true">{SIGNS[step.state]}</i> {step.state}
          </span>
          {durationOf(step) !== null && <span>{formatMs(durationOf(step)!)}</span>}
          {executorOf(step) && <span>{executorOf(step)}</span>}
          {step.isOnPath && <span class="onpath">on the critical path</span>}
        </p>
      </header>
      {node?.description && <p>{node.description}</p>}
      {step.cause && (
        <p>
          Did not run, as <KeyLink step={step.cause} model={model} openKey={openKey} /> did not succeed.
        </p>
      )}
      {step.message && !step.attempts.at(-1)?.failure && <p class="message">{step.message}</p>}
      <Attempts attempts={step.attempts} />
      <Outputs outputs={step.outputs} />
      <LogView logs={step.logs} total={step.logCount} hasAttempts={step.attempts.length > 1} />
      {node && <Neighbours model={model} step={step} node={node} openKey={openKey} />}
      {node && <Definition node={node} />}
    </div>
  );
}

function Attempts({ attempts }: { attempts: Attempt[] }) {
  if (!attempts.length) return null;
  return (
    <section>
      <h3>{count(attempts.length, "attempt")}</h3>
      {[...attempts].reverse().map((attempt, index) => {
        const before = attempts[attempts.length - 2 - index];
        const wait = before ? attempt.begin - before.end : 0;
        return (
          <div class="attempt" key={attempts.length - index}>
            <p class="facts">
              <b>Attempt {attempt.number}</b>
              <span>
                {attempt.isOpen
                  ? "not ended"
                  : attempt.failure
                    ? attempt.failure.reason.replaceAll("_", " ")
                    : "succeeded"}
              </span>
              {attempt.worker && (
                <span>
                  {attempt.executor}, {attempt.worker}
                </span>
              )}
              {attempt.isFree && <span>not counted by the retry policy</span>}
            </p>
            <Phases attempt={attempt} wait={wait} />
            {attempt.failure && <FailureView failure={attempt.failure} isOpen={index === 0} />}
          </div>
        );
      })}
    </section>
  );
}

const PHASE_WORDS: Record<string, string> = { rest: "hand over" };

function Phases({ attempt, wait }: { attempt: Attempt; wait: number }) {
  const parts = PHASES.map((phase, index) => [phase as string, attempt.phases[index]] as const).filter(
    ([, ms]) => ms > 0,
  );
  if (wait > 0.5) parts.unshift(["retry", wait] as const);
  const text = parts.map(([phase, ms]) => `${PHASE_WORDS[phase] ?? phase} ${formatMs(ms)}`);
  return (
    <>
      <div class="bar phases" role="img" aria-label={text.join(", ")}>
        {parts.map(([phase, ms]) => (
          <span key={phase} class={`p-${phase}`} style={{ flexGrow: ms }} />
        ))}
      </div>
      <p class="facts small">
        {parts.map(([phase], index) => (
          <span key={phase}>
            <i class={`dot p-${phase}`} aria-hidden="true" /> {text[index]}
          </span>
        ))}
      </p>
    </>
  );
}

function Outputs({ outputs }: { outputs: Output[] }) {
  if (!outputs.length) return null;
  return (
    <section>
      <h3>{count(outputs.length, "output")}</h3>
      {outputs.map((output) => (
        <div class="output" key={output.name}>
          <p class="facts">
            <b>{output.name}</b>
            <span>
              stored as <code>{output.key}</code>
            </span>
            {output.version && (
              <span>
                version <code>{output.version}</code>
              </span>
            )}
          </p>
          {output.mapKeys && (
            <p class="note">
              {count(output.mapKeys[0], "element")}: {output.mapKeys.slice(1).join(", ")}
              {output.mapKeys[0] > output.mapKeys.length - 1 && " …"}
            </p>
          )}
          {output.metadata && <Metadata text={output.metadata} />}
          {output.isCut && <p class="note">Its metadata is in the record only: this page is full.</p>}
        </div>
      ))}
    </section>
  );
}

interface NeighbourProps {
  model: Model;
  step: Step;
  node: Node;
  openKey: (key: string) => void;
}

function Neighbours({ model, step, node, openKey }: NeighbourProps) {
  // The same element of another mapped step is the neighbour of an instance.
  const key = (index: number) => {
    const one = model.nodes[index];
    const twin = step.mapKey === null ? "" : `${one.key}[${step.mapKey}]`;
    return model.byKey.has(twin) ? twin : one.key;
  };
  const list = (title: string, indices: number[]) =>
    indices.length > 0 && (
      <section>
        <h3>{title}</h3>
        <ul class="links">
          {indices.slice(0, MOST_LINKS).map((index) => (
            <li key={index}>
              <KeyLink step={key(index)} model={model} openKey={openKey} />
            </li>
          ))}
          {indices.length > MOST_LINKS && <li class="note">and {indices.length - MOST_LINKS} more</li>}
        </ul>
      </section>
    );
  return (
    <>
      {list("Inputs", node.deps)}
      {list("Used by", node.dependants)}
    </>
  );
}

function KeyLink({ step, model, openKey }: { step: string; model: Model; openKey: (key: string) => void }) {
  const found = model.byKey.get(step);
  if (!found) return <code>{step}</code>;
  return (
    <button type="button" class="link" onClick={() => openKey(step)}>
      <span class={`state ${found.state}`}>
        <i role="img" aria-label={found.state}>
          {SIGNS[found.state]}
        </i>
      </span>{" "}
      {step}
    </button>
  );
}

function Definition({ node }: { node: Node }) {
  const rows: [string, string][] = [
    ["Kind", node.kind],
    ["Group", node.group],
    ["Kinds", node.kinds.join(", ")],
    ["Tags", node.tags.join(", ")],
    ["Assets", node.assets.join(", ")],
    ["Steps inside", node.inner.join(", ")],
    ["Attempts at most", node.maxAttempts ? String(node.maxAttempts) : ""],
    ["Timeout", node.timeout ? formatMs(node.timeout * 1000) : ""],
    ["Defined in", node.location],
  ];
  return (
    <section>
      <h3>Definition</h3>
      <dl>
        {rows
          .filter(([, value]) => value)
          .map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{name === "Defined in" ? <code>{value}</code> : value}</dd>
            </div>
          ))}
      </dl>
    </section>
  );
}
