# Sourced by the other scripts: a virtual environment with tunekit in it, made once and reused.
#
#   TUNEKIT_VENV  another folder than .venv. A torch that is installed there is kept, whatever its version.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD
VENV=${TUNEKIT_VENV:-$ROOT/.venv}
PY=$VENV/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK=1

say() { if [ -t 2 ]; then printf '\033[1m== %s\033[0m\n' "$*" >&2; else printf '== %s\n' "$*" >&2; fi; }
fail() { printf 'error: %s\nhint:  %s\n' "$1" "$2" >&2; exit 1; }

# The first Python that tunekit runs on.
find_python() {
  local name
  for name in python3 python3.13 python3.12 python3.11 python3.10 python; do
    if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  fail "no Python 3.10 or newer was found" "install one, for example: apt-get install python3 python3-venv"
}

pip_install() { "$PY" -m pip install --quiet --constraint "$1" "${@:2}"; }

# PyTorch: what is there stays; without an NVIDIA driver the CPU build, a tenth of the download.
install_torch() {
  local constraints=$1 wanted
  wanted=$(grep '^torch==' constraints.txt)
  if "$PY" -c 'import torch' 2>/dev/null; then
    # Keep it: the version that is installed takes the place of the tested one.
    sed -i.bak "s/^torch==.*/torch==$("$PY" -c 'import torch; print(torch.__version__.split("+")[0])')/" "$constraints"
    return
  fi
  if [ "$(uname -s)" = Linux ] && ! nvidia-smi >/dev/null 2>&1 && ! default_torch_is_cpu "$wanted"; then
    say "Installing PyTorch, the CPU build (no NVIDIA driver was found)"
    pip_install "$constraints" uv
    "$VENV/bin/uv" pip install --quiet --python "$PY" --torch-backend cpu "$wanted"
  else
    say "Installing PyTorch"
    pip_install "$constraints" "$wanted"
  fi
}

# Whether pip would take a CPU build by itself: one that needs no package of CUDA.
default_torch_is_cpu() {
  "$PY" -m pip install --quiet --dry-run --no-deps --report - "$1" 2>/dev/null | "$PY" -c '
import json, sys
needs = json.load(sys.stdin)["install"][0]["metadata"].get("requires_dist", [])
sys.exit(any(name.startswith(("nvidia-", "cuda-")) for name in needs))'
}

# setup EXTRAS: make the environment and install tunekit with the extras; at once where nothing changed since.
setup() {
  local extras=$1 done_file constraints
  done_file=$VENV/.tunekit-$(cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)-${extras//,/-}
  [ -e "$done_file" ] && return
  if [ ! -x "$PY" ] || ! "$PY" -m pip --version >/dev/null 2>&1; then
    say "Making the virtual environment $VENV"
    "$(find_python)" -m venv --clear "$VENV" ||
      fail "the virtual environment could not be made" "on Debian and Ubuntu: apt-get install python3-venv"
  fi
  "$PY" -m pip install --quiet --upgrade 'pip>=23'
  constraints=$(mktemp)
  trap 'rm -f "$constraints" "$constraints.bak"' RETURN
  cp constraints.txt "$constraints"
  case ",$extras," in *,train,*) install_torch "$constraints" ;; esac
  say "Installing tunekit[$extras]: some minutes the first time"
  pip_install "$constraints" --editable ".[$extras]"
  touch "$done_file"
}
