#!/bin/bash
# Compares CUDA with the CPU, then runs the demo on CUDA: tests/gpu/run.sh [more options of `neuroclips demo`]
# On a machine without a network, first collect what it lacks with tests/gpu/packages.sh and bring .whl/ along.
# Leaves $OUT/gpu-tests.tar.gz (logs, differences, the demo's metrics and times of stages) and prints tables last.
# TEST_SECONDS and DEMO_SECONDS limit the two parts; they run side by side where TOGETHER=1.
set -uo pipefail
cd "$(dirname "$0")/../.."
device=${NEUROCLIPS_GPU_TEST_DEVICE:-cuda}
python=${PYTHON:-python3}
out=${OUT:-$(mktemp -d)}
work=$(mktemp -d)
results=$work/results; mkdir -p "$results"
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1 OUT="$results"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-8} PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
began=$(date +%s)

{ nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null || echo "no nvidia-smi"; } | tee "$results/machine.txt"
if [ -f .whl/site.tar.xz ] && [ "${SITE:-}" != none ]; then
  export PYTHONPATH=$PYTHONPATH:$work/site
  "$python" -c "import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2], filter='data')" .whl/site.tar.xz "$work/site" ||
    { echo "cannot unpack .whl/site.tar.xz" >&2; exit 3; }
fi
"$python" tests/gpu/machine.py "$device" | tee -a "$results/machine.txt"
[ "${PIPESTATUS[0]}" = 0 ] || { echo "this machine cannot run the tests (above)" >&2; exit 3; }
"$python" -m neuroclips_cli --help >/dev/null || { echo "neuroclips does not start (above)" >&2; exit 3; }
echo "ready after $(($(date +%s) - began)) s"

keep() { mkdir -p "$out" && tar -C "$results" -czf "$out/gpu-tests.tar.gz" .; }
compare() {
  local start=$SECONDS
  timeout -k 5 "${TEST_SECONDS:-150}" "$python" -m pytest -m gpu tests/gpu -q -n 0 -p no:cacheprovider --durations=10 >"$results/pytest.log" 2>&1
  echo "comparison: exit code $?, $((SECONDS - start)) s" >"$results/comparison.txt"
  keep
}
demo() {
  local start=$SECONDS
  timeout -k 5 "${DEMO_SECONDS:-150}" "$python" -m neuroclips_cli demo --device "$device" --folder "$work/demo" "$@" >"$results/demo.log" 2>&1
  echo "demo: exit code $?, $((SECONDS - start)) s" >"$results/demo.txt"
}
if [ "${TOGETHER:-0}" = 1 ]; then
  compare & demo "$@"; wait
else
  compare; demo "$@"
fi

tail -n 15 "$results/demo.log"
sed -n '/ FAILURES /,$p' "$results/pytest.log" | tail -n 70 | cut -c1-240
cat "$results/gpu-tests.md" 2>/dev/null
"$python" tests/gpu/machine.py --stages "$work/demo" "$results" | tee "$results/stages.md"
tail -n 1 "$results/pytest.log"
cat "$results/comparison.txt" "$results/demo.txt"
keep && echo "kept in $out/gpu-tests.tar.gz, after $(($(date +%s) - began)) s"
rm -rf "$work"
