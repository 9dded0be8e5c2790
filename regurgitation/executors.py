"""Jobs on the processes of this machine: each worker holds one thread and, in turn, one GPU, counts what it does, and leaves with its parent.

A plain module, no notebook: nobody wants this between two paragraphs. Tests: tests/test_studies.py."""
import multiprocessing as mp, os, signal, threading
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing.connection import wait as wait_for
from .core import release_memory

class Counter:
    "A progress bar's `update`, across processes; a negative count means stop"
    def __init__(self, value): self.value = value
    def update(self, n):
        with self.value.get_lock():
            if self.value.value < 0: raise KeyboardInterrupt
            self.value.value += n

def gpus() -> list: # as CUDA_VISIBLE_DEVICES names them
    "The GPUs that this process may use"
    import torch
    there, named = torch.cuda.device_count(), os.environ.get('CUDA_VISIBLE_DEVICES')
    return (named.split(',') if named else [str(i) for i in range(there)])[:there]

def default_workers() -> int: # a model of its own for each
    "One worker for each GPU, else one for each core"
    return len(gpus()) or os.cpu_count()

def _start(value, turn, cards, prepare, arguments):
    global _do, _counter
    import torch
    with turn.get_lock(): mine, turn.value = turn.value, turn.value + 1
    if cards: os.environ['CUDA_VISIBLE_DEVICES'] = cards[mine % len(cards)] # before CUDA starts in this process
    signal.signal(signal.SIGINT, signal.SIG_IGN) # the parent hears an interrupt and tells us through the counter
    torch.set_num_threads(1)
    _do, _counter = prepare(*arguments), Counter(value)
    threading.Thread(target=_leave_with_parent, daemon=True).start()

def _leave_with_parent():
    wait_for([mp.parent_process().sentinel])
    os._exit(1)

def _work(job):
    try: return _do(job, _counter)
    finally: release_memory() # a worker that fine-tunes would grow by gigabytes from job to job

def in_processes(phases, # lists of jobs; a phase starts when the one before is done
                 prepare, # called once in each worker: prepare(*arguments) gives do(job, bar)
                 arguments, # that can be pickled
                 workers, # processes
                 bar, # progress bar
                ):
    "Do all jobs; an error or an interrupt stops every worker at its next batch and is raised here"
    context = mp.get_context('forkserver' if 'forkserver' in mp.get_all_start_methods() else 'spawn')
    if context.get_start_method() == 'forkserver': context.set_forkserver_preload([prepare.__module__])
    count, turn = context.Value('q', 0), context.Value('q', 0)
    with ProcessPoolExecutor(workers, context, _start, (count, turn, gpus(), prepare, arguments)) as pool:
        try:
            for phase in phases: _wait([pool.submit(_work, job) for job in phase], count, bar)
        except BaseException:
            count.value = -2**62
            pool.shutdown(wait=False, cancel_futures=True)
            raise

def _wait(left, count, bar):
    while left:
        done, left = wait(left, 0.5, FIRST_COMPLETED)
        bar.update(max(0, min(count.value, bar.total or 0) - bar.n))
        for d in done: d.result()
