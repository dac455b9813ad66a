// One dialog for all that is shown in front of the page.

import { $, h } from "./dom.js";

export function openDialog(title, ...content) {
  const dialog = $("dialog");
  dialog.replaceChildren(
    h(
      "div",
      { className: "dialog-head" },
      h("h2", { id: "dialog-title" }, title),
      h(
        "button",
        { type: "button", "aria-label": "Close", onclick: () => dialog.close() },
        "Close",
      ),
    ),
    h("div", { className: "dialog-body" }, ...content),
  );
  dialog.onclick = (event) => {
    if (event.target === dialog) dialog.close(); // outside of it
  };
  dialog.showModal();
}
