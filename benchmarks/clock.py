"What a contender's process says to benchmarks/speed.py: ready, and after each round what it did in how many seconds. Standard library only."
import json, sys, time

OUT = sys.stdout  # libraries may print: only these lines start with @
sys.stdout = sys.stderr

def _say(**fields): print('@' + json.dumps(fields), file=OUT, flush=True)

class Clock:
    "Waits for its turn before each round, so that contenders take turns and never run beside one another"
    def start(self):
        _say(ready=True)
        if not sys.stdin.readline(): sys.exit('speed.py is gone')
        self.t = time.perf_counter()

    def stop(self, **done): _say(seconds=time.perf_counter() - self.t, **done)

    def final(self, **facts): _say(final=facts)
