import { select } from "d3-selection";
import { zoom, zoomIdentity, type ZoomBehavior, type ZoomTransform } from "d3-zoom";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Shown } from "./app";
import { drawGraph } from "./graph_draw";
import { countsOf, graphOf, type Item } from "./graph_items";
import { HEIGHT, layOut, WIDTH } from "./graph_layout";
import type { Model, Node, Step } from "./model";
import { useIsPrinting } from "./printing";
import { useRedraw } from "./redraw";
import { ZoomButtons } from "./zoom";

const MOST_UNFOLDED = 80; // with more steps, groups are folded at first
const MOST_HEIGHT = 520;
const LEAST_SCALE = 0.02;
const READABLE = 0.62; // a graph of few items is not drawn smaller at first, even if its end is out of view
const FEW = 60;

export function GraphSection(shown: Shown) {
  const { model } = shown;
  const groups = useMemo(() => new Set(model.nodes.map((node) => node.group).filter(Boolean)), [model]);
  const [open, setOpen] = useState<Set<string> | null>(() =>
    model.nodes.length > MOST_UNFOLDED && groups.size > 1 ? new Set() : null,
  );
  if (!model.nodes.length) return null;
  return (
    <section id="graph" aria-labelledby="graph-title">
      <h2 id="graph-title">Graph</h2>
      <Canvas {...shown} groups={groups} open={open} setOpen={setOpen} />
    </section>
  );
}

interface CanvasProps {
  model: Model;
  selected: Step | null;
  showNode: (node: Node) => void;
  groups: Set<string>;
  open: Set<string> | null;
  setOpen: (open: Set<string> | null) => void;
}

