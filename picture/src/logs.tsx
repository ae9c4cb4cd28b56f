import { formatMs, formatNumber } from "./format";
import type { LogRow, Logs } from "./model";

const LEVELS: [level: number, name: string][] = [
  [50, "critical"],
  [40, "error"],
  [30, "warning"],
  [20, "info"],
  [0, "debug"],
];

export function LogView({ logs, total, hasAttempts }: { logs: Logs | null; total: number; hasAttempts: boolean }) {
  if (!total) return null;
  const shown = (logs?.first.length ?? 0) + (logs?.last.length ?? 0);
  return (
    <section>
      <h3>Log</h3>
      {shown < total && (
        <p class="note">
          {formatNumber(shown)} of {formatNumber(total)} records are shown; <code>rivers logs</code> prints all.
        </p>
      )}
      {logs && (
        <div class="log" tabIndex={0} role="region" aria-label="Log">
          {logs.first.map((row, index) => (
            <Line key={index} row={row} texts={logs.texts} hasAttempts={hasAttempts} />
          ))}
          {logs.first.length > 0 && <p class="note">{formatNumber(total - shown)} records are left out here.</p>}
          {logs.last.map((row, index) => (
            <Line key={index} row={row} texts={logs.texts} hasAttempts={hasAttempts} />
          ))}
        </div>
      )}
    </section>
  );
}

function Line({ row, texts, hasAttempts }: { row: LogRow; texts: string[]; hasAttempts: boolean }) {
  const [time, level, text, logger, attempt] = row;
  const word = typeof level === "string" ? level : (LEVELS.find(([least]) => level >= least)?.[1] ?? "");
  return (
    <p class={`line l-${word}`} title={logger}>
      <time>+{formatMs(Math.max(0, time))}</time>
      <b>{word}</b>
      {hasAttempts && attempt && <i>attempt {attempt}</i>}
      <span>{texts[text] ?? "(left out: this page is full; the record has it)"}</span>
    </p>
  );
}
