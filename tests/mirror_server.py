"A server on 127.0.0.1 that serves a folder, with the faults that a test plans for it"
import contextlib, http.server, threading, time, urllib.parse
from pathlib import Path

class Faults(http.server.BaseHTTPRequestHandler):
    "Answers with the next fault of `plan`, a list of names or (name, value), and with the file when the plan is empty"
    def do_GET(self):
        self.server.asked.append((time.monotonic(), self.path))
        path = self.server.root/urllib.parse.unquote(self.path.lstrip('/'))
        if not path.is_file(): return self.answer(404)
        fault, value = [*(self.server.plan.pop(0) if self.server.plan else ('none', 0)), 0][:2]
        body = path.read_bytes()
        if fault == 'status': return self.answer(value)
        if fault == 'busy': return self.answer(429, headers={'Retry-After': value})
        if fault == 'truncated': return self.answer(200, body[:len(body) // 2], {'Content-Length': len(body)})
        if fault == 'stalled':
            self.answer(200, body[:10], {'Content-Length': len(body)})
            return time.sleep(value)
        if fault == 'reset': return self.connection.close()
        if fault == 'wrong': return self.answer(200, b'<html>Please log in to the hotel network</html>')
        if fault == 'slow':
            self.answer(200, b'', {'Content-Length': len(body)})
            for i in range(0, len(body), len(body) // 8 + 1):
                time.sleep(value)
                self.wfile.write(body[i:i + len(body) // 8 + 1])
            return
        self.answer(200, body)

    def answer(self, code, body=b'', headers={}):
        self.send_response(code)
        for name, value in {'Content-Length': len(body), **headers}.items(): self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_): pass

class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    def handle_error(self, request, client_address): pass # a client that went away is what some tests want

@contextlib.contextmanager
def serving(root):
    "The server: .url, .plan (faults to come, each a tuple), .asked (time and path of each request)"
    server = Server(('127.0.0.1', 0), Faults)
    server.root, server.plan, server.asked, server.url = Path(root), [], [], f'http://127.0.0.1:{server.server_port}'
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.05}, daemon=True)
    thread.start()
    try: yield server
    finally:
        server.shutdown()
        server.server_close()