function Canvas({ model, selected, showNode, groups, open, setOpen }: CanvasProps) {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const behaviour = useRef<ZoomBehavior<HTMLDivElement, unknown> | null>(null);
  const transform = useRef<ZoomTransform>(zoomIdentity);
  const [width, setWidth] = useState(0);
  const [chosen, setChosen] = useState<Item | null>(null);
  const [tip, setTip] = useState<{ x: number; y: number; item: Item } | null>(null);
  const graph = useMemo(() => graphOf(model, open), [model, model.version, open]);
  // The places depend on the plan and on what is folded, not on the states, which change all the time.
  const layout = useMemo(() => layOut(graph.items), [model, open]);
  const fitted = width ? Math.min(1, (width - 20) / layout.width, (MOST_HEIGHT - 20) / layout.height) : 1;
  const height = Math.round(Math.max(120, Math.min(MOST_HEIGHT, layout.height * Math.max(fitted, 0.5) + 20)));
  // The step whose panel is open is marked, too, until an item is chosen here.
  const opened = selected?.node ? (graph.itemOf.get(selected.node) ?? null) : null;
  const kept = chosen ? graph.items[chosen.index] : undefined;
  const current = kept && kept.label === chosen?.label ? kept : opened;

  const latest = useRef(current); // also before it is drawn: keys may come faster than frames
  latest.current = current;

  const draw = useCallback(() => {
    if (!canvas.current || !width) return;
    drawGraph(canvas.current, { graph, layout, transform: transform.current, width, height, chosen: current });
  }, [graph, layout, width, height, current]);
  const drawLatest = useRef(draw);
  drawLatest.current = draw;

  const fit = useCallback(
    (least = LEAST_SCALE) => {
      if (!behaviour.current || !width) return;
      const scale = Math.max(least, Math.min(1, (width - 20) / layout.width, (height - 20) / layout.height));
      const x = Math.max(scale > fitted ? 4 : 0, (width - layout.width * scale) / 2);
      const y = (height - layout.height * scale) / 2;
      behaviour.current.transform(select(box.current!), zoomIdentity.translate(x, y).scale(scale));
    },
    [layout, width, height, fitted],
  );

  useLayoutEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry.contentRect.width)));
    observer.observe(box.current!);
    return () => observer.disconnect();
  }, []);
  useLayoutEffect(draw, [draw]);
  useRedraw(draw);
  useEffect(() => {
    behaviour.current = zoom<HTMLDivElement, unknown>()
      .scaleExtent([LEAST_SCALE, 2.5])
      .filter((event) => (event.type === "wheel" ? event.ctrlKey || event.metaKey : !event.button))
      .on("zoom", (event) => {
        transform.current = event.transform;
        setTip(null);
        drawLatest.current();
      });
    const target = select(box.current!);
    target.call(behaviour.current).on("dblclick.zoom", null);
    return () => {
      target.on(".zoom", null);
    };
  }, []);
  const isPrinting = useIsPrinting();
  // On paper nothing can be moved into view.
  useEffect(() => fit(graph.items.length <= FEW && !isPrinting ? READABLE : LEAST_SCALE), [fit, isPrinting]);

  const activate = (item: Item) => {
    if (!item.isGroup) showNode(item.nodes[0]);
    else if (open) setOpen(new Set([...open, item.label]));
  };
  const find = (event: MouseEvent): Item | null => {
    const area = box.current!.getBoundingClientRect();
    const [x, y] = transform.current.invert([event.clientX - area.left, event.clientY - area.top]);
    const at = ({ index }: Item) => layout.places[index];
    return (
      graph.items.find((i) => x >= at(i).x && x <= at(i).x + WIDTH && y >= at(i).y && y <= at(i).y + HEIGHT) ?? null
    );
  };
  const choose = (item: Item | undefined) => {
    if (!item) return;
    latest.current = item;
    setChosen(item);
    const { x, y } = layout.places[item.index];
    const [left, top] = transform.current.apply([x, y]);
    const [right, bottom] = transform.current.apply([x + WIDTH, y + HEIGHT]);
    if (left < 0 || top < 0 || right > width || bottom > height) {
      behaviour.current?.translateTo(select(box.current!), x + WIDTH / 2, y + HEIGHT / 2);
    }
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const current = latest.current;
    const move = neighbour(event.key, current, graph.items, layout.places);
    if (move !== null) choose(move);
    else if (event.key === "Enter" && current) activate(current);
    else if (event.key === "+" || event.key === "=") behaviour.current?.scaleBy(select(box.current!), 1.4);
    else if (event.key === "-") behaviour.current?.scaleBy(select(box.current!), 1 / 1.4);
    else if (event.key === "0") fit();
    else return;
    event.preventDefault();
  };

  return (
    <>
      <div class="tools">
        {groups.size > 1 && <Folding groups={groups} open={open} setOpen={setOpen} />}
        <ZoomButtons
          of="graph"
          by={(factor) => behaviour.current?.scaleBy(select(box.current!), factor)}
          whole={() => fit()}
        />
        <p class="legend">
          <span>
            <i class="dot path" aria-hidden="true" /> critical path
          </span>
          <span>drag to move, Ctrl and wheel to zoom</span>
        </p>
      </div>
      <div class="chart">
        <div
          class="scroller grab"
          ref={box}
          style={{ height: `${height}px`, overflow: "hidden" }}
          tabIndex={0}
          role="group"
          aria-label={`Graph of ${model.nodes.length} steps. Arrow keys choose one, Enter opens it, plus and minus zoom.`}
          onKeyDown={onKeyDown}
          onMouseMove={(event) => {
            const item = event.buttons ? null : find(event);
            setTip(item && { x: event.offsetX, y: event.offsetY, item });
          }}
          onMouseLeave={() => setTip(null)}
          onClick={(event) => {
            const item = find(event);
            setChosen(item);
            if (item) activate(item);
          }}
        >
          <canvas ref={canvas} aria-hidden="true" />
        </div>
        <p class="hidden" role="status">
          {current && `${current.isGroup ? "Group " : ""}${current.label}: ${countsOf(current)}`}
        </p>
        {tip && (
          <div
            class="tip"
            style={
              (tip.x > width / 2 ? `right: ${width - tip.x + 12}px;` : `left: ${tip.x + 12}px;`) +
              (tip.y > height / 2 ? `bottom: ${height - tip.y + 12}px` : `top: ${tip.y + 12}px`)
            }
          >
            <b>{tip.item.label}</b>
            <p>{countsOf(tip.item)}</p>
            {tip.item.isGroup && <p>Click to unfold the group.</p>}
          </div>
        )}
      </div>
    </>
  );
}

function Folding({ groups, open, setOpen }: Pick<CanvasProps, "groups" | "open" | "setOpen">) {
  const isPartly = open !== null && open.size > 0;
  return (
    <>
      <div class="buttons" role="group" aria-label="Items of the graph">
        <button type="button" aria-pressed={open !== null} onClick={() => setOpen(new Set())}>
          Groups
        </button>
        <button type="button" aria-pressed={open === null} onClick={() => setOpen(null)}>
          All steps
        </button>
      </div>
      {isPartly && (
        <span class="note">
          {open.size} of {groups.size} groups unfolded
        </span>
      )}
    </>
  );
}

/** The item that an arrow key leads to: along an edge, or to the next one of the same column; null for other keys. */
function neighbour(
  key: string,
  from: Item | null,
  items: Item[],
  places: { x: number; y: number }[],
): Item | undefined | null {
  if (!key.startsWith("Arrow")) return null;
  if (!from) return items[0];
  const nearest = (indices: number[]) => {
    const distance = (index: number) => Math.abs(places[index].y - places[from.index].y);
    return items[indices.reduce((a, b) => (distance(b) < distance(a) ? b : a), indices[0])];
  };
  if (key === "ArrowRight") return nearest(from.to);
  if (key === "ArrowLeft") return nearest(from.from);
  const own = places[from.index];
  const column = items
    .filter(({ index }) => Math.abs(places[index].x - own.x) < 1)
    .sort((a, b) => places[a.index].y - places[b.index].y);
  return column[column.indexOf(from) + (key === "ArrowDown" ? 1 : -1)];
}
