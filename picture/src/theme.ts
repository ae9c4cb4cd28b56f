// Light, dark, or as the system says; the choice is kept where the browser allows it.

import { forgetColours } from "./states";

export type Theme = "auto" | "light" | "dark";

const KEY = "rivers-theme";

export function storedTheme(): Theme {
  try {
    const value = localStorage.getItem(KEY);
    return value === "light" || value === "dark" ? value : "auto";
  } catch {
    return "auto"; // a browser may refuse storage to files
  }
}

export function setTheme(theme: Theme): void {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  forgetColours();
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // It is then kept as long as the page is open.
  }
}
