"""Chromium's EventSource, in a page of this machine that has nothing else in it."""

import json
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import sync_playwright
from printing import show

SCRIPT = """
async ([url, types]) => {
  const source = new EventSource(url);
  const print = (message) => show(JSON.stringify([message.type, message.data, message.lastEventId]));
  for (const type of types) source.addEventListener(type, print);
  await new Promise((ended) => {
    source.onerror = () => source.readyState === EventSource.CLOSED && ended();
  });
}
"""


def types() -> list[str]:
    """All types of messages that the vectors have: an EventSource tells no others than those it is asked for."""
    files = [json.loads(file.read_text(encoding="utf-8")) for file in Path("spec/vectors/parse").glob("*.json")]
    return sorted({message["type"] for file in files for case in file["cases"] for message in case["messages"]})


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html>")

    def log_message(self, *_: object) -> None:
        pass


def main(url: str) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-proxy-server"], chromium_sandbox=False
        )
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        page.expose_function("show", lambda text: show(*json.loads(text)))
        page.evaluate(SCRIPT, [url, types()])
        browser.close()


main(sys.argv[1])
