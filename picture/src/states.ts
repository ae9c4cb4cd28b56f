// The states of steps: their order, and a sign for each, as colour alone says nothing to some readers.

export const STATES = [
  "failed",
  "lost",
  "running",
  "starting",
  "retrying",
  "waiting",
  "skipped",
  "cancelled",
  "unchanged",
  "succeeded",
] as const;

export const SIGNS: Record<string, string> = {
  failed: "✕",
  lost: "?",
  running: "▶",
  starting: "◔",
  retrying: "↻",
  waiting: "○",
  skipped: "⤼",
  cancelled: "⊘",
  unchanged: "=",
  succeeded: "✓",
};

export const STATUS_WORDS: Record<string, [text: string, state: string]> = {
  running: ["Running", "running"],
  success: ["Succeeded", "succeeded"],
  failure: ["Failed", "failed"],
  cancelled: ["Cancelled", "cancelled"],
  lost: ["Lost", "lost"],
};

const colours = new Map<string, string>();
const probe = document.createElement("i");

/** The present value of a colour of the style sheet, for canvases. */
export function colour(name: string): string {
  let value = colours.get(name);
  if (value === undefined) {
    // The computed value of a variable is its text, that of a colour is what it comes to in this theme.
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    value = getComputedStyle(probe).color;
    probe.remove();
    colours.set(name, value);
  }
  return value;
}

export function forgetColours(): void {
  colours.clear();
}
