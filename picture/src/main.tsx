import { render } from "preact";
import { App } from "./app";
import { Model, type PageData } from "./model";
import { setTheme, storedTheme } from "./theme";
import "./page.css";

const data = JSON.parse(document.getElementById("data")!.textContent!) as PageData;
setTheme(storedTheme());
render(<App model={new Model(data)} live={document.body.dataset.live ?? ""} />, document.getElementById("app")!);
// Two frames later the first picture is on the screen; tests wait for this mark and read its time.
requestAnimationFrame(() =>
  requestAnimationFrame(() => {
    document.documentElement.dataset.ready = String(Math.round(performance.now()));
  }),
);
