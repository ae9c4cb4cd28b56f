// Updates of a page that is served while its run goes on.

import type { Model, Update } from "./model";

export type Connection = "live" | "lost" | "ended";

/** Keep the model up to date, and call `onChange` after each update; return a function that ends it. */
export function follow(address: string, model: Model, onChange: (connection: Connection) => void): () => void {
  const source = new EventSource(address);
  source.addEventListener("update", (event: MessageEvent<string>) => {
    model.update(JSON.parse(event.data) as Update);
    onChange("live");
  });
  source.addEventListener("end", () => {
    source.close();
    onChange("ended");
  });
  // The browser connects again by itself, and names the last update that it has.
  source.onerror = () => onChange("lost");
  return () => source.close();
}
