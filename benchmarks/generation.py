"""Answers per minute of `causal.CausalLM` beside transformers' generate, same weights and prompts: python benchmarks/generation.py

German newstest sentences with three examples in the prompt. The contenders take turns, portion by portion, in one process; a portion that is done is kept in
results/performance/generation.jsonl, so that a stopped run goes on. The corpus comes from the internet, or from REGURGITATION_MIRROR.
"""
import argparse, statistics, time
from pathlib import Path
import torch
from regurgitation.causal import CausalLM
from regurgitation.core import append_row, hardware, read_rows
from regurgitation.corpora import load_corpus
from regurgitation.tasks import prompts

OUT = Path(__file__).parents[1]/'results'/'performance'/'generation.jsonl'

def by_generate(lm, asked, batch, by_length, most):
    "What a user of transformers writes: padded on the left, stopped at the end of the line"
    lm.tokeniser.padding_side, answers = 'left', {}
    if by_length: asked = sorted(asked, key=lambda p: len(lm.encode(p)))
    for i in range(0, len(asked), batch):
        group = asked[i:i + batch]
        ids = lm.tokeniser([p['text'] for p in group], return_tensors='pt', padding=True)
        with torch.inference_mode():
            out = lm.model.generate(**ids, max_new_tokens=most, do_sample=False, stop_strings=['\n'], tokenizer=lm.tokeniser)
        for p, row in zip(group, out[:, ids['input_ids'].shape[1]:]):
            answers[p['id']] = lm.tokeniser.decode(row, skip_special_tokens=True).split('\n')[0]
    return answers

CONTENDERS = {'regurgitation': lambda lm, asked, most: {a['id']: a['text'] for a in lm.answers(asked, max_tokens=most)},
              'generate, batches of 32': lambda lm, asked, most: by_generate(lm, asked, 32, False, most),
              'generate, batches of 32 by length': lambda lm, asked, most: by_generate(lm, asked, 32, True, most)}

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', default='gemma-3-270m')
    parser.add_argument('--sentences', type=int, default=512)
    parser.add_argument('--portion', type=int, default=128)
    parser.add_argument('--max-tokens', type=int, default=128)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--out', type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pool, shots = load_corpus('newstest-de-en', split='test', n=options.sentences), load_corpus('newstest-de-en', split='dev', n=3)
    asked, lm = prompts('translation', pool, shots, 'completion', ('German', 'English')), CausalLM(options.model)
    done = {(r['model'], r['portion'], r['contender']) for r in read_rows(options.out)} if options.out.exists() else set()
    for i in range(0, len(asked), options.portion):
        part, ours = asked[i:i + options.portion], None
        for name, way in CONTENDERS.items():
            if (options.model, i, name) in done: continue
            if ours is None and name != 'regurgitation': ours = CONTENDERS['regurgitation'](lm, part, options.max_tokens) # a stopped run: not timed again
            t, cpu = time.perf_counter(), time.process_time()
            answers = way(lm, part, options.max_tokens)
            seconds, cpu = time.perf_counter() - t, time.process_time() - cpu
            if name == 'regurgitation': ours = answers
            append_row(options.out, {'part': 'generation', 'model': options.model, 'contender': name, 'portion': i, 'sentences': len(part), 'seconds': seconds, 'cpu_seconds': cpu,
                                     'answers_per_minute': 60*len(part)/seconds, 'same_as_ours': sum(answers[k] == ours[k] for k in ours)/len(ours), 'shots': 3,
                                     'threads': options.threads, 'machine': hardware(), 'run': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())})
    rows = [r for r in read_rows(options.out) if r['model'] == options.model]
    for name in CONTENDERS:
        own = [r for r in rows if r['contender'] == name]
        print(f'{name:40} {statistics.median(r["answers_per_minute"] for r in own):7.1f} answers a minute, {statistics.mean(r["same_as_ours"] for r in own):.1%} the same')

if __name__ == '__main__': main()
