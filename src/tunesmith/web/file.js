// A page that was opened as a file: browsers load no module and no model from there.
if (location.protocol === "file:") {
  document.getElementById("loading").hidden = true;
  const fault = document.getElementById("fault");
  fault.textContent =
    "A browser loads no model from a file. In the folder of this page, type: python3 -m http.server 8000 --bind 127.0.0.1" +
    " (or: tunesmith serve .), then open http://127.0.0.1:8000/";
  fault.hidden = false;
}
