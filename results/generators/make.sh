#!/usr/bin/env bash
# Makes the pools under results/pools and the rows beside this file. Stop it at any moment and start it again: only what is missing is asked for.
# The corpora come from the internet, or from REGURGITATION_MIRROR and REGURGITATION_HUB. Arguments choose what to make: recorded gemma smollm2.
set -euo pipefail
cd "$(dirname "$0")/../.."
rows=results/generators/rows.jsonl
keep="--keep truncated --keep refused --keep language --keep copied" # flagged answers stay in a pool: load_pool leaves them out again
mkdir -p results/pools runs/pools

has() { [ -f "$rows" ] && grep -qF "\"generator\": \"$1\"" <(grep -F "$2" "$rows"); }

score() { # corpus, split, system, then further options
  local corpus=$1 split=$2 system=$3; shift 3
  has "recorded:$system" "\"name\": \"$corpus\"" || regurgitation generate --corpus "$corpus" --split "$split" --generator "recorded:$system" $keep \
    --out "runs/pools/$corpus.$system.jsonl" --row "$rows" "$@"
}

write() { # model, style, corpus, split, pairs, then further options
  local model=$1 style=$2 corpus=$3 split=$4 n=$5; shift 5
  local name="$corpus.$n.$model"
  [ -f "results/pools/$name.jsonl.gz" ] || regurgitation generate --generator "causal:$model" --style "$style" --corpus "$corpus" --split "$split" --n "$n" \
    --scores $keep --out "runs/pools/$name.jsonl" --pool "results/pools/$name.jsonl.gz" --row "$rows" "$@"
}

compare_styles() { # model: in which form does it answer questions better? On 200 that are in no pool
  for style in chat completion; do
    { grep -F '"split": "teacher", "n": 200' "$rows" || true; } | grep -F "causal:$1" | grep -qF "\"style\": \"$style\"" || regurgitation generate --generator "causal:$1" --style $style \
      --corpus squad --split teacher --n 200 --task qa --max-tokens 32 $keep --out "runs/pools/squad.200.$style.$1.jsonl" --row "$rows"
  done
}

language_model() { # name, style of its prompts
  write "$@" newstest-de-en test 2000
  write "$@" tatoeba-de-en train 20000
  write "$@" europarl-de-en train 5000
  write "$1" completion squad train 5000 --task qa --max-tokens 32 # a text to be continued, which suits SmolLM2 too: compare_styles
  write "$@" wmt22-de-en all 1984 --shots-from newstest-de-en
}

suites() { # model, style, sources; they have no human translation, so there is no row of scores
  local name="wmt23-de-en.$3.$1"
  [ -f "results/pools/$name.jsonl.gz" ] || regurgitation generate --generator "causal:$1" --style "$2" --corpus wmt23-de-en --split suites --n "$3" --shots-from newstest-de-en \
    --precision bfloat16 --scores $keep --out "runs/pools/$name.jsonl" --pool "results/pools/$name.jsonl.gz"
}

for what in "${@:-recorded gemma smollm2}"; do for one in $what; do case $one in
  recorded)
    for system in GPT-4 ChatGPT text-davinci-003 text-davinci-002 MS-Translator wmt-best; do score wmt22-de-en all $system; done
    for system in GPT-4 ChatGPT text-davinci-003 MS-Translator wmt-best; do score wmt22-en-de all $system; done
    for system in GPT4-5shot ONLINE-W ONLINE-B NLLB_Greedy AIRC; do score wmt23-de-en test $system; done
    for system in BERT "Logistic Regression Baseline"; do score squad test "$system" --task qa; done ;;
  gemma)
    language_model gemma-3-270m completion
    write gemma-3-270m completion wmt23-de-en test 549 --shots-from newstest-de-en --precision bfloat16 --max-tokens 256 # paragraphs
    suites gemma-3-270m completion 7000; suites gemma-3-270m completion 19305 ;;
  smollm2) language_model smollm2-135m-instruct chat; compare_styles smollm2-135m-instruct ;;
  *) echo "unknown: $one (expected recorded, gemma, smollm2)" >&2; exit 2 ;;
esac; done; done
