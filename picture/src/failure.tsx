import { count, formatBytes } from "./format";
import type { Failure } from "./model";

const REASONS: Record<string, string> = {
  error: "Error of the body",
  timeout: "Timeout",
  out_of_memory: "Out of memory",
  infrastructure: "Infrastructure",
  cancelled: "Cancelled",
};

const BYTES = new Set(["memory_peak", "memory_limit"]);

export function FailureView({ failure, isOpen }: { failure: Failure; isOpen: boolean }) {
  const text = (index: number) => failure.texts[index] ?? "(left out: this page is full; the record has it)";
  const evidence = Object.entries(failure.evidence ?? {});
  return (
    <details class="failure" open={isOpen}>
      <summary>
        {REASONS[failure.reason] ?? failure.reason}
        {failure.type && <b> {failure.type}</b>}
      </summary>
      <p class="message">{text(failure.message)}</p>
      {failure.notes?.map((note) => (
        <p class="note" key={note}>
          {note}
        </p>
      ))}
      {failure.frame && <p class="frame">{failure.frame}</p>}
      {failure.final && <p class="note">Another attempt cannot help.</p>}
      {failure.traceback && (
        <div class="traceback" tabIndex={0} role="region" aria-label="Traceback">
          {failure.traceback.map(([part, isFolded, frames], index) =>
            isFolded ? (
              <details key={index}>
                <summary>{count(frames, "frame")} of libraries</summary>
                <pre>{text(part)}</pre>
              </details>
            ) : (
              <pre key={index}>{text(part)}</pre>
            ),
          )}
        </div>
      )}
      {evidence.length > 0 && (
        <>
          <h4>Evidence</h4>
          <dl>
            {evidence.map(([name, value]) => (
              <div key={name}>
                <dt>{name.replaceAll("_", " ")}</dt>
                <dd>{BYTES.has(name) ? formatBytes(Number(value)) : String(value)}</dd>
              </div>
            ))}
          </dl>
        </>
      )}
      {failure.native !== undefined && (
        <details>
          <summary>Traceback of the interpreter</summary>
          <pre>{text(failure.native)}</pre>
        </details>
      )}
    </details>
  );
}
