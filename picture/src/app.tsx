import { useCallback, useEffect, useReducer, useRef, useState } from "preact/hooks";
import { GraphSection } from "./graph";
import { type Connection, follow } from "./live";
import type { Model, Node, Step } from "./model";
import { Panel } from "./panel";
import { STATUS_WORDS } from "./states";
import { Summary } from "./summary";
import { StepTable } from "./table";
import { Timeline } from "./timeline";
import { setTheme, storedTheme, type Theme } from "./theme";

export function App({ model, live }: { model: Model; live: string }) {
  const [connection, setConnection] = useState<Connection>("live");
  const [, redraw] = useReducer<number, void>((n) => n + 1, 0);
  const [step, setStep] = useState<Step | null>(() => stepOfAddress(model));
  const opener = useRef<Element | null>(null);

  const open = useCallback((chosen: Step) => {
    if (!document.activeElement?.closest(".panel")) opener.current = document.activeElement;
    setStep(chosen);
    history.replaceState(null, "", `#step=${encodeURIComponent(chosen.key)}`);
  }, []);
  const close = useCallback(() => {
    setStep(null);
    history.replaceState(null, "", "#steps");
    if (opener.current instanceof HTMLElement) opener.current.focus();
  }, []);
  const openKey = useCallback((key: string) => model.byKey.has(key) && open(model.byKey.get(key)!), [model, open]);

  const [asked, ask] = useState<Node | null>(null);
  const showNode = useCallback(
    (node: Node) => {
      if (node.steps.length === 1) open(node.steps[0]);
      else if (node.steps.length) {
        ask(node);
        document.getElementById("steps")?.scrollIntoView();
      }
    },
    [open],
  );

  useEffect(() => {
    if (!live) return;
    return follow(live, model, (now) => {
      setConnection(now);
      redraw();
    });
  }, [live, model]);

  const answer = useCallback(() => ask(null), []);

  useEffect(() => {
    const onHash = () =>
      setStep((shown) => stepOfAddress(model) ?? (location.hash.startsWith("#step=") ? shown : null));
    addEventListener("hashchange", onHash);
    return () => removeEventListener("hashchange", onHash);
  }, [model]);

  const shown = { model, selected: step, open, openKey, showNode };
  return (
    <>
      <a class="skip" href="#steps">
        Skip to the steps
      </a>
      <Header model={model} connection={live ? connection : null} />
      <main>
        <Summary {...shown} />
        <GraphSection {...shown} />
        <Timeline {...shown} />
        <StepTable {...shown} asked={asked} answer={answer} />
      </main>
      {step && <Panel model={model} step={step} openKey={openKey} close={close} />}
    </>
  );
}

export interface Shown {
  model: Model;
  selected: Step | null;
  open: (step: Step) => void;
  openKey: (key: string) => void;
  showNode: (node: Node) => void;
}

function stepOfAddress(model: Model): Step | null {
  const found = /^#step=(.*)$/.exec(location.hash);
  if (!found) return null;
  try {
    return model.byKey.get(decodeURIComponent(found[1])) ?? null;
  } catch {
    return null; // not an address that this page has made
  }
}

const CONNECTION_WORDS: Record<Connection, string> = {
  live: "Live",
  lost: "Connection lost",
  ended: "No longer updated",
};

function Header({ model, connection }: { model: Model; connection: Connection | null }) {
  const { run } = model;
  const [word, state] = STATUS_WORDS[run.status] ?? [run.status, "waiting"];
  const name = run.job || run.repository || "Run";
  return (
    <header class="top">
      <div class="title">
        <span class={`badge ${state}`}>{word}</span>
        <h1 title={run.repository}>{name}</h1>
        <code class="id" title={`run ${run.id}`}>
          {run.id.slice(0, 8)}
        </code>
        {connection && (
          <span class={`connection ${connection}`} role="status">
            {CONNECTION_WORDS[connection]}
          </span>
        )}
      </div>
      <nav aria-label="Parts of this page">
        <a href="#summary">Summary</a>
        {model.nodes.length > 0 && <a href="#graph">Graph</a>}
        <a href="#timeline">Timeline</a>
        <a href="#steps">Steps</a>
      </nav>
      <ThemeSwitch />
    </header>
  );
}

function ThemeSwitch() {
  const [theme, choose] = useState<Theme>(storedTheme);
  return (
    <label class="theme">
      <span class="hidden">Colours</span>
      <select
        value={theme}
        onChange={(event) => {
          const chosen = event.currentTarget.value as Theme;
          setTheme(chosen);
          choose(chosen);
          dispatchEvent(new Event("rivers-theme"));
        }}
      >
        <option value="auto">Auto</option>
        <option value="light">Light</option>
        <option value="dark">Dark</option>
      </select>
    </label>
  );
}
