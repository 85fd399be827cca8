"""Takes webhook deliveries on a loopback port and appends them to a file.

webhook_sink.py PORT FILE

One JSON object a line: the path that was called, and its body.
"""

import http.server
import json
import sys

PORT, FILE = int(sys.argv[1]), sys.argv[2]


class Sink(http.server.BaseHTTPRequestHandler):
    def answer(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        self.answer()

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with open(FILE, "a") as file:
            file.write(json.dumps({"path": self.path, "body": body}) + "\n")
        self.answer()

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Sink).serve_forever()
