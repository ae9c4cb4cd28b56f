import { useEffect, useState } from "preact/hooks";

/** True while the page is printed, when nothing can be scrolled or unfolded. */
export function useIsPrinting(): boolean {
  const [isPrinting, setPrinting] = useState(false);
  useEffect(() => {
    const query = matchMedia("print");
    const onChange = () => setPrinting(query.matches);
    query.addEventListener("change", onChange);
    return () => query.removeEventListener("change", onChange);
  }, []);
  return isPrinting;
}
