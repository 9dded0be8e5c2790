#!/usr/bin/env bash
# Makes the pools under results/pools and the rows beside this file. Stop it at any moment and start it again: only what is missing is asked for.
# The corpora come from the internet, or from REGURGITATION_MIRROR and REGURGITATION_HUB. Arguments choose what to make: recorded gemma smollm2.
set -euo pipefail
cd "$(dirname "$0")/../.."
rows=results/generators/rows.jsonl
keep="--keep truncated --keep refused --keep language --keep copied" # flagged answers stay in a pool: load_pool leaves them out again
mkdir -p results/pools runs/pools

has() { [ -f "$rows" ] && grep -qF "\"generator\": \"$1\"" <(grep -F "$2" "$rows"); }

write() { # name of the pool, generator, then the options
  local name=$1 generator=$2; shift 2
  [ -f "results/pools/$name.jsonl.gz" ] || regurgitation generate --generator "$generator" --scores $keep --out "runs/pools/$name.jsonl" --pool "results/pools/$name.jsonl.gz" --row "$rows" "$@"
}

score() { # corpus, split, system
  has "recorded:$3" "\"name\": \"$1\"" || regurgitation generate --corpus "$1" --split "$2" --generator "recorded:$3" $keep --out "runs/pools/$1.$3.jsonl" --row "$rows"
}

language_model() { # short name, generator, style
  for n in 1000 2000; do write "newstest-de-en.$n.$1" "$2" --corpus newstest-de-en --split test --n $n --style "$3"; done
  for n in 1000 4000 20000; do write "tatoeba-de-en.$n.$1" "$2" --corpus tatoeba-de-en --split train --n $n --style "$3"; done
  for n in 1000 5000; do write "europarl-de-en.$n.$1" "$2" --corpus europarl-de-en --split train --n $n --style "$3"; done
  for n in 1000 5000; do write "squad.$n.$1" "$2" --corpus squad --split train --n $n --task qa --shots 2 --max-tokens 32 --style "$3"; done
}

for what in "${@:-recorded gemma smollm2}"; do for one in $what; do case $one in
  recorded)
    for system in GPT-4 ChatGPT text-davinci-003 text-davinci-002 MS-Translator wmt-best; do score wmt22-de-en all $system; done
    for system in GPT-4 ChatGPT text-davinci-003 MS-Translator wmt-best; do score wmt22-en-de all $system; done ;;
  gemma) language_model gemma-3-270m causal:gemma-3-270m completion ;;
  smollm2) language_model smollm2-135m-instruct causal:smollm2-135m-instruct chat ;;
  *) echo "unknown: $one (expected recorded, gemma, smollm2)" >&2; exit 2 ;;
esac; done; done
