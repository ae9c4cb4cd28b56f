// A list of which only the rows in view are in the document.

import {
  elementScroll,
  observeElementOffset,
  observeElementRect,
  Virtualizer,
  type VirtualItem,
} from "@tanstack/virtual-core";
import { useLayoutEffect, useReducer, useState } from "preact/hooks";

export interface VirtualList {
  items: VirtualItem[];
  size: number;
  show: (index: number) => void;
}

export function useVirtualList(box: { current: HTMLElement | null }, count: number, rowHeight: number): VirtualList {
  const [, redraw] = useReducer<number, void>((n) => n + 1, 0);
  const options = {
    count,
    getScrollElement: () => box.current,
    estimateSize: () => rowHeight,
    scrollToFn: elementScroll,
    observeElementRect,
    observeElementOffset,
    overscan: 12,
    onChange: () => redraw(),
  };
  const [list] = useState(() => new Virtualizer<HTMLElement, HTMLElement>(options));
  list.setOptions(options);
  useLayoutEffect(() => list._didMount(), [list]);
  useLayoutEffect(() => list._willUpdate());
  return {
    items: list.getVirtualItems(),
    size: list.getTotalSize(),
    show: (index) => list.scrollToIndex(index, { align: "auto" }),
  };
}
