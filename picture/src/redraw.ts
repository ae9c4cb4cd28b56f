// Redraw a canvas when its colours change: another theme, the system's, or printing.

import { useEffect } from "preact/hooks";
import { forgetColours } from "./states";

export function useRedraw(draw: () => void): void {
  useEffect(() => {
    const onChange = () => {
      forgetColours();
      draw();
    };
    const queries = [matchMedia("(prefers-color-scheme: dark)"), matchMedia("print")];
    for (const query of queries) query.addEventListener("change", onChange);
    addEventListener("rivers-theme", onChange);
    return () => {
      for (const query of queries) query.removeEventListener("change", onChange);
      removeEventListener("rivers-theme", onChange);
    };
  }, [draw]);
}

/** Give a canvas the size of its place on this screen, and return its context in CSS pixels. */
export function prepare(canvas: HTMLCanvasElement, width: number, height: number): CanvasRenderingContext2D {
  const ratio = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d")!;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = '12px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif';
  context.textBaseline = "middle";
  return context;
}

/** Cut a text to a width; most texts fit, and are measured once. */
export function fitText(context: CanvasRenderingContext2D, text: string, width: number): string {
  if (context.measureText(text).width <= width) return text;
  let least = 0;
  let most = text.length;
  while (least < most) {
    const middle = (least + most + 1) >> 1;
    if (context.measureText(`${text.slice(0, middle)}…`).width <= width) least = middle;
    else most = middle - 1;
  }
  return least ? `${text.slice(0, least)}…` : "";
}
